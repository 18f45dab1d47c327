"""SIGTERM: readiness first, then sockets, then what is in flight, then the listener, and exit code 0."""

import asyncio
import signal
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
from aiohttp import ClientConnectionError, ClientSession, ClientWebSocketResponse, WSMsgType
from tests.integration.cli.conftest import SECRET, Command, Run
from tests.integration.conftest import API, message, token
from tests.servers.receiver import Answer, Receiver

from notification_engine.storage.connection import Database


@dataclass
class Served:
    command: Command
    api: ClientSession
    database: Database

    async def ready(self) -> int:
        async with self.api.get(f"{API}/health/status") as answer:
            return answer.status

    async def until_not_ready(self) -> None:
        async with asyncio.timeout(10):
            while await self.ready() == 200:  # noqa: ASYNC110 - it is another process's
                await asyncio.sleep(0.02)

    async def accept(self, **fields: object) -> str:
        async with self.api.post(API, json=message("u1", **fields)) as answer:
            assert answer.status == 202
            return str((await answer.json())["notifications"][0]["notification_id"])

    async def stored(self, notification_id: str) -> dict[str, object]:
        found = await self.database.collection("notifications").find_one({"_id": notification_id})
        assert found is not None
        return found


@pytest.fixture
async def served(command: Run, mongod: str, request: pytest.FixtureRequest) -> AsyncIterator[Served]:
    """`serve` as in production; its drain delay is the test's parameter."""
    name = f"drain_{uuid.uuid4().hex[:12]}"
    environment = {
        "MONGODB_URL": mongod,
        "MONGODB_DATABASE": name,
        "JWT_SECRET_KEY": SECRET,
        "WEBHOOK_HTTPS_ONLY": "false",
        "WEBHOOK_ALLOWED_NETWORKS": '["127.0.0.0/8"]',
        "WEBHOOK_ALLOWED_PORTS": "[]",
        "DRAIN_DELAY_SECONDS": request.param,
        "LOG_FORMAT": "console",
    }
    running = await command("serve", "--port", "0", **environment)
    line = await running.until("The engine serves")
    address = line.partition("address=")[2].split()[0]
    database = Database(mongod, name, pool_size=2)
    async with ClientSession(address, headers={"Authorization": f"Bearer {token()}"}) as session:
        yield Served(running, session, database)
    await database.drop()
    await database.close()


async def closed(socket: ClientWebSocketResponse) -> int | None:
    async with asyncio.timeout(20):
        while (await socket.receive()).type not in {WSMsgType.CLOSE, WSMsgType.CLOSED}:
            continue
    return socket.close_code


@pytest.mark.parametrize("served", ["1.5"], indirect=True)
async def test_sigterm_tells_the_balancer_before_it_closes_anything(served: Served, receiver: Receiver) -> None:
    async with served.api.post(
        f"{API}/webhooks", json={"url": f"{receiver.address}/a", "notification_types": ["*"]}
    ) as answer:
        receiver.secrets["/a"] = (await answer.json())["secret"]
    receiver.answers.append(Answer(delay_seconds=3))
    socket = await served.api.ws_connect(f"{API}/ws", protocols=("bearer", token()))
    assert (await socket.receive_json(timeout=5))["type"] == "hello"
    in_flight = await served.accept(channels=["webhook"])
    await receiver.received(1)
    served.command.process.send_signal(signal.SIGTERM)
    await served.until_not_ready()
    async with served.api.get("/health") as answer:
        assert answer.status == 200, "the process lives while it drains"
    async with served.api.get(f"{API}/health/status") as answer:
        body = await answer.json()
        assert (answer.status, body["status"], body["ready"]) == (503, "draining", False)
    assert not socket.closed
    late = await served.accept()
    assert (await served.stored(late))["status"] == "delivered"
    assert await closed(socket) == 1012
    ended = await served.command.ended()
    assert (ended.code, ended.err) == (0, "")
    assert "Traceback" not in ended.out
    assert (await served.stored(in_flight))["status"] == "delivered"
    with pytest.raises(ClientConnectionError):
        await served.ready()


@pytest.mark.parametrize("served", ["600"], indirect=True)
async def test_a_second_sigterm_ends_it_and_leaves_the_work_due(served: Served, receiver: Receiver) -> None:
    async with served.api.post(
        f"{API}/webhooks", json={"url": f"{receiver.address}/a", "notification_types": ["*"]}
    ) as answer:
        assert answer.status == 201
    receiver.answers.append(Answer(held=asyncio.Event()))  # never: the attempt is under way until the process ends
    in_flight = await served.accept(channels=["webhook"])
    await receiver.received(1)
    served.command.process.send_signal(signal.SIGTERM)
    await served.until_not_ready()
    ended = await served.command.signalled(signal.SIGTERM)
    assert ended.code == 130
    assert "Traceback" not in ended.out + ended.err
    left = await served.stored(in_flight)
    assert (left["status"], left["due_at"] is not None) == ("pending", True)
    assert await served.database.collection("notification_history").find_one({"notification_id": in_flight}) is None
