"""From sending a POST to its WebSocket frame, at 200 a second, against one bare durable insert."""

import asyncio
import time
from contextlib import AsyncExitStack
from statistics import median, quantiles
from typing import Any

import aiohttp
import orjson
from pymongo import AsyncMongoClient, WriteConcern

from bench.messages import message
from bench.report import Figure
from bench.servers import API, Bed, bearer, token

RATE = 200
SOCKETS = 50


async def measure(bed: Bed, *, quick: bool) -> list[Figure]:
    url = await bed.mongod()
    engine = await bed.engine(url, "live")
    seconds = 3 if quick else 10
    async with aiohttp.ClientSession(engine.address, headers=bearer()) as session:
        await _frames_ms(session, 1)  # warm
        floor = await _insert_ms(url)
        took = await _frames_ms(session, seconds)
        floor = median([floor, await _insert_ms(url)])
    reference = "one bare insert, majority and journal"
    return [
        Figure(f"POST to WebSocket frame at {RATE}/s, p50", median(took), "ms", reference, floor, aim=10, up=False),
        Figure(
            "the same, p99", quantiles(took, n=100)[98], "ms", f"POST to frame, {len(took):,} sent", aim=30, up=False
        ),
    ]


async def _frames_ms(session: aiohttp.ClientSession, seconds: float) -> list[float]:
    """Open loop: a POST is sent at its moment, whatever became of those before it."""
    sent: dict[str, float] = {}
    took: list[float] = []
    every = asyncio.Event()
    count = int(RATE * seconds)

    async def listen(socket: aiohttp.ClientWebSocketResponse) -> None:
        async for frame in socket:
            shown = orjson.loads(frame.data)
            if shown["type"] == "notification":
                took.append(1000 * (time.perf_counter() - sent[shown["notification"]["correlation_id"]]))
                if len(took) == count:
                    every.set()

    async def post(body: dict[str, Any]) -> None:
        async with session.post(API, json=body) as answer:
            answer.raise_for_status()

    async with AsyncExitStack() as stack, asyncio.TaskGroup() as group:
        listening = []
        for index in range(SOCKETS):
            protocols = ("bearer", token(f"user-{index:06d}"))
            socket = await stack.enter_async_context(session.ws_connect(f"{API}/ws", protocols=protocols))
            await socket.receive()  # hello
            listening.append(group.create_task(listen(socket)))
        began = time.perf_counter()
        for index in range(count):
            await asyncio.sleep(max(0.0, began + index / RATE - time.perf_counter()))
            key = f"live-{began}-{index}"
            body = message(index, "in_app") | {
                "recipients": [{"user_id": f"user-{index % SOCKETS:06d}"}],
                "correlation_id": key,
            }
            sent[key] = time.perf_counter()
            group.create_task(post(body))
        async with asyncio.timeout(30):
            await every.wait()
        for task in listening:
            task.cancel()
    return took


async def _insert_ms(url: str) -> float:
    took = []
    async with AsyncMongoClient[dict[str, Any]](url) as client:
        collection = client["floor"].get_collection("rows", write_concern=WriteConcern("majority", j=True))
        for _ in range(100):
            began = time.perf_counter()
            await collection.insert_one({"text": "x" * 800})
            took.append(1000 * (time.perf_counter() - began))
    return median(took)
