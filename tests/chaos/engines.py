"""Real engine processes: started on a port that stays theirs, killed, stopped, continued, asked to end.

Invariant: every process that is started here is ended here, by its process id.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson
from aiohttp import ClientError, ClientSession, ClientTimeout
from tests.canaries import canary, here, logged, watch
from tests.chaos.cluster import die_with_parent, free_port
from tests.servers.debian import program

import notification_engine

SECRET = canary("signing-key-of-the-faults")
START_SECONDS = 60
SETTINGS: dict[str, Any] = {
    "ENVIRONMENT": "development",
    "JWT_SECRET_KEY": SECRET,
    "WEBHOOK_HTTPS_ONLY": False,
    "WEBHOOK_ALLOWED_NETWORKS": ["127.0.0.0/8"],
    "DRAIN_DELAY_SECONDS": 0,
    "LEASE_SECONDS": 4,
    "SWEEP_INTERVAL_SECONDS": 0.2,
    "WEBHOOK_TIMEOUT_SECONDS": 5,
    "WEBHOOK_RETRY_DELAY_SECONDS": 0.2,
    "NOTIFICATION_RETRY_DELAY_SECONDS": 0.2,
    "EMAIL_PROVIDER": "smtp",
    "SMTP_HOST": "127.0.0.1",
    "SMTP_STARTTLS": False,
    "SMTP_FROM_EMAIL": "engine@example.org",
    "SMTP_TIMEOUT_SECONDS": 5,
}


def environment(settings: Mapping[str, Any]) -> dict[str, str]:
    """The engine that runs is the one that the suite imports."""
    inherited = {k: v for k, v in os.environ.items() if k in {"PATH", "HOME", "LANG", "TMPDIR"}}
    source = Path(notification_engine.__file__).parents[1]
    return (
        inherited
        | {"PYTHONPATH": str(source)}
        | {k: v if isinstance(v, str) else orjson.dumps(v).decode() for k, v in settings.items()}
    )


class EngineProcess:
    """One engine. `broken` names a build of `tests.chaos.broken`; `clock` a file that libfaketime reads."""

    def __init__(
        self, name: str, directory: Path, settings: Mapping[str, Any], *, broken: str | None, clock: Path | None
    ) -> None:
        self.name = name
        self.port = free_port()
        self.log = directory / f"{name}.log"
        self._settings = dict(settings)
        self._broken = broken
        self._clock = clock
        self.child: asyncio.subprocess.Process | None = None

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def alive(self) -> bool:
        return self.child is not None and self.child.returncode is None

    @property
    def pid(self) -> int:
        assert self.child is not None
        return self.child.pid

    async def start(self, *, ready: bool = True) -> None:
        module = ["tests.chaos.broken", self._broken] if self._broken else ["notification_engine.cli.main"]
        with self.log.open("ab") as log:
            self.child = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", *module, "serve", "--port", str(self.port)),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment(self._settings) | self._faked(),
                start_new_session=True,
                preexec_fn=die_with_parent,
            )
        if ready:
            await self.ready()

    async def ready(self) -> None:
        """Waits until it answers; fails at once with the end of its log when it ended instead."""
        async with ClientSession(timeout=ClientTimeout(total=5)) as session, asyncio.timeout(START_SECONDS):
            while True:
                assert self.alive, f"{self.name} ended at once: {self.log.read_text()[-2000:]}"
                try:
                    async with session.get(f"{self.address}/health") as answer:
                        if answer.status == 200:
                            return
                except (ClientError, TimeoutError):
                    pass  # not listening yet: asked again until the time is over
                await asyncio.sleep(0.05)

    async def kill(self) -> None:
        if self.alive:
            self._send(signal.SIGKILL)
        if self.child is not None:
            await self.child.wait()
        if self.log.exists():
            watch.look("log of an engine", here(), logged(self.log.read_text(errors="replace")))

    async def restart(self) -> None:
        await self.kill()
        await self.start()

    def pause(self) -> None:
        self._send(signal.SIGSTOP)

    def resume(self) -> None:
        self._send(signal.SIGCONT)

    def terminate(self) -> None:
        self._send(signal.SIGTERM)

    async def wait(self, seconds: float) -> int:
        """The exit status. Raises TimeoutError when it does not end in time."""
        assert self.child is not None
        async with asyncio.timeout(seconds):
            return await self.child.wait()

    def resident_bytes(self) -> int:
        pages = Path(f"/proc/{self.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def _send(self, number: signal.Signals) -> None:
        assert self.child is not None
        self.child.send_signal(number)

    def _faked(self) -> dict[str, str]:
        if self._clock is None:
            return {}
        program("faketime", "faketime")
        [library] = Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")  # one, of this machine's architecture
        return {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(self._clock),
            "FAKETIME_NO_CACHE": "1",
            "DONT_FAKE_MONOTONIC": "1",
        }


class Engines:
    """All engines of a world, on one database."""

    def __init__(self, directory: Path, settings: Mapping[str, Any], *, broken: str | None = None) -> None:
        self._directory = directory
        self._settings = SETTINGS | dict(settings)
        self._broken = broken
        self.all: list[EngineProcess] = []

    async def add(self, *, ready: bool = True, clock: Path | None = None, **settings: Any) -> EngineProcess:
        """Starts one more; settings by name."""
        name = f"engine-{len(self.all)}"
        engine = EngineProcess(name, self._directory, self._settings | settings, broken=self._broken, clock=clock)
        self.all.append(engine)
        await engine.start(ready=ready)
        return engine

    async def stop(self) -> None:
        await asyncio.gather(*(engine.kill() for engine in self.all))

    def __getitem__(self, index: int) -> EngineProcess:
        return self.all[index]

    def tail(self, lines: int = 40) -> str:
        """The end of every log, for a failure's message."""
        parts = [f"--- {e.name}\n" + "\n".join(e.log.read_text().splitlines()[-lines:]) for e in self.all]
        return "\n".join(parts)
