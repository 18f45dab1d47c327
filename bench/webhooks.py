"""Webhooks end to end, accept to settled with history written, against bare aiohttp posts of the same bodies."""

import asyncio
import sys
import time
from datetime import UTC, datetime
from typing import Any

import aiohttp
import orjson
from pymongo import AsyncMongoClient
from pymongo.asynchronous.collection import AsyncCollection

from bench.load import Load, generate
from bench.messages import batches
from bench.report import Figure
from bench.rounds import Bare, in_turns
from bench.servers import API, Bed, Server, bearer

SIZE = 500
SETTLED_SECONDS = 120


async def measure(bed: Bed, *, quick: bool) -> list[Figure]:
    url = await bed.mongod()
    engine, receiver = await bed.engine(url, "webhooks"), await bed.receiver()
    await register(engine, receiver)
    count, rounds = (1000, 3) if quick else (4000, 5)
    await delivered_per_second(engine, url, "webhooks", SIZE)  # connections and caches, as in a running engine
    found = await in_turns(
        rounds,
        lambda: delivered_per_second(engine, url, "webhooks", count),
        lambda: _bare_posts_per_second(receiver, count),
    )
    return [
        Figure(
            "webhooks, accept to settled",
            found.a,
            "delivered/s",
            "bare aiohttp posts, same bodies and receiver",
            found.b,
            found.ratio,
            found.ratios,
            least=0.15,
            aim=0.25,
        )
    ]


async def register(engine: Server, receiver: Server) -> None:
    body = {"url": f"{receiver.address}/hook", "notification_types": ["*"]}
    async with (
        aiohttp.ClientSession(engine.address, headers=bearer()) as session,
        session.post(f"{API}/webhooks", json=body) as answer,
    ):
        answer.raise_for_status()


async def delivered_per_second(engine: Server, url: str, database: str, count: int) -> float:
    """From the first byte of the first batch until nothing is due and every delivery has its history row."""
    bodies = batches(SIZE, count // SIZE, "webhook")
    load = Load("127.0.0.1", engine.port, f"{API}/batch", bodies, bearer(), connections=2, requests=len(bodies))
    async with AsyncMongoClient[dict[str, Any]](url, tz_aware=True) as client:
        db, since, began = client[database], datetime.now(UTC), time.perf_counter()
        await generate(load)
        async with asyncio.timeout(SETTLED_SECONDS):
            await until_nothing_is_due(db["notifications"])
        seconds = time.perf_counter() - began
        rows = await db["notification_history"].count_documents(
            {"delivery_status": "delivered", "timestamp": {"$gte": since}}
        )
    if rows != count:
        raise RuntimeError(f"{rows} of {count} webhooks were delivered")
    return count / seconds


async def until_nothing_is_due(notifications: AsyncCollection[dict[str, Any]]) -> None:
    """Asked again and again: the state lives in the database."""
    due: Any = True
    while due:
        due = await notifications.find_one({"due_at": {"$exists": True}}, {"_id": 1}, hint="queue")
        await asyncio.sleep(0.01)


async def _bare_posts_per_second(receiver: Server, count: int) -> float:
    return (await bare_posts(receiver, count)).per_second


async def bare_posts(receiver: Server, count: int) -> Bare:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.posts", receiver.address, str(count)), stdout=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(60):
        out, _ = await process.communicate()
    return Bare(**orjson.loads(out))
