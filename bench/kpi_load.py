"""Mixed load on a real engine, open loop: in-app to people who listen, e-mail to a mail server, webhooks to a receiver;
and all the while each health endpoint is asked. Ours are the mail server, the receiver, the sockets and the clock."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import aiohttp
import orjson
from aiohttp import web
from aiosmtpd.smtp import SMTP, Envelope
from aiosmtpd.smtp import Session as SmtpSession
from pymongo import AsyncMongoClient

from bench.messages import message
from bench.servers import API, Bed, Server, bearer, token
from bench.webhooks import until_nothing_is_due

SHARES = {"in_app": 0.6, "email": 0.2, "webhook": 0.2}
SOCKETS = 20
PROBE_SECONDS = 0.25
SETTLED_SECONDS = 60
DATABASE = "kpi"
HEALTH = {  # the guide's targets, milliseconds
    "/health": 100.0,
    f"{API}/health/status": 500.0,
    f"{API}/health/metrics": 1000.0,
    f"{API}/health/daemon": 200.0,
    f"{API}/health/channels": 300.0,
}
_SUCCESS = {"delivered", "accepted"}
_LEFT_OUT = {"suppressed", "expired", "cancelled"}


@dataclass
class Taken:
    """What was measured. `ended`, `succeeded` and `failed` are counted in the database, the rest by us."""

    rate: float
    seconds: float = 0.0
    in_app_ms: list[float] = field(default_factory=list)
    email_ms: list[float] = field(default_factory=list)
    webhook_ms: list[float] = field(default_factory=list)
    answered_ms: dict[str, list[float]] = field(default_factory=lambda: {path: [] for path in HEALTH})
    ready: list[bool] = field(default_factory=list)
    late_ms: list[float] = field(default_factory=list)  # by how much our own turns came late
    accepted: int = 0
    refused: int = 0
    ended: int = 0
    succeeded: int = 0
    failed: int = 0

    @property
    def shares(self) -> str:
        return ", ".join(f"{100 * share:.0f} % {channel}" for channel, share in SHARES.items())


class Arrivals:
    """When each was posted, and what came of it, by the text that it carries."""

    def __init__(self) -> None:
        self.posted: dict[str, float] = {}

    def note(self, key: str, took: list[float]) -> None:
        """The first arrival counts: a repetition is no delivery."""
        if (began := self.posted.pop(key, None)) is not None:
            took.append(1000 * (time.perf_counter() - began))


async def run(bed: Bed, *, seconds: float, rate: float) -> Taken:
    taken, arrivals, url = Taken(rate), Arrivals(), await bed.mongod()
    async with AsyncExitStack() as stack:
        mail, hooks = await _mail_server(stack, taken, arrivals), await _receiver(stack, taken, arrivals)
        smtp = {"SMTP_HOST": "127.0.0.1", "SMTP_PORT": str(mail), "SMTP_STARTTLS": "false"}
        engine = await bed.engine(url, DATABASE, **smtp, SMTP_FROM_EMAIL="engine@example.org")
        session = await stack.enter_async_context(aiohttp.ClientSession(engine.address, headers=bearer()))
        hook = {"url": f"http://127.0.0.1:{hooks}/hook", "notification_types": ["*"]}
        async with session.post(f"{API}/webhooks", json=hook) as answer:
            answer.raise_for_status()
        listening = [await _listener(stack, session, number, taken, arrivals) for number in range(SOCKETS)]
        await _under_load(session, engine, taken, arrivals, seconds)
        await _settled(url, taken, arrivals)
        for task in listening:
            task.cancel()
    return taken


async def _mail_server(stack: AsyncExitStack, taken: Taken, arrivals: Arrivals) -> int:
    class Handler:
        async def handle_DATA(self, server: SMTP, session: SmtpSession, envelope: Envelope) -> str:
            for line in bytes(envelope.original_content or b"").splitlines():
                if line.startswith(b"Subject: "):
                    arrivals.note(line[9:].decode(), taken.email_ms)
                    break
            return "250 2.0.0 taken"

    server = await asyncio.get_running_loop().create_server(lambda: SMTP(Handler()), "127.0.0.1", 0)
    stack.callback(server.close)
    return int(server.sockets[0].getsockname()[1])


async def _receiver(stack: AsyncExitStack, taken: Taken, arrivals: Arrivals) -> int:
    async def hook(request: web.Request) -> web.Response:
        arrivals.note(orjson.loads(await request.read())["data"]["title"], taken.webhook_ms)
        return web.Response(status=204)

    application = web.Application()
    application.router.add_post("/hook", hook)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return int(runner.addresses[0][1])


async def _listener(
    stack: AsyncExitStack, session: aiohttp.ClientSession, number: int, taken: Taken, arrivals: Arrivals
) -> "asyncio.Task[None]":
    socket = await stack.enter_async_context(
        session.ws_connect(f"{API}/ws", protocols=("bearer", token(f"user-{number:06d}")))
    )
    await socket.receive()  # hello

    async def listen() -> None:
        async for frame in socket:
            shown = orjson.loads(frame.data)
            if shown["type"] == "notification":
                arrivals.note(shown["notification"]["title"], taken.in_app_ms)
            elif shown["type"] == "ping":
                await socket.send_json({"type": "pong"})

    return asyncio.create_task(listen())


async def _under_load(
    session: aiohttp.ClientSession, engine: Server, taken: Taken, arrivals: Arrivals, seconds: float
) -> None:
    """Every POST at its moment, whatever became of those before it."""
    over = asyncio.Event()
    probes = [asyncio.create_task(_probe(engine, path, taken, over)) for path in HEALTH]
    began, count = time.perf_counter(), max(len(SHARES), round(taken.rate * seconds))
    async with asyncio.TaskGroup() as group:
        for index in range(count):
            moment = began + index / taken.rate
            await asyncio.sleep(max(0.0, moment - time.perf_counter()))
            taken.late_ms.append(1000 * (time.perf_counter() - moment))
            group.create_task(_post(session, index, taken, arrivals))
    taken.seconds = time.perf_counter() - began
    over.set()
    await asyncio.gather(*probes)


def channel_of(index: int) -> str:
    """In tens, so that each share is exact."""
    place, bound = index % 10 / 10, 0.0
    for channel, share in SHARES.items():
        bound += share
        if place < bound - 1e-9:
            return channel
    raise ValueError("the shares are not one")


async def _post(session: aiohttp.ClientSession, index: int, taken: Taken, arrivals: Arrivals) -> None:
    channel, key = channel_of(index), f"KPI {index} of {datetime.now(UTC):%H%M%S}"
    user = f"user-{index % SOCKETS:06d}"
    recipient = {"user_id": user} | ({"email": f"{user}@example.org"} if channel == "email" else {})
    body: dict[str, Any] = message(index, channel)
    body |= {"notification_type": "bench.kpi", "recipients": [recipient], "title": key}
    arrivals.posted[key] = time.perf_counter()
    async with session.post(API, json=body) as answer:
        await answer.read()
    if answer.status == 202:
        taken.accepted += 1
    else:
        taken.refused += 1
        arrivals.posted.pop(key, None)


async def _probe(engine: Server, path: str, taken: Taken, over: asyncio.Event) -> None:
    """On a connection of its own, as a probe's is."""
    async with aiohttp.ClientSession(engine.address) as session:
        while not over.is_set() or not taken.answered_ms[path]:
            began = time.perf_counter()
            async with session.get(path) as answer:
                await answer.read()
            taken.answered_ms[path].append(1000 * (time.perf_counter() - began))
            if path.endswith("/status"):
                taken.ready.append(answer.status == 200)
            await _unless(over.wait, PROBE_SECONDS)


async def _unless(wait: Callable[[], Awaitable[object]], seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await wait()
    except TimeoutError:
        return


async def _settled(url: str, taken: Taken, arrivals: Arrivals) -> None:
    """Nothing is due and all that was accepted has arrived; then what the database says of it."""
    async with AsyncMongoClient[dict[str, Any]](url) as client:
        notifications = client[DATABASE]["notifications"]
        async with asyncio.timeout(SETTLED_SECONDS):
            await until_nothing_is_due(notifications)
        await _unless(lambda: _all_arrived(arrivals), SETTLED_SECONDS)
        steps = [{"$unwind": "$deliveries"}, {"$group": {"_id": "$deliveries.status", "count": {"$sum": 1}}}]
        counted = {row["_id"]: row["count"] async for row in await notifications.aggregate(steps)}
    taken.ended = sum(count for status, count in counted.items() if status not in _LEFT_OUT)
    taken.succeeded = sum(count for status, count in counted.items() if status in _SUCCESS)
    taken.failed = counted.get("failed", 0)


async def _all_arrived(arrivals: Arrivals) -> None:
    while arrivals.posted:  # noqa: ASYNC110 - three kinds of receivers tell it
        await asyncio.sleep(0.05)
