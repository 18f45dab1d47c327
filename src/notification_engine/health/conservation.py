"""Conservation: every accepted notification is in exactly one of terminal, pending, held, dead, purged.

Counting one collection against itself proves nothing. So each run looks for what must not exist, and compares the
ledger of the 202s with the ids of its minute. A breach is a figure, a log line with ids, and an unhealthy check.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Protocol

from notification_engine.health.metrics import Metrics
from notification_engine.kit.clock import Clock
from notification_engine.kit.logging import get_logger

MINUTES = 3  # each minute is compared in so many runs
SETTLED_AFTER = timedelta(seconds=90)  # the rows that follow a 202, and the janitor that writes what a crash left out
LOOKED_BACK = timedelta(minutes=5)
OVERDUE_SECONDS = 60.0

log = get_logger("health-monitoring")


class Books(Protocol):
    async def minute(self, minute: datetime) -> tuple[int, int]: ...
    async def open_without_due(self) -> list[str]: ...
    async def overdue(self, seconds: float) -> list[str]: ...
    async def ended_without_history(self, since: datetime, until: datetime) -> list[str]: ...
    async def dead(self) -> int: ...
    async def held(self) -> int: ...


class Conservation:
    def __init__(self, books: Books, metrics: Metrics, clock: Clock, *, lease_seconds: float) -> None:
        self._books = books
        self._metrics = metrics
        self._clock = clock
        self._overdue_seconds = OVERDUE_SECONDS + 2 * lease_seconds

    async def check(self) -> dict[str, Any]:
        """Counts of each kind of breach (ids stop at ten), and how many notifications hold a dead letter."""
        now = self._clock.now()
        found: dict[str, Sequence[str]] = {
            "open_without_due": await self._books.open_without_due(),
            "overdue": await self._books.overdue(self._overdue_seconds),
            "ended_without_history": await self._books.ended_without_history(now - LOOKED_BACK, now - SETTLED_AFTER),
            "missing": await self._missing(now),
        }
        for kind, ids in found.items():
            self._metrics.breached(kind, len(ids))
            if ids:
                log.error("Conservation is breached", kind=kind, ids=list(ids))
        breaches = {kind: len(ids) for kind, ids in found.items()}
        dead = await self._books.dead()
        self._metrics.dead(dead)
        self._metrics.held(held := await self._books.held())
        well = not any(breaches.values())
        return {"healthy": well, "breaches": breaches, "dead_letters": dead, "unknown_held": held}

    async def _missing(self, now: datetime) -> list[str]:
        """The minutes whose ledgers show more 202s than there are documents."""
        minutes = [now.replace(second=0, microsecond=0) - timedelta(minutes=back) for back in range(MINUTES)]
        compared = [(minute, *await self._books.minute(minute)) for minute in minutes]
        return [
            f"{minute:%Y-%m-%dT%H:%MZ}: {accepted - stored} of {accepted}"
            for minute, accepted, stored in compared
            if accepted > stored
        ]
