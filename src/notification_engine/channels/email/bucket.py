"""A token bucket: how many calls a second a provider takes from this process, and a rest that it asked for."""

import time


class TokenBucket:
    """`per_second` 0: no limit. `burst` tokens may be spent at once."""

    def __init__(self, per_second: float, burst: float | None = None) -> None:
        self._rate = per_second
        self._burst = max(1.0, per_second if burst is None else burst)
        self._tokens = self._burst
        self._filled_at = time.monotonic()
        self._rests_until = 0.0

    @property
    def rests(self) -> float:
        """Seconds for which the provider still wants to be left alone."""
        return max(0.0, self._rests_until - time.monotonic())

    def take(self, patience: float) -> float:
        """Takes a token and answers how long to wait before it may be spent; when that is longer than `patience`
        seconds no token is taken, and the answer says how long it would have been."""
        now, rest = time.monotonic(), self.rests
        if not self._rate:
            return rest
        self._tokens = min(self._burst, self._tokens + (now - self._filled_at) * self._rate)
        self._filled_at = now
        wait = max(rest, (1.0 - self._tokens) / self._rate)
        if wait <= patience:
            self._tokens -= 1.0
        return max(0.0, wait)

    def rest(self, seconds: float) -> None:
        """The provider wants to be left alone for so long."""
        self._rests_until = max(self._rests_until, time.monotonic() + seconds)
