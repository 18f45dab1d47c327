"""Retention: once an hour what has been kept long enough goes; each minute what an erasure left behind, and the audit
log's day is closed when it is over."""

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from notification_engine.kit.logging import get_logger
from notification_engine.kit.loop import Loop

PURGE_SECONDS = 3600.0
log = get_logger("delivery-daemon")


@dataclass(frozen=True, slots=True)
class Periods:
    """In days; 0: without end."""

    notifications: int
    history: int
    provider_events: int
    suppressions: int


class Store(Protocol):
    async def notifications(self, days: int, by_type: Mapping[str, int]) -> int: ...
    async def history(self, days: int) -> int: ...
    async def provider_events(self, days: int) -> int: ...
    async def suppressions(self, days: int) -> int: ...


class Sweep(Protocol):
    async def __call__(self, *, fresh: bool) -> int: ...


class Retention(Loop):
    name = "retention"

    def __init__(
        self,
        store: Store,
        periods: Periods,
        by_type: Callable[[], Awaitable[Mapping[str, int]]],
        sweep: Sweep,
        close_day: Callable[[], Awaitable[None]],
        *,
        interval_seconds: float = 60.0,
    ) -> None:
        """`by_type`: days of single types. `sweep`: removes what erasures left behind."""
        super().__init__(interval_seconds)
        self._store = store
        self._periods = periods
        self._by_type = by_type
        self._sweep = sweep
        self._close_day = close_day
        self._purge_at = 0.0

    async def run_once(self) -> None:
        await self._close_day()
        due = time.monotonic() >= self._purge_at
        if removed := await self._sweep(fresh=not due):
            log.info("What came after its erasure was removed", count=removed)
        if due:
            await self.purge()
            self._purge_at = time.monotonic() + PURGE_SECONDS

    async def purge(self) -> dict[str, int]:
        """How many documents went, by what they were."""
        periods, by_type = self._periods, await self._by_type()
        removed = {
            "notifications": await self._store.notifications(periods.notifications, by_type),
            "history": await self._store.history(periods.history),
            "provider_events": await self._store.provider_events(periods.provider_events),
            "suppressions": await self._store.suppressions(periods.suppressions),
        }
        if any(removed.values()):
            log.info("What was kept long enough is deleted", **removed)
        return removed
