"""How much one subject may ask in one class of requests: the sliding window counter of two fixed windows.

Invariant: what a window takes is never more than its amount within any stretch as long as the window, as long as the
requests of the window before came evenly; that is the approximation which makes two numbers enough.
"""

import math
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

_NOTATION = re.compile(r"([0-9]{1,9}) ?(?:/|per) ?(?:([0-9]{1,5}) )?(second|minute|hour|day)s?", re.ASCII)
ROUNDING = 1e-6  # seconds; a whole number that floats make a little less of is still one
_SECONDS = {"second": 1, "minute": 60, "hour": 3600, "day": 86_400}


class RateClass(StrEnum):
    SEND = "send"
    READ = "read"
    WRITE = "write"
    LIVE = "live"
    MESSAGES = "messages"
    AUTH = "auth"
    PUBLIC = "public"


@dataclass(frozen=True, slots=True)
class RateLimit:
    amount: int
    seconds: int


class Taken(NamedTuple):
    """What came of asking. `reset` and `retry_after` are whole seconds: until the window ends, and until the next
    request is taken (0: now)."""

    limit: RateLimit
    name: RateClass
    remaining: int
    reset: int
    retry_after: int = 0

    @property
    def allowed(self) -> bool:
        return self.retry_after == 0


def parse_rate(text: str) -> RateLimit | None:
    """`100/second`, `6000/minute`, `10 per 5 minutes`, as the library `limits` writes them; `0`: no limit. Raises
    ValueError."""
    text = text.strip().lower()
    if text in {"", "0"}:
        return None
    found = _NOTATION.fullmatch(text)
    if found is None or int(found[1]) == 0 or int(found[2] or 1) == 0:
        raise ValueError("must be written like 100/second or 6000/minute; 0: no limit")
    return RateLimit(int(found[1]), int(found[2] or 1) * _SECONDS[found[3]])


class Window:
    """The counts of one subject. `index` numbers the fixed windows since the epoch, so that all processes agree."""

    __slots__ = ("before", "count", "index", "limit")

    def __init__(self, limit: RateLimit) -> None:
        self.limit = limit
        self.index = 0
        self.before = 0
        self.count = 0

    def turn(self, now: float) -> float:
        """Moves on to the window of `now`, and answers how much of it has passed, 0 to 1."""
        place = now / self.limit.seconds
        index = int(place)
        if index > self.index:
            self.before = self.count if index == self.index + 1 else 0
            self.count = 0
            self.index = index
        return max(0.0, min(1.0, place - self.index))  # the machine's clock may step back

    def take(self, passed: float) -> bool:
        """One more, if it fits. `passed` is the answer of `turn`."""
        if self.before * (1 - passed) + self.count >= self.limit.amount:
            return False
        self.count += 1
        return True

    def remaining(self, passed: float) -> int:
        return max(0, self.limit.amount - math.floor(self.before * (1 - passed)) - self.count)

    def reset(self, passed: float) -> int:
        return max(1, math.ceil((1 - passed) * self.limit.seconds))

    def retry_after(self, passed: float) -> int:
        """Whole seconds until `take` succeeds, when nobody else asks meanwhile; at least 1."""
        return max(1, math.floor(self._share_to_wait(passed) * self.limit.seconds + ROUNDING) + 1)

    def _share_to_wait(self, passed: float) -> float:
        amount, count = self.limit.amount, self.count
        if count < amount:  # within this window, as the one before counts less and less
            return 1 - (amount - count) / self.before - passed
        return (1 - passed) + (1 - amount / count)  # within the next, where this one is the one before
