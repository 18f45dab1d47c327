"""An engine of the test's own, served over real HTTP, with a real webhook receiver and a real mail server."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from aiohttp import ClientSession
from aiohttp.abc import AbstractResolver
from tests.canaries import canary, here, watch, watched
from tests.servers.collector import Collector
from tests.servers.receiver import Receiver
from tests.servers.smtp import Mailbox

from notification_engine.cli.server import address, bind, http_server
from notification_engine.domain.caller import Role
from notification_engine.net.fetch import Fetcher
from notification_engine.security.tokens import Tokens
from notification_engine.settings import Settings
from notification_engine.storage.connection import Database
from notification_engine.wiring import Engine, EngineRole

API = "/api/v1/notifications"
SECRET = canary("signing-key-of-the-suite")
BODY = canary("body")
FAST: dict[str, Any] = {
    "ENVIRONMENT": "development",
    "JWT_SECRET_KEY": SECRET,
    "WEBHOOK_HTTPS_ONLY": False,
    "WEBHOOK_ALLOWED_NETWORKS": ["127.0.0.0/8"],
    "DRAIN_DELAY_SECONDS": 0,
    "SWEEP_INTERVAL_SECONDS": 0.05,
    "WEBHOOK_RETRY_DELAY_SECONDS": 0.05,
    "NOTIFICATION_RETRY_DELAY_SECONDS": 0.05,
    "EMAIL_PROVIDER": "smtp",
    "SMTP_FROM_EMAIL": "engine@example.org",
    "SMTP_STARTTLS": False,
}
SETTLED = {"accepted", "delivered", "unknown", "failed", "suppressed", "expired", "cancelled"}


def token(sub: str = "dev", *roles: Role, minutes: float = 120) -> str:
    """Longer than a whole run: modules make some of theirs while they are collected."""
    return Tokens(SECRET, "HS256").issue(sub, list(roles or (Role.USER, Role.SERVICE, Role.OPERATOR)), minutes)


def message(*users: str, **fields: Any) -> dict[str, Any]:
    """The smallest request that is accepted, with what the test adds."""
    recipients = [{"user_id": user, "email": f"{user}@example.org"} for user in users or ("u1",)]
    plain = {
        "notification_type": "test.message",
        "recipients": recipients,
        "title": "Hello",
        "body": BODY,
        "channels": ["in_app"],
    }
    return plain | fields


@dataclass
class Running:
    engine: Engine
    address: str
    session: ClientSession

    async def call(
        self, method: str, path: str, body: Any = None, *, as_: str | None = None, **headers: str
    ) -> tuple[int, Any]:
        """Status and JSON; `as_` is a token, by default one with every role but admin."""
        sent = {"Authorization": f"Bearer {as_ or token()}"} | {k.replace("_", "-"): v for k, v in headers.items()}
        async with self.session.request(method, f"{self.address}{API}{path}", json=body, headers=sent) as answer:
            return answer.status, await answer.json(content_type=None)

    async def accept(self, body: dict[str, Any]) -> str:
        """The id of the first notification."""
        status, answer = await self.call("POST", "", body)
        assert status == 202, answer
        return str(answer["notifications"][0]["notification_id"])

    async def settled(self, notification_id: str, as_: str | None = None, seconds: float = 30) -> dict[str, Any]:
        async with asyncio.timeout(seconds):
            while True:
                status, shown = await self.call("GET", f"/{notification_id}", as_=as_)
                assert status == 200, shown
                if all(d["status"] in SETTLED for d in shown["deliveries"]):
                    return dict(shown)
                await asyncio.sleep(0.02)  # asked again: the state lives in another place

    async def register(self, url: str, *types: str) -> dict[str, Any]:
        status, endpoint = await self.call("POST", "/webhooks", {"url": url, "notification_types": types or ["*"]})
        assert status == 201, endpoint
        return dict(endpoint)

    async def timeline(self, notification_id: str) -> list[dict[str, Any]]:
        status, answer = await self.call("GET", f"/{notification_id}/timeline")
        assert status == 200, answer
        return list(answer["entries"])


@asynccontextmanager
async def serving(settings: Settings, url: str, **kwargs: Any) -> AsyncIterator[Running]:
    engine = Engine(settings, url, **kwargs)
    await engine.start()
    listener = bind("127.0.0.1", 0)
    server = http_server(engine.app)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        async with ClientSession(trace_configs=[watched()]) as session:
            yield Running(engine, address(listener), session)
    finally:
        watch.look("metrics", here(), await engine.app.state.services.health.metrics_text())
        await engine.drain()
        server.should_exit = True
        await task
        await engine.stop()


Start = Callable[..., Awaitable[Running]]


@pytest.fixture
async def start(mongod: str, mailbox: Mailbox) -> AsyncIterator[Start]:
    """Starts engines, all on one database of the test's own, which is dropped after them; settings by name."""
    from contextlib import AsyncExitStack

    name = f"test_{uuid.uuid4().hex[:12]}"
    async with AsyncExitStack() as stack:

        async def begin(
            role: EngineRole = EngineRole.ALL,
            *,
            fetcher: Fetcher | None = None,
            resolver: Callable[[], AbstractResolver] | None = None,
            **changes: Any,
        ) -> Running:
            base = FAST | {"MONGODB_DATABASE": name, "SMTP_HOST": "127.0.0.1", "SMTP_PORT": mailbox.port}
            settings = Settings(**(base | changes))
            return await stack.enter_async_context(
                serving(settings, mongod, role=role, fetcher=fetcher, resolver=resolver)
            )

        yield begin
    await drop(mongod, name)


async def drop(url: str, name: str) -> None:
    """The server keeps files open for each collection and index: those of a thousand tests would be too many."""
    database = Database(url, name, pool_size=1)
    await database.drop()
    await database.close()


@pytest.fixture
async def running(start: Start) -> Running:
    return await start()


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    server = Receiver()
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def collector(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Collector]:
    """Of traces; an engine of this process sends to it at once."""
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
    server = Collector()
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def mailbox() -> AsyncIterator[Mailbox]:
    server = Mailbox()
    await server.start()
    yield server
    await server.stop()


@pytest.fixture(scope="session")
async def shared(mongod: str) -> AsyncIterator[Running]:
    """One engine for tests that leave nothing behind that another could see; e-mail goes to a mailbox nobody reads."""
    mailbox = Mailbox()
    await mailbox.start()
    mail = {"SMTP_HOST": "127.0.0.1", "SMTP_PORT": mailbox.port}
    settings = Settings(**(FAST | mail | {"MONGODB_DATABASE": f"shared_{uuid.uuid4().hex[:12]}"}))
    async with serving(settings, mongod) as running:
        yield running
    await mailbox.stop()
