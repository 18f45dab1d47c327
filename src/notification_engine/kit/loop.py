"""A background loop: `run_once` at an interval or when woken; an error is logged and counted, and the loop goes on."""

import asyncio
from abc import ABC, abstractmethod
from datetime import UTC, datetime

from notification_engine.kit.logging import get_logger

CANCEL_AGAIN_SECONDS = 0.2

log = get_logger("delivery-daemon")


class Loop(ABC):
    """`ran` is set after every run: tests await it instead of sleeping."""

    name: str

    def __init__(self, interval_seconds: float) -> None:
        self.interval_seconds = interval_seconds
        self.last_beat: datetime | None = None
        self.errors = 0
        self._failing: type[Exception] | None = None
        self.ran = asyncio.Event()
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._finishing = False

    @abstractmethod
    async def run_once(self) -> None: ...

    async def start(self) -> None:
        if self._task is None:
            self._finishing = False
            self._task = asyncio.create_task(self._run(), name=self.name)

    async def finish(self, seconds: float) -> None:
        """Stops between two runs: one that is under way may end by itself within so many seconds."""
        self._finishing = True
        self.wake()
        if self._task is not None:
            await asyncio.wait([self._task], timeout=seconds)
        await self.stop()

    async def stop(self) -> None:
        """Cancels the loop and waits until it has ended; harmless when it never began.

        Cancels again until it has: `asyncio.wait_for` of Python 3.11, which the driver opens its connections with,
        swallows a cancel that meets a connection just made, and the loop would go on for ever.
        """
        task, self._task = self._task, None
        while task is not None and not task.done():
            task.cancel()
            await asyncio.wait([task], timeout=CANCEL_AGAIN_SECONDS)

    def wake(self) -> None:
        self._wake.set()

    async def _run(self) -> None:
        while not self._finishing:
            try:
                await self.run_once()
                self.last_beat = datetime.now(UTC)
                self._failing = None
            except Exception as error:  # noqa: BLE001 - told by `_tell`; a loop goes on
                self.errors += 1
                self._tell(error)
            self.ran.set()
            await self._pause()

    def _tell(self, error: Exception) -> None:
        """The traceback once; while the same goes on (a database away, say), a line a run."""
        if type(error) is self._failing:
            log.warning("A loop's run failed again", loop=self.name, error=type(error).__name__)
        else:
            log.exception("A loop's run failed; it runs again", loop=self.name)
        self._failing = type(error)

    async def _pause(self) -> None:
        try:
            async with asyncio.timeout(self.interval_seconds):
                await self._wake.wait()
        except TimeoutError:
            return
        finally:
            self._wake.clear()
