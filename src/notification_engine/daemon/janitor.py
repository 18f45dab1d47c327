"""The janitor: writes the history rows that a crash left out.

It walks the notifications in the order of their ids behind a watermark of its own, a minute after they were accepted,
so that the rows which follow a 202 in batches are long written; what is missing is derived from the notification.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Protocol

from notification_engine.domain.notification import Notification
from notification_engine.kit.clock import Clock
from notification_engine.kit.logging import get_logger
from notification_engine.kit.loop import Loop
from notification_engine.services.announce import settled_at_insert
from notification_engine.services.ports import HistoryStore

SETTLED_AFTER = timedelta(seconds=60)
BATCH = 1000

log = get_logger("delivery-daemon")


class Walk(Protocol):
    """The notifications in the order of acceptance, behind a stored watermark."""

    async def watermark(self) -> str: ...
    async def without_history(self, after: str, before: datetime, limit: int) -> tuple[Sequence[Notification], str]:
        """Those of the next `limit` that ended with their insert and lack a row, and the id to go on after."""
        ...

    async def advance(self, watermark: str) -> None: ...


class Janitor(Loop):
    name = "janitor"

    def __init__(self, walk: Walk, history: HistoryStore, clock: Clock, *, interval_seconds: float = 60.0) -> None:
        super().__init__(interval_seconds)
        self._walk = walk
        self._history = history
        self._clock = clock

    async def run_once(self) -> None:
        before = self._clock.now() - SETTLED_AFTER
        start = after = await self._walk.watermark()
        while True:
            found, until = await self._walk.without_history(after, before, BATCH)
            if until == after:
                break
            rows = [row for notification in found for row in settled_at_insert(notification)]
            if rows:
                await self._history.append(rows)
                log.warning("History rows were missing and are written now", count=len(rows))
            after = until
        if after != start:
            await self._walk.advance(after)
