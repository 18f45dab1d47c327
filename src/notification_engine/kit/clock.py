"""The engine's clock: the monotonic clock plus an offset learnt from the database server.

Inserts cannot use the server's own `$$NOW`, so their times come from here. A jump of this machine's wall clock
changes nothing: after the first `synchronise` only the monotonic clock moves the time on.
"""

import time
from datetime import UTC, datetime, timedelta


def wall_now() -> datetime:
    """This machine's time for records that nothing is ordered by, truncated to milliseconds as BSON stores them."""
    now = datetime.now(UTC)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)


class Clock:
    """Aware UTC times, truncated to milliseconds as BSON stores them."""

    def __init__(self) -> None:
        self._offset = time.time() - time.monotonic()
        self.skew_seconds = 0.0

    def now(self) -> datetime:
        return self.at(time.monotonic())

    def at(self, monotonic: float) -> datetime:
        seconds = monotonic + self._offset
        return datetime.fromtimestamp(int(seconds * 1000) / 1000, UTC)

    def synchronise(self, server_time: datetime, asked: float, answered: float) -> None:
        """Takes the server's time of a `hello` that was sent and answered at these monotonic moments (seconds)."""
        middle = (asked + answered) / 2
        self._offset = server_time.timestamp() - middle
        self.skew_seconds = (time.time() - time.monotonic()) - self._offset

    def after(self, seconds: float) -> datetime:
        return self.now() + timedelta(seconds=seconds)
