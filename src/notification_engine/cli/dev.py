"""What `dev` adds to the server: a webhook receiver, one welcome notification, and what a newcomer needs next."""

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from aiohttp import ClientSession, ClientWebSocketResponse, web
from standardwebhooks import Webhook, WebhookVerificationError

from notification_engine.cli.client import NOTIFICATIONS, bearer
from notification_engine.domain.caller import Role
from notification_engine.security.tokens import Tokens
from notification_engine.wiring import Engine

USER = "dev"
DESCRIPTION = "development receiver"
WELCOME_SECONDS = 10
WELCOME = {
    "notification_type": "welcome.development",
    "recipients": [{"user_id": USER, "email": "dev@example.org"}],
    "title": "Welcome to the notification engine",
    "body": "This one notification went to your inbox, by e-mail and to a webhook.",
    "channels": ["in_app", "email", "webhook"],
}
SENT = ("accepted", "delivered")


@dataclass(frozen=True, slots=True)
class Arrival:
    channel: str
    where: str
    milliseconds: float


class Receiver:
    """Verifies every call as a user's own service would, with the public `standardwebhooks` library."""

    def __init__(self, show: Callable[[str], None]) -> None:
        self._show = show
        self._arrived: dict[str, asyncio.Future[float]] = {}
        self.secret = ""

    def arrived(self, notification_id: str) -> "asyncio.Future[float]":
        """The monotonic time of the verified call about that notification."""
        return self._arrived.setdefault(notification_id, asyncio.get_running_loop().create_future())

    async def handle(self, request: web.Request) -> web.Response:
        body = await request.read()
        try:
            event = Webhook(self.secret).verify(body, dict(request.headers))
        except WebhookVerificationError as error:
            self._show(f"  webhook  REFUSED: {error}")
            return web.Response(status=401)
        data = event["data"]
        self._show(f"  webhook  {request.path} got {data['notification_id']} ({event['type']}), signature verified")
        arrived = self.arrived(data["notification_id"])
        if not arrived.done():
            arrived.set_result(time.perf_counter())
        return web.Response(status=204)


@asynccontextmanager
async def receiver(show: Callable[[str], None]) -> AsyncIterator[tuple[Receiver, str]]:
    """The running receiver and its address, on a free loopback port."""
    running = Receiver(show)
    application = web.Application()
    application.router.add_post("/hook", running.handle)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield running, f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
    finally:
        await runner.cleanup()


async def point_endpoint(api: ClientSession, engine: Engine, url: str) -> str:
    """Registers the receiver, or moves the one of an earlier start to its new port. Returns its secret."""
    for endpoint in await engine.endpoints.list():
        if endpoint.description == DESCRIPTION:
            change = {"url": url, "enabled": True}
            async with api.patch(f"{NOTIFICATIONS}/webhooks/{endpoint.id}", json=change) as answer:
                await _checked(answer)
            return endpoint.secret
    body = {"url": url, "notification_types": ["*"], "description": DESCRIPTION}
    async with api.post(f"{NOTIFICATIONS}/webhooks", json=body) as answer:
        return str((await _checked(answer))["secret"])


async def welcome(engine: Engine, address: str, show: Callable[[str], None]) -> None:
    """Runs beside the server until it is cancelled; everything goes through the public API."""
    settings = engine.settings
    token = Tokens(
        settings.jwt_secret, settings.JWT_ALGORITHM, issuer=settings.JWT_ISSUER, audience=settings.JWT_AUDIENCE
    ).issue(USER, [Role.USER, Role.SERVICE, Role.OPERATOR], settings.JWT_ACCESS_TOKEN_EXPIRE_MINUTES)
    async with receiver(show) as (hook, url), ClientSession(address, headers=bearer(token)) as api:
        with _quiet(settings.LOG_LEVEL is None):
            hook.secret = await point_endpoint(api, engine, url)
            async with api.ws_connect(f"{NOTIFICATIONS}/ws", protocols=("bearer", token)) as socket:
                arrivals = await _send_welcome(api, socket, hook, url)
        show(_report(arrivals))
        show(_next_steps(address, token, settings.JWT_ACCESS_TOKEN_EXPIRE_MINUTES))
        await asyncio.Event().wait()


@contextmanager
def _quiet(wanted: bool) -> Iterator[None]:
    """Warnings only: the welcome's own requests would stand between its lines. A level that was asked for stays."""
    root = logging.getLogger()
    level = root.level
    if wanted:
        root.setLevel(max(level, logging.WARNING))
    try:
        yield
    finally:
        root.setLevel(level)


async def _send_welcome(
    api: ClientSession, socket: ClientWebSocketResponse, hook: Receiver, url: str
) -> list[Arrival | str]:
    await socket.receive_json()  # hello
    began = time.perf_counter()
    async with api.post(NOTIFICATIONS, json=WELCOME) as answer:
        accepted = await _checked(answer)
    took = time.perf_counter() - began
    notification_id = accepted["notifications"][0]["notification_id"]
    waits = {
        "in_app": (_frame(socket, notification_id), f"inbox of {USER}, WebSocket"),
        "email": (_settled(api, notification_id, "email", began), "console, see above"),
        "webhook": (hook.arrived(notification_id), f"{url}, signature verified"),
    }
    results = await asyncio.gather(
        *(asyncio.wait_for(wait, WELCOME_SECONDS) for wait, _ in waits.values()), return_exceptions=True
    )
    arrivals: list[Arrival | str] = [Arrival("accepted", f"durably stored as {notification_id}", took * 1000)]
    for (channel, (_, where)), result in zip(waits.items(), results, strict=True):
        if isinstance(result, BaseException):
            arrivals.append(f"{channel}: did not arrive within {WELCOME_SECONDS} s ({type(result).__name__})")
        else:
            arrivals.append(Arrival(channel, where, (result - began) * 1000))
    return arrivals


async def _frame(socket: ClientWebSocketResponse, notification_id: str) -> float:
    while True:
        message = await socket.receive_json()
        if message.get("notification", {}).get("notification_id") == notification_id:
            return time.perf_counter()


async def _settled(api: ClientSession, notification_id: str, channel: str, began: float) -> float:
    """By the server's own clock: from the notification's creation to the settled attempt."""
    while True:
        async with api.get(f"{NOTIFICATIONS}/{notification_id}") as answer:
            shown = await _checked(answer)
        delivery = next(d for d in shown["deliveries"] if d["channel"] == channel)
        if delivery["status"] in SENT:
            created, settled = (datetime.fromisoformat(t) for t in (shown["created_at"], delivery["updated_at"]))
            return began + (settled - created).total_seconds()
        await asyncio.sleep(0.02)


async def _checked(answer: Any) -> dict[str, Any]:
    body: dict[str, Any] = await answer.json(content_type=None)
    if not answer.ok:
        raise RuntimeError(f"{answer.method} {answer.url.path} answered {answer.status}: {body.get('detail')}")
    return body


def _report(arrivals: list[Arrival | str]) -> str:
    lines = [
        f"  {a.channel:<9}{a.milliseconds:7.1f} ms  {a.where}" if isinstance(a, Arrival) else f"  {a}" for a in arrivals
    ]
    return "\n".join(["", "  One welcome notification, what arrived where:", *lines, ""])


def _next_steps(address: str, token: str, minutes: int) -> str:
    body = WELCOME | {
        "title": "Run 4711 passed",
        "body": "148 of 148 tests passed.",
        "notification_type": "test_execution.completed",
    }
    return "\n".join(
        [
            f"  Send one yourself (the token is good for {minutes} minutes; `make token` makes another):",
            "",
            f"curl -sS {address}{NOTIFICATIONS} \\",
            f"  -H 'Authorization: Bearer {token}' \\",
            "  -H 'Content-Type: application/json' \\",
            f"  -d '{json.dumps(body)}'",
            "",
            f"  Inbox page  {address}/",
            f"  API         {address}/docs",
            "  Stop        Ctrl-C",
            "",
        ]
    )
