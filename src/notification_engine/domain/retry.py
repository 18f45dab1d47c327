"""When to try again: exponential backoff with full jitter, clamped; what becomes of an unknown outcome."""

from dataclasses import dataclass

from notification_engine.domain.notification import RANK, OnUnknown, Priority

MAX_DELAY_SECONDS = 3600.0  # backoff and Retry-After end at one hour


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """`max_rounds` counts all rounds, the first included; `base_seconds` is the base of the backoff."""

    max_rounds: int
    base_seconds: float

    def delay(self, attempts: int, wish: float | None, draw: float) -> float | None:
        """Seconds until the next round after `attempts` rounds, or None when they are exhausted.

        `wish` is the receiver's Retry-After; `draw` a number in [0, 1) that spreads the backoff over its whole span.
        """
        if attempts >= self.max_rounds:
            return None
        span = min(self.base_seconds * 2.0 ** min(attempts - 1, 30), MAX_DELAY_SECONDS)
        jittered = span * draw
        return min(max(jittered, clamp_retry_after(wish)), MAX_DELAY_SECONDS)


def clamp_retry_after(wish: float | None) -> float:
    if wish is None or wish != wish or wish < 0:
        return 0.0
    return min(wish, MAX_DELAY_SECONDS)


def resends_unknown(priority: Priority, resent: bool, on_unknown: OnUnknown | None = None) -> bool:
    """The type's policy; without one: resend once for high and above, hold the rest for an operator."""
    if on_unknown is not None:
        return not resent and on_unknown is OnUnknown.RESEND
    return not resent and RANK[priority] >= RANK[Priority.HIGH]


UNKNOWN_GRACE_SECONDS = 300.0  # how long an unknown outcome waits for the provider's word before the one resend
