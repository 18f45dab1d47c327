"""Replicas: the way of a live message from one to another, what Redis and the caches cost, what a process adds."""

import asyncio
import time
from collections.abc import Iterable
from functools import partial
from statistics import median, quantiles

from bench import processes
from bench.accept import accepted_per_second
from bench.frames import RATE, frames_ms
from bench.report import Figure
from bench.rounds import in_turns
from bench.servers import Bed
from notification_engine.storage.audit import AuditLog
from notification_engine.storage.connection import Database
from notification_engine.storage.preferences import Preferences

LOOKUPS = 200_000


async def measure(bed: Bed, *, quick: bool) -> list[Figure]:
    url, redis = await bed.mongod(), await bed.valkey()
    seconds, rounds = (3.0, 3) if quick else (10.0, 5)
    with_redis = await bed.engine(url, "joined", REDIS_URL=redis)
    hearing = await bed.engine(url, "joined", REDIS_URL=redis)
    alone, alone_too = await bed.engine(url, "apart"), await bed.engine(url, "apart")
    for pair in ((with_redis, hearing), (alone, alone_too)):
        await frames_ms(pair[0], pair, 2)  # warm
    redis_took = await frames_ms(with_redis, [with_redis, hearing], seconds)
    polled_took = await frames_ms(alone, [alone, alone_too], seconds)
    here, there = redis_took.heard
    here_polled, there_polled = polled_took.heard
    hop = [there[key] - here[key] for key in here]
    after = [max(0.0, there[key] - redis_took.accepted[key]) for key in there]
    load = 1.5 if quick else 4.0
    cost = await in_turns(
        rounds, partial(accepted_per_second, with_redis, load), partial(accepted_per_second, alone, load)
    )
    frame, same = f"POST at one replica to frame at another, {RATE}/s", "to the frame at the same one"
    return [
        Figure(f"{frame}, Redis, p99", _p99(there.values()), "ms", same, _p99(here.values()), aim=50, up=False),
        Figure("from its 202 to the frame at another, Redis, p99", _p99(after), "ms", aim=50, up=False),
        Figure("POST to the frame at the same one, Redis, p50", median(here.values()), "ms", up=False),
        Figure("its way between the replicas, p50", median(hop), "ms", up=False),
        Figure("the same, p99", _p99(hop), "ms", up=False),
        Figure(
            f"{frame}, no Redis, p99",
            _p99(there_polled.values()),
            "ms",
            same,
            _p99(here_polled.values()),
            up=False,
        ),
        Figure(
            "single POST, 64 connections, with Redis",
            cost.a,
            "accepted/s",
            "the same without Redis",
            cost.b,
            cost.ratio,
            cost.ratios,
            aim=0.9,
        ),
        Figure("cached preference look-up", await _lookup_us(url), "µs", aim=20, up=False),
        *await processes.measure(bed, quick=quick),
    ]


def _p99(took: Iterable[float]) -> float:
    return quantiles(took, n=100)[98]


async def _lookup_us(url: str) -> float:
    """Of one that is kept, awaited as the engine does."""
    database = Database(url, "lookup", pool_size=1)
    try:
        preferences = Preferences(database, AuditLog(database))
        users = [f"user-{index:06d}" for index in range(1000)]
        await asyncio.gather(*(preferences.get(user) for user in users))
        began = time.perf_counter()
        for index in range(LOOKUPS):
            await preferences.get(users[index % 1000])
        return 1_000_000 * (time.perf_counter() - began) / LOOKUPS
    finally:
        await database.close()
