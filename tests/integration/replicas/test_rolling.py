"""A rolling update behind nginx: three replicas, replaced one by one under load, and nobody notices."""

import asyncio
import uuid
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.integration.conftest import API, message
from tests.integration.replicas.balancer import Balancer
from tests.integration.replicas.clients import complete, listening
from tests.integration.replicas.fleet import Fleet, bearer, endpoint, free_port, open_ones, until
from tests.servers.receiver import Receiver

pytestmark = pytest.mark.timeout(300)
USERS = 20
SENDERS = 6


class Load:
    """Sends through the balancer until it is told to end; every request once, each with a key of its own."""

    def __init__(self, fleet: Fleet, address: str) -> None:
        self._fleet = fleet
        self._address = address
        self._ending = asyncio.Event()
        self.failed: list[str] = []
        self.accepted: dict[str, set[str]] = defaultdict(set)
        self.reads = 0

    @property
    def ids(self) -> list[str]:
        return [i for ids in self.accepted.values() for i in ids]

    async def run(self, number: int) -> None:
        for count in range(1_000_000):
            if self._ending.is_set():
                return
            user = f"u{(number + count) % USERS}"
            await self._post(user)
            await self._get(user)

    def end(self) -> None:
        self._ending.set()

    async def _post(self, user: str) -> None:
        body = message(user, channels=["in_app", "webhook"])
        headers = bearer() | {"Idempotency-Key": uuid.uuid4().hex}
        async with self._fleet.session.post(f"{self._address}{API}", json=body, headers=headers) as answer:
            told = await self._checked("POST", answer)
            if told is not None:
                self.accepted[user].add(told["notifications"][0]["notification_id"])

    async def _get(self, user: str) -> None:
        async with self._fleet.session.get(f"{self._address}{API}/unread-count", headers=bearer()) as answer:
            self.reads += await self._checked("GET", answer) is not None

    async def _checked(self, method: str, answer: Any) -> Any:
        if answer.status in {200, 202}:
            return await answer.json()
        self.failed.append(f"{method} {answer.status} {(await answer.text())[:200]}")
        return None


@pytest.fixture
async def balanced(fleet: Fleet, tmp_path: Path) -> AsyncIterator[Balancer]:
    """Three replicas that drain for a second, behind nginx."""
    replicas = await fleet.start("all", "all", "all", DRAIN_DELAY_SECONDS="1", WEBSOCKET_HEARTBEAT_INTERVAL="2")
    balancer = Balancer(tmp_path, free_port(), [replica.port for replica in replicas])
    await balancer.start()
    yield balancer
    await balancer.stop()


async def test_replicas_are_replaced_one_by_one_and_nobody_notices(
    fleet: Fleet, balanced: Balancer, receiver: Receiver
) -> None:
    await endpoint(fleet, fleet.replicas[0], receiver)
    users = [f"u{i % USERS}" for i in range(3 * USERS)]
    async with listening(fleet.session, [balanced.address], users) as listeners:
        load = await replaced(fleet, balanced)
        await nothing_is_lost_or_doubled(fleet, load, receiver)
        assert await complete(listeners, load.accepted, 30) == {}
    told = [ms for listener in listeners for ms in listener.told_ms]
    closed = Counter(code for listener in listeners for code in listener.closed_with)
    print("told", len(told), "closed", closed)
    assert len(told) >= len(listeners), "each was told at least once: all replicas went"
    assert len(set(told)) > len(told) / 3, "not all at once"
    assert set(closed) == {1012}
    assert sum(x.refused for x in listeners) == 0, "no handshake fails: the balancer finds one that serves"


async def replaced(fleet: Fleet, balanced: Balancer) -> Load:
    """Each replica by a new process on its port, one after the other, while requests come."""
    load = Load(fleet, balanced.address)
    senders = [asyncio.create_task(load.run(i)) for i in range(SENDERS)]
    try:
        for replica in fleet.replicas:
            assert await replica.terminate() == 0, replica.log()
            await replica.start()
            await replica.serving(fleet.session)
    finally:
        load.end()
        results = await asyncio.gather(*senders, return_exceptions=True)
    broken = [repr(r) for r in results if r is not None]
    assert broken + load.failed == [], balanced.errors()
    print("accepted", len(load.ids), "reads", load.reads)
    assert len(load.ids) > 50, "there was load"
    return load


async def nothing_is_lost_or_doubled(fleet: Fleet, load: Load, receiver: Receiver) -> None:
    async def all_ended() -> bool:
        return await open_ones(fleet) == 0

    await until(all_ended, 30, "everything delivered")
    calls = Counter(call.event["data"]["notification_id"] for call in receiver.calls)
    assert set(calls) == set(load.ids), "none lost, none invented"
    assert set(calls.values()) == {1}, "none doubled"
