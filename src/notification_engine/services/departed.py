"""Who was erased a moment ago, so that no lane begins what it holds of them in memory.

A hint between replicas: without a bus a webhook call that waited in a lane may still be made. In memory only, and gone
after `KEPT_SECONDS`, the longest that a lane holds anything.
"""

import time
from collections.abc import Callable
from datetime import datetime

from notification_engine.kit.clock import Clock

KEPT_SECONDS = 600.0


class Departed:
    """Joins `realtime.invalidation`: what one replica tells, the others forget."""

    def __init__(self, clock: Clock) -> None:
        self.on_change: Callable[[str], None] = lambda user_id: None
        self._clock = clock
        self._gone: dict[str, tuple[float, datetime]] = {}

    def tell(self, user_id: str) -> None:
        self.forget(user_id)
        self.on_change(user_id)

    def forget(self, user_id: str) -> None:
        now = time.monotonic()
        self._gone = {u: kept for u, kept in self._gone.items() if kept[0] > now}
        self._gone[user_id] = (now + KEPT_SECONDS, self._clock.now())

    def has(self, user_id: str, accepted_at: datetime) -> bool:
        """Whether that was accepted before its user was erased; who comes back is notified again."""
        gone = self._gone.get(user_id)
        return gone is not None and accepted_at <= gone[1]
