"""Denied access on its way to the audit trail: noted at once, written later, and never more than a bounded part.

Invariant: an attacker can neither slow requests down nor fill the database by being refused. What goes over the bound
is counted, and the count is written.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable

from notification_engine.domain.caller import Caller
from notification_engine.kit.origin import Origin, current_origin
from notification_engine.services.ports import AuditStore

PER_SECOND = 10
MAX_WAITING = 100
MAX_TARGET = 200
NOBODY = Caller("anonymous", frozenset(), 0.0)


class Denials:
    def __init__(
        self, trail: AuditStore, observe: Callable[[str], None] = lambda action: None, *, per_second: int = PER_SECOND
    ) -> None:
        self._trail = trail
        self._observe = observe
        self._per_second = per_second
        self._waiting: deque[tuple[Caller, str, str, Origin]] = deque()
        self._second, self._noted = 0, 0
        self.uncounted = 0  # since the last line that says so
        self.total = 0

    def denied(self, caller: Caller | None, action: str, target: str) -> None:
        """`caller` None: a credential that opened nothing."""
        self.total += 1
        self._observe(action)
        second = int(time.monotonic())
        if second != self._second:
            self._second, self._noted = second, 0
        if self._noted >= self._per_second or len(self._waiting) >= MAX_WAITING:
            self.uncounted += 1
            return
        self._noted += 1
        self._waiting.append((caller or NOBODY, action, target[:MAX_TARGET], current_origin()))

    async def write(self) -> None:
        """Raises Unavailable; what was not written stays for the next time."""
        rows, self._waiting = list(self._waiting), deque()
        told = (self._trail.append(caller, action, target, origin=origin) for caller, action, target, origin in rows)
        results = await asyncio.gather(*told, return_exceptions=True)
        failed = [(row, r) for row, r in zip(rows, results, strict=True) if isinstance(r, BaseException)]
        self._waiting.extendleft(row for row, _ in reversed(failed))
        if failed:
            raise failed[0][1]
        if self.uncounted:
            uncounted, self.uncounted = self.uncounted, 0
            try:
                await self._trail.append(NOBODY, "access.denied_more", str(uncounted))
            except BaseException:
                self.uncounted += uncounted
                raise
