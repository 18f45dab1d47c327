"""From sending a POST to its WebSocket frame: posted to one engine, heard by sockets of several."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import aiohttp
import orjson

from bench.messages import message
from bench.servers import API, Server, bearer, token

RATE = 200  # POSTs a second
SOCKETS = 50  # of as many users, at each engine


@dataclass(frozen=True)
class Frames:
    """Milliseconds from sending the POST, by message: to its 202, and to its frame at each of the engines."""

    accepted: dict[str, float]
    heard: list[dict[str, float]]


async def frames_ms(telling: Server, hearing: Sequence[Server], seconds: float) -> Frames:
    """Open loop: a POST is sent at its moment, whatever became of those before it."""
    sent: dict[str, float] = {}
    count = int(RATE * seconds)
    everywhere = asyncio.Event()
    came = Frames({}, [{} for _ in hearing])

    async def listen(socket: aiohttp.ClientWebSocketResponse, took: dict[str, float]) -> None:
        async for frame in socket:
            shown = orjson.loads(frame.data)
            key = shown["notification"]["correlation_id"] if shown["type"] == "notification" else None
            if key in sent:
                took.setdefault(key, 1000 * (time.perf_counter() - sent[key]))
                if all(len(heard) == count for heard in came.heard):
                    everywhere.set()

    async def post(session: aiohttp.ClientSession, body: dict[str, Any]) -> None:
        async with session.post(API, json=body) as answer:
            answer.raise_for_status()
        key = body["correlation_id"]
        came.accepted[key] = 1000 * (time.perf_counter() - sent[key])

    async with AsyncExitStack() as stack, asyncio.TaskGroup() as group:
        listening = []
        for server, took in zip(hearing, came.heard, strict=True):
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
            key = f"frames-{began}-{index}"
            recipients = [{"user_id": f"user-{index % SOCKETS:06d}"}]
            body = message(index, "in_app") | {"recipients": recipients, "correlation_id": key}
            sent[key] = time.perf_counter()
            group.create_task(post(posting, body))
        async with asyncio.timeout(30):
            await everywhere.wait()
        for task in listening:
            task.cancel()
    return came
