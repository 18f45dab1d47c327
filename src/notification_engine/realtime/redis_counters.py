"""The counts of rate limits that several processes share, over Redis or Valkey (single, Sentinel, Cluster).

Invariant: nobody waits for it. Windows that took a step travel together in one round trip, at most every
`PAUSE_SECONDS`; the answers are what all processes counted. While the link is down each process counts for itself, from
what it knew last; a count whose answer did not come is not told again, so none is counted twice.
"""

import asyncio
import random
import time
from collections.abc import Sequence

from notification_engine.domain.rate_limit import RateLimit
from notification_engine.kit.logging import get_logger
from notification_engine.realtime.rate_limits import Counted
from notification_engine.realtime.redis_address import RedisAddress
from notification_engine.realtime.redis_link import FAULTS, Command, Link, LinkLost, lost

PAUSE_SECONDS = 0.02
LONGEST_PAUSE_SECONDS = 2.0
MAX_BATCH = 500
MAX_WAITING = 100_000

log = get_logger("realtime")


class RedisCounters:
    """`tell` is for `RateLimits`. `namespace` keeps engines that share a server apart."""

    def __init__(self, address: RedisAddress, *, namespace: str) -> None:
        self._address = address
        self._prefix = f"{namespace}:rate:"
        self._waiting: list[Counted] = []
        self._work = asyncio.Event()
        self._link: Link | None = None
        self._task: asyncio.Task[None] | None = None
        self._reason: str | None = None
        self.up = False
        self.exchanged = 0

    async def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="redis-counters")

    async def stop(self) -> None:
        task, self._task = self._task, None
        while task is not None and not task.done():  # see `Loop.stop`: a cancel can be swallowed
            task.cancel()
            await asyncio.wait([task], timeout=0.2)
        await self._close()

    def tell(self, window: Counted) -> None:
        if self.up and len(self._waiting) < MAX_WAITING:
            self._waiting.append(window)
            self._work.set()
        else:
            window.waits = False  # asks again at its next request

    async def _run(self) -> None:
        pause = PAUSE_SECONDS
        while True:
            began = time.monotonic()
            try:
                await self._exchange_all(await self._connect())
            except FAULTS as error:
                await self._lose(lost(error))
            except Exception:
                log.exception("Counting rate limits together ended by a fault of ours; it begins again")
                await self._lose(LinkLost("a fault of the engine"))
            if time.monotonic() - began > LONGEST_PAUSE_SECONDS:
                pause = PAUSE_SECONDS
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - spreads replicas, hides nothing
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)

    async def _connect(self) -> Link:
        link = self._link = Link(self._address, lambda _, __: None)
        await link.open_to_ask()
        await link.ask_by_key([self._asked(Counted(RateLimit(1, 1), "probe"))])  # may we, before anything is lost by it
        self.up, self._reason = True, None
        log.info("Rate limits are counted together", mode=self._address.kind)
        return link

    async def _exchange_all(self, link: Link) -> None:
        while True:
            await self._work.wait()
            self._work.clear()
            while self._waiting:
                batch, self._waiting = self._waiting[:MAX_BATCH], self._waiting[MAX_BATCH:]
                await self._exchange(link, batch)
            await asyncio.sleep(PAUSE_SECONDS)

    async def _exchange(self, link: Link, batch: Sequence[Counted]) -> None:
        places = [(window, window.index) for window in batch]
        asked = []
        for window in batch:
            asked.append(self._asked(window))
            window.told = window.count
        try:
            for (window, index), (together, _, before) in zip(places, await link.ask_by_key(asked), strict=True):
                self._learn(window, index, int(together), int(before or 0))
        finally:
            for window in batch:
                window.waits = False
        self.exchanged += len(places)

    def _asked(self, window: Counted) -> tuple[bytes, list[Command]]:
        key, before = self._key(window, window.index), self._key(window, window.index - 1)
        more, life = str(window.count - window.told), str(window.limit.seconds * 2)
        return key, [("INCRBY", key, more), ("EXPIRE", key, life), ("GET", before)]

    def _key(self, window: Counted, index: int) -> bytes:
        """In braces what a Cluster places a key by, so that a window and the one before it are on one node."""
        return f"{self._prefix}{{{window.name}}}:{index}".encode()

    @staticmethod
    def _learn(window: Counted, index: int, together: int, before: int) -> None:
        """What was counted here while the answer was on its way comes on top."""
        if window.index != index:
            return
        since = window.count - window.told
        window.count = max(window.count, together + since)  # a server that forgot takes nothing back
        window.told = window.count - since
        window.before = max(window.before, before)

    async def _lose(self, why: LinkLost) -> None:
        if self.up or self._reason != why.reason:
            log.warning("Each process counts rate limits alone until Redis is back", reason=why.reason)
        self._reason = why.reason
        await self._close()
        for window in self._waiting:
            window.waits = False
        self._waiting.clear()

    async def _close(self) -> None:
        link, self._link, self.up = self._link, None, False
        if link is not None:
            await link.close()
