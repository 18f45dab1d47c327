"""The breaker loop: every second the replicas tell each other how their providers fare."""

import asyncio
from collections.abc import Sequence
from typing import Protocol

from notification_engine.kit.loop import Loop

INTERVAL_SECONDS = 1.0


class Synchronised(Protocol):
    async def synchronise(self) -> None: ...


class Breakers(Loop):
    name = "breakers"

    def __init__(self, breakers: Sequence[Synchronised]) -> None:
        super().__init__(INTERVAL_SECONDS)
        self._breakers = breakers

    async def run_once(self) -> None:
        await asyncio.gather(*(breaker.synchronise() for breaker in self._breakers))
