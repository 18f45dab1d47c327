"""The bus over Redis or Valkey: hints between replicas, by sharded channels where the server has them.

Invariant: telling never waits and nothing depends on it. What does not fit into the queue, or meets a link that is
down, is dropped and counted; the database says it again within `LIVE_POLL_SECONDS`.
"""

import asyncio
import random
import time
from collections import deque
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from notification_engine.domain.errors import ConfigurationError
from notification_engine.kit.logging import get_logger
from notification_engine.realtime.redis_address import RedisAddress
from notification_engine.realtime.redis_link import Link, LinkLost

MAX_WAITING = 10_000
MAX_WAITING_BYTES = 16 * 1024 * 1024
MAX_BATCH = 500
START_SECONDS = 10.0  # servers that are started together
PAUSE_SECONDS = 0.05
LONGEST_PAUSE_SECONDS = 2.0

log = get_logger("realtime")
Hear = Callable[[bytes], None]


class RedisBus:
    """Implements `services.ports.Bus`. `namespace` keeps engines that share a server apart."""

    reaches_others = True

    def __init__(self, address: RedisAddress, *, namespace: str, replica: str) -> None:
        self._address = address
        self._prefix = f"{namespace}:"
        self._origin = replica.encode()
        self._topics: dict[bytes, Hear] = {}
        self._waiting: deque[tuple[bytes, bytes]] = deque()
        self._waiting_bytes = 0
        self._empty: set[bytes] = set()
        self._orders: deque[tuple[bytes, bool]] = deque()
        self._work = asyncio.Event()
        self._link: Link | None = None
        self._task: asyncio.Task[None] | None = None
        self._reason: str | None = "not started"
        self._since = datetime.now(UTC)
        self._told = self._heard = self._dropped = self._refused = self._links = 0

    async def start(self) -> None:
        """Raises ConfigurationError: what never worked is for a person to change."""
        until = time.monotonic() + START_SECONDS
        while True:
            try:
                self._up(await self._open())
                break
            except LinkLost as error:
                if error.fatal or time.monotonic() > until:
                    raise ConfigurationError(f"REDIS_URL: {error.reason}.") from None
                log.warning("Redis does not answer yet", reason=error.reason)
            await asyncio.sleep(0.5)
        self._task = asyncio.create_task(self._run(), name="redis-bus")

    async def stop(self) -> None:
        task, self._task = self._task, None
        while task is not None and not task.done():  # see `Loop.stop`: a cancel can be swallowed
            task.cancel()
            await asyncio.wait([task], timeout=0.2)
        if self._link is not None:
            await self._link.close()

    def tell(self, topic: str, message: bytes) -> None:
        channel = self._channel(topic)
        if not message:
            if channel in self._empty:
                return  # one wake-up that waits is enough
            self._empty.add(channel)
        data = self._origin + b" " + message
        full = len(self._waiting) >= MAX_WAITING or self._waiting_bytes + len(data) > MAX_WAITING_BYTES
        if self._link is None or full:
            self._dropped += 1
            self._empty.discard(channel)
            return
        self._waiting.append((channel, data))
        self._waiting_bytes += len(data)
        self._work.set()

    def listen(self, topic: str, hear: Hear) -> None:
        self._topics[self._channel(topic)] = hear
        self._order(topic, leave=False)

    def leave(self, topic: str) -> None:
        if self._topics.pop(self._channel(topic), None) is not None:
            self._order(topic, leave=True)

    def shown(self) -> Mapping[str, Any]:
        link = self._link
        state = {
            "kind": "redis",
            "status": "up" if link else "degraded",
            "reason": self._reason,
            "since": self._since,
            "mode": str(self._address.kind),
            "sharded": link.sharded if link else None,
        }
        return {**state, **self.figures()}

    def figures(self) -> Mapping[str, int]:
        return {
            "topics": len(self._topics),
            "waiting": len(self._waiting),
            "told": self._told,
            "heard": self._heard,
            "dropped": self._dropped,
            "refused": self._refused,
            "links": self._links,
        }

    def _channel(self, topic: str) -> bytes:
        return (self._prefix + topic).encode()

    def _order(self, topic: str, *, leave: bool) -> None:
        if self._link is not None:  # a new link begins with all topics
            self._orders.append((self._channel(topic), leave))
            self._work.set()

    async def _open(self) -> Link:
        link = Link(self._address, self._hear)
        await link.open(f"{self._prefix}probe:{self._origin.decode()}:")
        return link

    async def _run(self) -> None:
        pause = PAUSE_SECONDS
        while True:
            try:
                link = self._link or await self._open()
                self._up(link)
                began = time.monotonic()
                try:
                    await link.run(self._telling(link))
                finally:
                    if time.monotonic() - began > LONGEST_PAUSE_SECONDS:
                        pause = PAUSE_SECONDS
            except LinkLost as error:
                self._down(error.reason)
            except Exception:
                log.exception("The link to Redis ended by a fault of ours; it is opened again")
                self._down("a fault of the engine")
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - spreads replicas, hides nothing
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)

    def _up(self, link: Link) -> None:
        if self._link is link:
            return
        self._link, self._reason, self._since = link, None, datetime.now(UTC)
        self._links += 1
        self._orders.clear()
        self._orders.extend((channel, False) for channel in self._topics)
        self._work.set()
        log.info("Redis is connected", mode=self._address.kind, sharded=link.sharded)

    def _down(self, reason: str) -> None:
        """What waits is dropped: when the link is back, the database has said it already."""
        if self._link is not None or self._reason != reason:
            log.warning("Redis is lost; live messages go through the database until it is back", reason=reason)
            self._since = datetime.now(UTC) if self._link is not None else self._since
        self._link, self._reason = None, reason
        self._dropped += len(self._waiting)
        self._waiting.clear()
        self._waiting_bytes = 0
        self._empty.clear()

    async def _telling(self, link: Link) -> None:
        while True:
            self._work.clear()
            while self._orders:
                await self._obey(link)
            while self._waiting:
                await self._flush(link)
                if self._orders:
                    await self._obey(link)
            if not self._orders:
                await self._work.wait()

    async def _obey(self, link: Link) -> None:
        """Runs of the same kind travel together, in their order."""
        leave = self._orders[0][1]
        channels: list[bytes] = []
        while self._orders and self._orders[0][1] is leave and len(channels) < MAX_BATCH:
            channels.append(self._orders.popleft()[0])
        await link.subscribe(channels, leave=leave)

    async def _flush(self, link: Link) -> None:
        batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), MAX_BATCH))]
        self._waiting_bytes -= sum(len(data) for _, data in batch)
        self._empty.difference_update(channel for channel, _ in batch)
        try:
            await link.publish(batch)
        except BaseException:
            self._dropped += len(batch)
            raise
        self._told += len(batch)

    def _hear(self, channel: bytes, data: bytes) -> None:
        origin, _, message = data.partition(b" ")
        hear = self._topics.get(channel)
        if origin == self._origin or hear is None:
            return
        self._heard += 1
        try:
            hear(message)
        except Exception as error:  # noqa: BLE001 - whoever can write to Redis must not be able to end the link
            self._refused += 1
            log.warning("A message from Redis could not be read", error=type(error).__name__)
