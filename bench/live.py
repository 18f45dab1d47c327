"""From sending a POST to its WebSocket frame, at 200 a second, against one bare durable insert."""

import time
from statistics import median, quantiles
from typing import Any

from pymongo import AsyncMongoClient, WriteConcern

from bench.frames import RATE, frames_ms
from bench.report import Figure
from bench.servers import Bed


async def measure(bed: Bed, *, quick: bool) -> list[Figure]:
    url = await bed.mongod()
    engine = await bed.engine(url, "live")
    seconds = 3 if quick else 10
    await frames_ms(engine, [engine], 1)  # warm
    floor = await _insert_ms(url)
    took = list((await frames_ms(engine, [engine], seconds)).heard[0].values())
    floor = median([floor, await _insert_ms(url)])
    reference = "one bare insert, majority and journal"
    return [
        Figure(f"POST to WebSocket frame at {RATE}/s, p50", median(took), "ms", reference, floor, aim=10, up=False),
        Figure(
            "the same, p99", quantiles(took, n=100)[98], "ms", f"POST to frame, {len(took):,} sent", aim=30, up=False
        ),
    ]


async def _insert_ms(url: str) -> float:
    took = []
    async with AsyncMongoClient[dict[str, Any]](url) as client:
        collection = client["floor"].get_collection("rows", write_concern=WriteConcern("majority", j=True))
        for _ in range(100):
            began = time.perf_counter()
            await collection.insert_one({"text": "x" * 800})
            took.append(1000 * (time.perf_counter() - began))
    return median(took)
