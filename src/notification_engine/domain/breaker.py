"""A breaker: when a provider is no longer asked, and when it is tried again. Pure rules; the counts are the fleet's."""

from dataclasses import dataclass
from enum import StrEnum


class BreakerState(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """Opens when, within the window, at least `minimum` calls ended and `failure_percent` of them failed. After
    `open_seconds` single probes are let through: a good one closes it, a bad one opens it again."""

    window_seconds: float = 30.0
    minimum: int = 20
    failure_percent: float = 50.0
    open_seconds: float = 30.0

    def trips(self, ok: int, failed: int) -> bool:
        total = ok + failed
        return total >= self.minimum and failed * 100 >= self.failure_percent * total


@dataclass(frozen=True, slots=True)
class BreakerView:
    """A provider's breaker as the whole fleet sees it: calls within the window, and how long it stays open."""

    state: BreakerState = BreakerState.CLOSED
    ok: int = 0
    failed: int = 0
    open_seconds_left: float = 0.0
