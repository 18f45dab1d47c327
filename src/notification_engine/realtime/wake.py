"""Wake-ups of the sweepers, in this process and over the bus, spaced so that a burst is one sweep and not hundreds."""

import asyncio
from collections.abc import Callable

from notification_engine.services.ports import Bus

TOPIC = "wake"
SPACE_SECONDS = 0.05


class Spaced:
    """Calls at once, then at most once in so many seconds; the last of a burst is never lost."""

    def __init__(self, call: Callable[[], None], seconds: float = SPACE_SECONDS) -> None:
        self._call = call
        self._seconds = seconds
        self._last = float("-inf")
        self._later: asyncio.TimerHandle | None = None

    def __call__(self) -> None:
        if self._later is not None:
            return
        loop = asyncio.get_running_loop()
        wait = self._last + self._seconds - loop.time()
        if wait <= 0:
            self._now()
        else:
            self._later = loop.call_later(wait, self._now)

    def _now(self) -> None:
        self._later = None
        self._last = asyncio.get_running_loop().time()
        self._call()


class Wake:
    """`due`: something is due that this process has not leased. `sweep` brings the local sweeper's run forward."""

    def __init__(self, bus: Bus, sweep: Callable[[], None]) -> None:
        self._bus = bus
        self._sweep = Spaced(sweep)
        self._others = Spaced(lambda: bus.tell(TOPIC, b""))

    def listen(self) -> None:
        """For a process that delivers."""
        self._bus.listen(TOPIC, lambda message: self._sweep())

    def due(self) -> None:
        self._sweep()
        if self._bus.reaches_others:
            self._others()
