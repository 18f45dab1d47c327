"""A rolling update behind nginx: three replicas, replaced one by one under load, and nobody notices."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.deploy.nginx import Nginx
from tests.integration.replicas.clients import complete, listening
from tests.integration.replicas.fleet import Fleet, endpoint, open_ones, until
from tests.integration.replicas.load import USERS, Load
from tests.servers.receiver import Receiver

pytestmark = pytest.mark.timeout(300)
SENDERS = 6


@pytest.fixture
async def balanced(fleet: Fleet, tmp_path: Path) -> AsyncIterator[Nginx]:
    """Three replicas that drain for a second, behind nginx."""
    replicas = await fleet.start("all", "all", "all", DRAIN_DELAY_SECONDS="1", WEBSOCKET_HEARTBEAT_INTERVAL="2")
    directory = tmp_path / "nginx"
    directory.mkdir()
    balancer = await Nginx(directory, [replica.port for replica in replicas]).start()
    yield balancer
    await balancer.stop()


async def test_replicas_are_replaced_one_by_one_and_nobody_notices(
    fleet: Fleet, balanced: Nginx, receiver: Receiver
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


async def replaced(fleet: Fleet, balanced: Nginx) -> Load:
    """Each replica by a new process on its port, one after the other, while requests come."""
    load = Load(fleet.session, balanced.address)
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
