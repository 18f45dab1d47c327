"""The ledger of what providers were handed: one receipt for each delivery that arrived whole."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Receipt:
    """`at` is of the monotonic clock, in seconds; `answered`: the sender heard of success; `told` is what it heard."""

    delivery_id: str
    notification_id: str
    channel: str
    at: float
    answered: bool
    told: str


def receipt(delivery_id: str, channel: str, told: str, *, answered: bool) -> Receipt:
    """A delivery id holds its notification's id."""
    notification_id = f"ntfy_{delivery_id.removeprefix('dlv_').partition('_')[0]}"
    return Receipt(delivery_id, notification_id, channel, time.monotonic(), answered, told)


@dataclass
class Receipts:
    """`taken` are calls that arrived whole; `refused` counts, by what was told, those refused or cut before."""

    taken: list[Receipt] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def add(self, given: Receipt) -> None:
        self.taken.append(given)
        await self.changed()

    async def refuse(self, told: str) -> None:
        self.refused[told] += 1
        await self.changed()

    async def changed(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def until(self, condition: Callable[[], bool], seconds: float) -> None:
        """Raises TimeoutError."""
        async with asyncio.timeout(seconds), self._changed:
            await self._changed.wait_for(condition)
