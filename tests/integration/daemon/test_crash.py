"""SIGKILL of a real engine process: nothing that was accepted is lost, and only what was on the wire is sent again."""

import asyncio
import os
import signal
import sys
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import ClientConnectionError, ClientSession
from tests.integration.conftest import API, SECRET, token
from tests.servers.receiver import Receiver

from notification_engine.cli.server import bind
from notification_engine.storage.connection import Database

COUNT = 5000
LEASE_SECONDS = 5
IN_FLIGHT = 20  # the lane's bound: workers times batch size


class Process:
    """`notification-engine serve` in a process of its own, on one port over all its lives."""

    def __init__(self, url: str, database: str) -> None:
        with bind("127.0.0.1", 0) as listener:
            self._port = listener.getsockname()[1]
        self.address = f"http://127.0.0.1:{self._port}"
        self._child: asyncio.subprocess.Process | None = None
        self._environment = os.environ | {
            "ENVIRONMENT": "development",
            "MONGODB_URL": url,
            "MONGODB_DATABASE": database,
            "JWT_SECRET_KEY": SECRET,
            "WEBHOOK_HTTPS_ONLY": "false",
            "WEBHOOK_ALLOWED_NETWORKS": '["127.0.0.0/8"]',
            "LEASE_SECONDS": str(LEASE_SECONDS),
            "NOTIFICATION_DAEMON_WORKERS": "2",
            "NOTIFICATION_DAEMON_BATCH_SIZE": str(IN_FLIGHT // 2),
            "SWEEP_INTERVAL_SECONDS": "0.2",
            "DRAIN_DELAY_SECONDS": "0",
            "LOG_LEVEL": "WARNING",
        }

    async def start(self) -> None:
        words = ("-m", "notification_engine.cli.main", "serve", "--port", str(self._port))
        quiet = asyncio.subprocess.DEVNULL
        self._child = await asyncio.create_subprocess_exec(
            sys.executable, *words, env=self._environment, stdout=quiet, stderr=quiet
        )
        async with asyncio.timeout(30), ClientSession() as session:
            while not await self._answers(session):
                assert self._child.returncode is None
                await asyncio.sleep(0.05)  # asked again: it lives in another process

    async def _answers(self, session: ClientSession) -> bool:
        try:
            async with session.get(f"{self.address}/health") as answer:
                return answer.status == 200
        except ClientConnectionError:
            return False

    async def end(self, with_signal: int) -> int:
        assert self._child is not None
        if self._child.returncode is None:
            self._child.send_signal(with_signal)
        async with asyncio.timeout(60):
            return await self._child.wait()


@pytest.fixture
async def database(mongod: str) -> AsyncIterator[Database]:
    """Empty: the process under test migrates it."""
    database = Database(mongod, f"test_{uuid.uuid4().hex[:12]}", pool_size=5)
    yield database
    await database.drop()
    await database.close()


@pytest.fixture
async def process(mongod: str, database: Database) -> AsyncIterator[Process]:
    process = Process(mongod, database.name)
    await process.start()
    yield process
    await process.end(signal.SIGKILL)


async def _post(process: Process, path: str, body: Any, status: int) -> Any:
    headers = {"Authorization": f"Bearer {token()}"}
    address = process.address + API + path
    async with ClientSession(headers=headers) as session, session.post(address, json=body) as answer:
        assert answer.status == status, await answer.text()
        return await answer.json()


async def _accept(process: Process, count: int) -> list[str]:
    """Both channels; the in-app copy is delivered by the insert, the webhook by the daemon."""
    ids: list[str] = []
    for start in range(0, count, 1000):
        body = {
            "notification_type": "test.message",
            "recipients": [{"user_id": f"u{i}"} for i in range(start, min(start + 1000, count))],
            "title": "Hello",
            "body": "",
            "channels": ["in_app", "webhook"],
        }
        answer = await _post(process, "", body, 202)
        ids += [n["notification_id"] for n in answer["notifications"]]
    return ids


async def _all_delivered(database: Database, count: int, seconds: float) -> None:
    async with asyncio.timeout(seconds):
        while True:
            if await database.majority("notifications").count_documents({"status": "delivered"}) == count:
                return
            await asyncio.sleep(0.1)  # asked again: the state lives in another place


@pytest.mark.timeout(240)
async def test_what_a_killed_engine_had_accepted_is_delivered_by_the_next(
    process: Process, database: Database, receiver: Receiver
) -> None:
    endpoint = await _post(process, "/webhooks", {"url": f"{receiver.address}/a", "notification_types": ["*"]}, 201)
    receiver.secrets["/a"] = endpoint["secret"]
    ids = await _accept(process, COUNT)
    kills = 0
    for reached in (COUNT // 10, COUNT // 2):
        await receiver.received(max(reached, len(receiver.calls)), seconds=90)
        assert await process.end(signal.SIGKILL) == -signal.SIGKILL
        kills += 1
        assert len(receiver.calls) < COUNT
        await process.start()
    await _all_delivered(database, COUNT, seconds=90)

    sent = Counter(call.headers["webhook-id"] for call in receiver.calls)
    told = {call.event["data"]["notification_id"] if "data" in call.event else "" for call in receiver.calls}
    again = [webhook_id for webhook_id, times in sent.items() if times > 1]
    assert len(sent) == COUNT
    assert told == set(ids)
    assert len(again) <= kills * IN_FLIGHT
    assert max(sent.values()) <= 1 + kills
    await _check_the_ledger(database)


async def _check_the_ledger(database: Database) -> None:
    """Nothing is open, leased or due; each webhook delivery has exactly one row that says delivered."""
    notifications = database.majority("notifications")
    assert await notifications.count_documents({}) == COUNT
    assert await notifications.count_documents({"due_at": {"$exists": True}}) == 0
    assert await notifications.count_documents({"lease.owner": {"$exists": True}}) == 0
    assert await notifications.count_documents({"deliveries.status": {"$ne": "delivered"}}) == 0
    rows = database.majority("notification_history").find({"channel": "webhook", "delivery_status": "delivered"})
    assert set(Counter([row["delivery_id"] async for row in rows]).values()) == {1}


@pytest.mark.timeout(240)
async def test_an_engine_told_to_end_gives_back_what_it_has_not_begun(
    process: Process, database: Database, receiver: Receiver
) -> None:
    """SIGTERM: nothing is sent twice, and the next process need not wait for a lease."""
    await _post(process, "/webhooks", {"url": f"{receiver.address}/a", "notification_types": ["*"]}, 201)
    await _accept(process, 2000)
    await receiver.received(100)
    assert await process.end(signal.SIGTERM) == 0
    assert len(receiver.calls) < 2000
    left = {"$or": [{"lease.owner": {"$exists": True}}, {"lease.abandoned": {"$gt": 0}}]}
    assert await database.majority("notifications").count_documents(left) == 0
    await process.start()
    await _all_delivered(database, 2000, seconds=90)
    assert len(receiver.calls) == len({call.headers["webhook-id"] for call in receiver.calls}) == 2000
