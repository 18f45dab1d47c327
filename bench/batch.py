"""POST /batch, against bare PyMongo `insert_many` of the documents that it stored."""

import asyncio
import time
from typing import Any

from pymongo import AsyncMongoClient, MongoClient, WriteConcern

from bench.load import Load, generate
from bench.messages import batches
from bench.report import Figure
from bench.rounds import Bare, in_turns
from bench.servers import API, Bed, bearer
from notification_engine.storage.connection import Database
from notification_engine.storage.migrations import migrate

SIZE = 1000
CONNECTIONS = 3  # one is parsed while another is written


async def measure(bed: Bed, *, quick: bool) -> list[Figure]:
    url = await bed.mongod()
    engine = await bed.engine(url, "batch")
    await migrated(url, "bare")
    seconds, rounds = (1.5, 3) if quick else (4.0, 5)

    async def through_the_api() -> float:
        bodies = batches(SIZE, 4)
        load = Load("127.0.0.1", engine.port, f"{API}/batch", bodies, bearer(), CONNECTIONS, 0.5, seconds)
        return SIZE * (await generate(load)).per_second

    async def bare() -> float:
        return (await bare_inserts(url, seconds)).per_second

    found = await in_turns(rounds, through_the_api, bare)
    return [
        Figure(
            "POST /batch, 1,000 each",
            found.a,
            "accepted/s",
            "bare insert_many, same documents and indexes",
            found.b,
            found.ratio,
            found.ratios,
            least=0.2,
            aim=0.35,
        )
    ]


async def migrated(url: str, name: str) -> None:
    database = Database(url, name, pool_size=2)
    await migrate(database)
    await database.close()


async def _stored(url: str) -> list[dict[str, Any]]:
    """What the engine stored last."""
    async with AsyncMongoClient(url) as client:
        found: Any = client["batch"]["notifications"].find({}, sort=[("_id", -1)], limit=SIZE)
        return [document async for document in found]


async def bare_inserts(url: str, seconds: float) -> Bare:
    return await asyncio.to_thread(_insert_many, url, await _stored(url), seconds)


def _insert_many(url: str, documents: list[dict[str, Any]], seconds: float) -> Bare:
    """Documents a second, in thousands, under fresh ids; majority and journal."""
    with MongoClient[dict[str, Any]](url) as client:
        concern = WriteConcern("majority", j=True)
        collection = client["bare"].get_collection("notifications", write_concern=concern)
        count, began, cpu = 0, time.perf_counter(), time.thread_time()
        while time.perf_counter() - began < seconds:
            fresh = f"{time.time_ns():x}"
            batch = [d | {"_id": f"ntfy_{fresh:0>21}{i:05d}"} for i, d in enumerate(documents)]
            collection.insert_many(batch, ordered=False)
            count += len(batch)
        return Bare(count / (time.perf_counter() - began), 1e6 * (time.thread_time() - cpu) / count)
