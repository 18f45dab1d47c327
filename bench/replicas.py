"""Replicas: the way of a live message from one to another, what Redis and the caches cost, what a process adds."""

import asyncio
import time
from collections.abc import Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from statistics import median, quantiles
from typing import Any

import aiohttp
import orjson

from bench import processes
from bench.accept import accepted_per_second
from bench.messages import message
from bench.report import Figure
from bench.rounds import in_turns
from bench.servers import API, Bed, Server, bearer, token
from notification_engine.storage.audit import AuditLog
from notification_engine.storage.connection import Database
from notification_engine.storage.preferences import Preferences

RATE = 200
SOCKETS = 50
LOOKUPS = 200_000


async def measure(bed: Bed, *, quick: bool) -> list[Figure]:
    url, redis = await bed.mongod(), await bed.valkey()
    seconds, rounds = (3.0, 3) if quick else (10.0, 5)
    with_redis = await bed.engine(url, "joined", REDIS_URL=redis)
    hearing = await bed.engine(url, "joined", REDIS_URL=redis)
    alone, alone_too = await bed.engine(url, "apart"), await bed.engine(url, "apart")
    for pair in ((with_redis, hearing), (alone, alone_too)):
        await _frames_ms(*pair, 2)  # warm
    redis_took, polled_took = (
        await _frames_ms(with_redis, hearing, seconds),
        await _frames_ms(alone, alone_too, seconds),
    )
    here, there = redis_took.here, redis_took.there
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
            _p99(polled_took.there.values()),
            "ms",
            same,
            _p99(polled_took.here.values()),
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


@dataclass(frozen=True)
class Took:
    """Milliseconds from sending the POST, by message: to its 202, to the frame at that engine and at the other."""

    accepted: dict[str, float] = field(default_factory=dict)
    here: dict[str, float] = field(default_factory=dict)
    there: dict[str, float] = field(default_factory=dict)


async def _frames_ms(telling: Server, hearing: Server, seconds: float) -> Took:
    """Open loop, as in `live`: posted to one engine, heard by sockets of both."""
    sent: dict[str, float] = {}
    count = int(RATE * seconds)
    everywhere = asyncio.Event()
    came = Took()

    async def listen(socket: aiohttp.ClientWebSocketResponse, took: dict[str, float]) -> None:
        async for frame in socket:
            shown = orjson.loads(frame.data)
            key = shown["notification"]["correlation_id"] if shown["type"] == "notification" else None
            if key in sent:
                took.setdefault(key, 1000 * (time.perf_counter() - sent[key]))
                if len(came.here) == len(came.there) == count:
                    everywhere.set()

    async def post(session: aiohttp.ClientSession, body: dict[str, Any]) -> None:
        async with session.post(API, json=body) as answer:
            answer.raise_for_status()
        key = body["correlation_id"]
        came.accepted[key] = 1000 * (time.perf_counter() - sent[key])

    async with AsyncExitStack() as stack, asyncio.TaskGroup() as group:
        listening = []
        for server, took in zip((telling, hearing), (came.here, came.there), strict=True):
            session = await stack.enter_async_context(aiohttp.ClientSession(server.address))
            for index in range(SOCKETS):
                protocols = ("bearer", token(f"user-{index:06d}"))
                socket = await stack.enter_async_context(session.ws_connect(f"{API}/ws", protocols=protocols))
                await socket.receive()  # hello
                listening.append(group.create_task(listen(socket, took)))
        posting = await stack.enter_async_context(aiohttp.ClientSession(telling.address, headers=bearer()))
        began = time.perf_counter()
        for index in range(count):
            await asyncio.sleep(max(0.0, began + index / RATE - time.perf_counter()))
            key = f"replicas-{began}-{index}"
            recipients = [{"user_id": f"user-{index % SOCKETS:06d}"}]
            body = message(index, "in_app") | {"recipients": recipients, "correlation_id": key}
            sent[key] = time.perf_counter()
            group.create_task(post(posting, body))
        async with asyncio.timeout(30):
            await everywhere.wait()
        for task in listening:
            task.cancel()
    return came


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
