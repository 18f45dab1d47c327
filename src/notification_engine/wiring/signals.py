"""What reaches the other replicas: hints, wake-ups, forgotten caches, counters of the limits."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from notification_engine.realtime.invalidation import Invalidation
from notification_engine.realtime.local_bus import LocalBus
from notification_engine.realtime.rate_limits import RateLimits
from notification_engine.realtime.wake import Wake
from notification_engine.settings import Settings
from notification_engine.wiring.roles import Process

if TYPE_CHECKING:
    from notification_engine.realtime.redis_bus import RedisBus
    from notification_engine.realtime.redis_counters import RedisCounters


@dataclass(frozen=True, slots=True)
class Signals:
    bus: "LocalBus | RedisBus"
    counters: "RedisCounters | None"
    limits: RateLimits
    wake: Wake
    invalidation: Invalidation

    async def start(self) -> None:
        await self.bus.start()
        if self.counters is not None:
            await self.counters.start()

    async def stop(self) -> None:
        if self.counters is not None:
            await self.counters.stop()
        await self.bus.stop()


def build_signals(s: Settings, process: Process, sweep: Callable[[], None]) -> Signals:
    bus = _bus(s, process)
    counters = _counters(s, process)
    tell = counters.tell if counters else None
    limits = RateLimits(s.rate_limits, key=s.field_key, tell=tell)
    return Signals(bus, counters, limits, Wake(bus, sweep), Invalidation(bus))


def _bus(s: Settings, process: Process) -> "LocalBus | RedisBus":
    address = s.redis_address
    if address is None:
        return LocalBus()
    from notification_engine.realtime.redis_bus import RedisBus  # heavy: only where Redis is configured

    return RedisBus(address, namespace=f"ne:{s.MONGODB_DATABASE}", replica=process.replica)


def _counters(s: Settings, process: Process) -> "RedisCounters | None":
    address = s.redis_address
    if address is None or not process.serves or not s.rate_limits:
        return None
    from notification_engine.realtime.redis_counters import RedisCounters

    return RedisCounters(address, namespace=f"ne:{s.MONGODB_DATABASE}")
