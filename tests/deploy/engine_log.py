"""A real engine of two processes that logs to a file, as production does, and what it does there to be read about."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, TCPConnector
from tests.integration.cli.conftest import SECRET, Command, Run
from tests.integration.conftest import API, message, token
from tests.servers.receiver import Receiver
from tests.servers.smtp import Mailbox


@dataclass
class Logged:
    """An engine of two processes that logs to a file, and a session of which each request may meet either."""

    command: Command
    file: Path
    session: ClientSession
    sent: list[str] = field(default_factory=list)

    async def accept(self, *users: str, **fields: Any) -> str:
        async with self.session.post(API, json=message(*users, **fields)) as answer:
            assert answer.status == 202, await answer.text()
            self.sent.append((await answer.json())["notifications"][0]["notification_id"])
        return self.sent[-1]

    async def get(self, path: str, **headers: str) -> int:
        async with self.session.get(path, headers=headers) as answer:
            return answer.status

    def lines(self, *files: Path) -> list[dict[str, Any]]:
        text = "".join(file.read_text() for file in files or (self.file,))
        assert text.endswith("\n")
        return [json.loads(line) for line in text.splitlines()]

    async def until(self, met: Callable[[list[dict[str, Any]]], bool], *files: Path) -> list[dict[str, Any]]:
        """The lines, once they are so: what is logged comes a little later than an answer."""
        async with asyncio.timeout(60):
            while not met(found := self.lines(*files)):  # noqa: ASYNC110 - it is the file that changes
                await asyncio.sleep(0.05)
        return found


@pytest.fixture
async def logged(command: Run, mongod: str, mailbox: Mailbox, tmp_path: Path) -> AsyncIterator[Logged]:
    file = tmp_path / "logs" / "notifications.log"
    file.parent.mkdir()
    engine = await command(
        *("serve", "--port", "0", "--processes", "2"),
        ENVIRONMENT="development",
        JWT_SECRET_KEY=SECRET,
        MONGODB_URL=mongod,
        MONGODB_DATABASE=f"logs_{tmp_path.name[-20:]}",
        STRUCTURED_LOGGING="true",
        LOG_FILE=str(file),
        WEBHOOK_HTTPS_ONLY="false",
        WEBHOOK_ALLOWED_NETWORKS='["127.0.0.0/8"]',
        DRAIN_DELAY_SECONDS="0",
        SMTP_HOST="127.0.0.1",
        SMTP_PORT=str(mailbox.port),
        SMTP_STARTTLS="false",
        SMTP_FROM_EMAIL="engine@house.test",
    )
    address = json.loads(await engine.until("The engine serves", 90))["metadata"]["address"]
    headers = {"Authorization": f"Bearer {token()}"}
    async with ClientSession(address, headers=headers, connector=TCPConnector(force_close=True)) as session:
        yield Logged(engine, file, session)


async def delivered(logged: Logged, receiver: Receiver) -> None:
    """In the app, by e-mail, by webhook: each once at least."""
    hook = {"url": f"{receiver.address}/a", "notification_types": ["*"]}
    async with logged.session.post(f"{API}/webhooks", json=hook) as answer:
        assert answer.status == 201
    await logged.accept("u1", recipients=[{"user_id": "u1", "email": "u1@house.test"}], channels=["in_app", "email"])
    await logged.accept("u2", recipients=[{"user_id": "u2"}], channels=["webhook"])
    await logged.until(
        lambda lines: {"email", "webhook", "in_app"} <= {line["metadata"].get("channel") for line in lines}
    )
