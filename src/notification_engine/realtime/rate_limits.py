"""Rate limits: every check is answered from this process's memory; what others counted arrives behind it.

Invariant: a request never waits for anything here. `tell` is called when a window took a step of its limit since the
last time; `RedisCounters` then exchanges counts, and a link that is down only means that each process counts for
itself. At most `kept` windows of a class are held: who comes from ever new addresses cannot fill the memory.
"""

import time
from collections.abc import Callable, Mapping
from hashlib import blake2b

from notification_engine.domain.rate_limit import RateClass, RateLimit, Taken, Window

KEPT = 100_000
STEPS = 100  # a process tells the others at every hundredth of a limit
FREED = 1000


class Counted(Window):
    """A window that others count in too. `name` is the same in every process, and says nothing about the subject;
    `told` is how much of `count` the others know."""

    __slots__ = ("name", "told", "waits")

    def __init__(self, limit: RateLimit, name: str) -> None:
        super().__init__(limit)
        self.name = name
        self.told = 0
        self.waits = False

    def turn(self, now: float) -> float:
        index = self.index
        passed = super().turn(now)
        if index != self.index:
            self.told = 0  # what was not told of the last window is less than a step
        return passed


class RateLimits:
    """Implements `services.ports.RateLimits`. `key` keeps who asked out of the shared store's keys."""

    def __init__(
        self,
        limits: Mapping[RateClass, RateLimit],
        *,
        key: str,
        tell: Callable[[Counted], None] | None = None,
        now: Callable[[], float] = time.time,
        kept: int = KEPT,
    ) -> None:
        self._limits = limits
        self._windows: dict[RateClass, dict[str, Counted]] = {name: {} for name in limits}
        self._key = blake2b(key.encode()).digest()
        self._tell = tell
        self._now = now
        self._kept = kept
        self.refused = dict.fromkeys(RateClass, 0)

    def take(self, name: RateClass, subject: str) -> Taken | None:
        """None: this class has no limit."""
        limit = self._limits.get(name)
        if limit is None:
            return None
        window = self._windows[name].get(subject) or self._open(name, subject, limit)
        passed = window.turn(self._now())
        taken = window.take(passed)
        if self._tell is not None and not window.waits and (window.count - window.told) * STEPS >= limit.amount:
            window.waits = True
            self._tell(window)
        if taken:
            return Taken(limit, name, window.remaining(passed), window.reset(passed))
        self.refused[name] += 1
        return Taken(limit, name, 0, window.reset(passed), window.retry_after(passed))

    def figures(self) -> Mapping[str, int]:
        windows = {f"windows_{name}": len(windows) for name, windows in self._windows.items()}
        return windows | {f"refused_{name}": count for name, count in self.refused.items()}

    def _open(self, name: RateClass, subject: str, limit: RateLimit) -> Counted:
        windows = self._windows[name]
        if len(windows) >= self._kept:
            self._free(windows, int(self._now() / limit.seconds))
        digest = blake2b(f"{name}:{subject}".encode(errors="surrogatepass"), key=self._key, digest_size=16)
        window = windows[subject] = Counted(limit, f"{name}:{digest.hexdigest()}")
        return window

    def _free(self, windows: dict[str, Counted], index: int) -> None:
        """Those that count nothing any more; else the oldest."""
        spent = [subject for subject, window in windows.items() if window.index + 1 < index]
        for subject in spent if len(spent) >= FREED else list(windows)[:FREED]:
            del windows[subject]
