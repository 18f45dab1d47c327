"""`serve --processes n`: one supervisor, n engine processes on one port (ADR 0012).

Invariants: the supervisor holds the port and, where the database is embedded, mongod and its directory's lock; its
children end with it, whatever ends it; a child that dies is replaced, and its counters stay.
"""

import asyncio
import ctypes
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from notification_engine.cli import server
from notification_engine.cli.child import Order
from notification_engine.domain.errors import ConfigurationError
from notification_engine.health.group import forget
from notification_engine.kit.logging import configure_logging, get_logger
from notification_engine.settings import Settings
from notification_engine.wiring import EngineRole, drain_seconds, free_leases

FAILED_STARTS = 3  # in a row, with nobody serving: then it is no accident
REFUSED = 2  # a child's exit code for a setting that a person has to change
STEADY_SECONDS = 30.0  # who lived so long begins anew with the shortest pause
FIRST_PAUSE_SECONDS = 0.2
END_SECONDS = 5.0
LONGEST_PAUSE_SECONDS = 10.0
_PR_SET_PDEATHSIG = 1

log = get_logger("supervisor")


class Ended(Exception):
    """The whole is to end, with this exit code."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


async def supervise(settings: Settings, *, host: str, port: int, role: EngineRole, processes: int) -> int:
    """Until a signal; the exit code. Raises ConfigurationError for what a person has to change before it can start."""
    if sys.platform != "linux":
        raise ConfigurationError("--processes: several processes on one port need Linux; use --processes 1.")
    configure_logging(settings.log_level, settings.LOG_FORMAT, settings.LOG_FILE)
    stop = server.on_signals(asyncio.current_task())
    with server.reserve(host, port) as reserved, tempfile.TemporaryDirectory(prefix="notification-engine-") as shared:
        async with server.database(settings) as (url, exclusive):
            if exclusive:
                await free_leases(settings, url)
            taken = reserved.getsockname()[1]
            order = Order(host, taken, role, shared, 0, processes, time.monotonic(), -1)
            children = Children(order, url, exclusive, drain_seconds(settings), stop)
            try:
                await children.start()
                if not stop.is_set():
                    log.info("The engine serves", address=server.address(reserved), role=role, processes=processes)
                return await children.keep()
            except Ended as ended:
                return ended.code
            finally:
                await children.end()


@dataclass(slots=True)
class Child:
    process: asyncio.subprocess.Process
    ready: "asyncio.Future[bool]"
    began: float = field(default_factory=time.monotonic)

    def send(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):  # it has ended, and is waited for
            self.process.send_signal(number)


class Children:
    """By slot: one task each keeps a child alive in it."""

    def __init__(self, order: Order, url: str, exclusive: bool, drain_seconds: float, stop: asyncio.Event) -> None:
        self._order = order
        self._environment = {k: v for k, v in os.environ.items() if k != "MONGODB_URL_FILE"} | {"MONGODB_URL": url}
        # With its embedded database gone there is nothing to drain into, and no other supervisor may meet it alive.
        self._last_signal = signal.SIGKILL if exclusive else signal.SIGTERM
        self._drain_seconds = drain_seconds
        self._stop = stop
        self._living: dict[int, Child] = {}
        self._serving: set[int] = set()
        self._served = [asyncio.Event() for _ in range(order.count)]
        self._failed_starts = 0
        self._codes: list[int] = []
        self._keepers: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """The first alone: it runs the migrations, and what is wrong is said once. Then the others."""
        for slots in ([0], range(1, self._order.count)):
            self._keepers += [asyncio.create_task(self._keep(slot), name=f"keeper-{slot}") for slot in slots]
            await self._unless_ended(self._until_served(slots))

    async def keep(self) -> int:
        """Until a signal and the drain of all; the exit code. Raises Ended when children only die."""
        await self._unless_ended(self._stop.wait())
        log.info("The engine drains", processes=len(self._living))
        for child in self._living.values():
            child.send(signal.SIGTERM)
        _, late = await asyncio.wait(self._keepers, timeout=self._drain_seconds)
        if late:
            log.error("Processes did not end within the drain's bound", processes=len(late))
        clean = not late and not any(self._codes)
        log.info("The engine has stopped", codes=self._codes)
        return 0 if clean else 1

    async def end(self) -> None:
        """Without waiting for what is in flight."""
        self._stop.set()
        for number in (signal.SIGQUIT, signal.SIGKILL):
            for child in self._living.values():
                child.send(number if child.ready.done() else signal.SIGKILL)
            if self._keepers:
                await asyncio.wait(self._keepers, timeout=END_SECONDS)

    async def _unless_ended(self, waiting: Coroutine[Any, Any, object]) -> None:
        """Waits; a keeper that gives up ends the wait with its error, a signal ends it too."""
        task = asyncio.create_task(waiting)
        stopped = asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait([task, stopped, *self._keepers], return_when=asyncio.FIRST_COMPLETED)
        finally:
            task.cancel()
            stopped.cancel()
        for keeper in self._keepers:
            if keeper.done() and (error := keeper.exception()) is not None:
                raise error

    async def _until_served(self, slots: Iterable[int]) -> None:
        for slot in slots:
            await self._served[slot].wait()

    async def _keep(self, slot: int) -> None:
        pause = FIRST_PAUSE_SECONDS / 2
        while not self._stop.is_set():
            child = self._living[slot] = await self._spawn(slot)
            if self._stop.is_set():
                child.send(signal.SIGTERM)
            lived, code = await self._life(slot, child)
            if self._stop.is_set():
                # Killed by our own signal while it started: it held nothing yet.
                self._codes.append(0 if not lived and code == -signal.SIGTERM else code)
                return
            steady = time.monotonic() - child.began > STEADY_SECONDS
            pause = FIRST_PAUSE_SECONDS if steady else min(pause * 2, LONGEST_PAUSE_SECONDS)
            log.error("A process died", process=slot, pid=child.process.pid, code=code, restart_seconds=pause)
            self._give_up_when_hopeless(code)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), pause)

    async def _life(self, slot: int, child: Child) -> tuple[bool, int]:
        """Whether it ever served, and its exit code."""
        lived = await child.ready
        if lived:
            self._serving.add(slot)
            self._served[slot].set()
            self._failed_starts = 0
        else:
            self._failed_starts += 1
        code = await child.process.wait()
        self._serving.discard(slot)
        del self._living[slot]
        forget(Path(self._order.directory), slot)
        return lived, code

    def _give_up_when_hopeless(self, code: int) -> None:
        if self._serving or not self._failed_starts:
            return
        if code == REFUSED and len(self._keepers) == 1:
            raise Ended(REFUSED)  # the first start of all: the child has said what is wrong
        if self._failed_starts >= FAILED_STARTS:
            log.error("Processes die at their start and none serves; the engine ends", tries=self._failed_starts)
            raise Ended(1)

    async def _spawn(self, slot: int) -> Child:
        reading, writing = os.pipe()
        try:
            order = replace(self._order, slot=slot, ready_fd=writing)
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "notification_engine.cli.main", "child", order.text()),
                env=self._environment,
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=[writing],
                start_new_session=True,  # Ctrl-C reaches the supervisor alone
                preexec_fn=_end_with_parent(self._last_signal),
            )
        finally:
            os.close(writing)
        return Child(process, _byte_comes(reading))


def _byte_comes(reading: int) -> "asyncio.Future[bool]":
    """True with the first byte; False when the pipe's other end closes before."""
    loop = asyncio.get_running_loop()
    comes: asyncio.Future[bool] = loop.create_future()

    def readable() -> None:
        loop.remove_reader(reading)
        comes.set_result(bool(os.read(reading, 1)))
        os.close(reading)

    loop.add_reader(reading, readable)
    return comes


def _end_with_parent(number: signal.Signals) -> Callable[[], None]:
    """For `preexec_fn`: the kernel sends this signal when the parent dies, also by SIGKILL."""
    parent = os.getpid()

    def tell_kernel() -> None:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number)
        if os.getppid() != parent:  # it died before the kernel knew
            os._exit(1)

    return tell_kernel
