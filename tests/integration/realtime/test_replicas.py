"""Two and three engines on one database: a client hears what any of them accepted, with Redis and without."""

import asyncio
import itertools
from datetime import UTC, datetime, timedelta

import pytest
from aiohttp import ClientSession
from tests.integration.conftest import API, Start, message, token
from tests.integration.realtime.conftest import connected
from tests.servers.receiver import Receiver
from tests.servers.redis import RedisServer

from notification_engine.domain.caller import Role
from notification_engine.wiring import EngineRole

SLOW = {"LIVE_POLL_SECONDS": 60, "SWEEP_INTERVAL_SECONDS": 60}
USER = token("u1", Role.USER)


@pytest.mark.parametrize("with_redis", [True, False])
async def test_a_client_hears_what_every_replica_accepted(start: Start, redis: RedisServer, with_redis: bool) -> None:
    changes = {"REDIS_URL": redis.url, **SLOW} if with_redis else {"LIVE_POLL_SECONDS": 0.1}
    replicas = [await start(**changes) for _ in range(3)]
    async with connected(replicas[0]) as client, connected(replicas[1], "u2") as other:
        if with_redis:
            await asyncio.gather(*(_reached(r.address, client) for r in replicas[1:]))
        accepted = [await replica.accept(message("u1")) for replica in replicas for _ in range(5)]
        await client.has(*accepted)
        assert other.ids == []
        assert len(client.ids) == len(set(client.ids)), "nothing comes twice while nothing goes wrong"


async def _reached(address: str, client: object) -> None:
    """Until a subscription made just now is in force: told again, because a hint may come before it."""
    ids: list[str] = []
    async with ClientSession() as session, asyncio.timeout(10):
        while not set(ids) & set(client.ids):  # type: ignore[attr-defined]
            headers = {"Authorization": f"Bearer {token()}"}
            async with session.post(f"{address}{API}", json=message("u1"), headers=headers) as answer:
                ids.append((await answer.json())["notifications"][0]["notification_id"])
            await asyncio.sleep(0.02)


async def test_what_was_in_the_inbox_before_does_not_come_again(start: Start) -> None:
    one, two = [await start(LIVE_POLL_SECONDS=0.1) for _ in range(2)]
    early = [await one.accept(message("u1")) for _ in range(3)]
    async with connected(two) as client:
        assert client.hello["unread_count"] == 3
        late = await one.accept(message("u1"))
        await client.has(late)
        async with connected(two) as second:
            after = await one.accept(message("u1"))
            await asyncio.gather(client.has(after), second.has(after))
            assert second.ids == [after]
        assert client.ids == [late, after]
        assert not set(early) & set(client.ids)


async def test_a_second_connection_takes_nothing_from_the_first(start: Start) -> None:
    """What a poll has not brought yet is in the inbox of the second, and still new to the first."""
    one, two = [await start(LIVE_POLL_SECONDS=0.3) for _ in range(2)]
    async with connected(two) as first:
        sent = []
        for _ in range(5):
            sent.append(await one.accept(message("u1")))
            async with connected(two) as second:
                assert second.hello["unread_count"] == len(sent)
        await first.has(*sent)


async def test_marks_are_told_to_the_other_replicas(start: Start, redis: RedisServer) -> None:
    one, two = [await start(REDIS_URL=redis.url, **SLOW) for _ in range(2)]
    async with connected(two) as client:
        await _reached(one.address, client)
        status, _ = await one.call("PATCH", f"/{client.ids[0]}", {"read": True}, as_=USER)
        assert status == 200
        assert (await client.until("updated"))["notification"]["read_at"]
        assert (await client.until("unread_count"))["unread_count"] == len(client.ids) - 1


async def test_a_snooze_that_ends_elsewhere_is_new_again(start: Start) -> None:
    daemon = await start(EngineRole.DAEMON)
    api = await start(EngineRole.API, LIVE_POLL_SECONDS=0.1)
    async with connected(api) as client:
        notification_id = await api.accept(message("u1"))
        await client.has(notification_id)
        until = (datetime.now(UTC) + timedelta(seconds=3)).isoformat()
        assert (await api.call("PATCH", f"/{notification_id}", {"snoozed_until": until}, as_=USER))[0] == 200
        async with asyncio.timeout(20):
            while client.ids.count(notification_id) < 2:  # noqa: ASYNC110 - the client keeps what came
                await asyncio.sleep(0.02)
    assert daemon.engine.sweeper is not None


async def test_a_due_notification_wakes_the_daemon_of_another_replica(
    start: Start, redis: RedisServer, receiver: Receiver
) -> None:
    daemon = await start(EngineRole.DAEMON, REDIS_URL=redis.url, **SLOW)
    api = await start(EngineRole.API, REDIS_URL=redis.url, **SLOW)
    await api.register(f"{receiver.address}/hook")
    assert daemon.engine.sweeper is not None
    async with asyncio.timeout(10):
        while daemon.engine.bus.figures()["topics"] < 2:  # noqa: ASYNC110 - a figure
            await asyncio.sleep(0.01)
    ids = [await api.accept(message("u1", channels=["webhook"])) for _ in range(20)]
    for notification_id in ids:
        assert (await api.settled(notification_id, seconds=20))["status"] == "delivered"


async def test_a_changed_preference_is_in_force_everywhere_at_once(start: Start, redis: RedisServer) -> None:
    one, two = [await start(REDIS_URL=redis.url, **SLOW) for _ in range(2)]
    for mute in itertools.islice(itertools.cycle([True, False]), 10):
        heard = two.engine.bus.figures()["heard"]
        await two.accept(message("u1"))  # so that it is in that cache
        assert (await one.call("PUT", "/preferences", {"mute": mute}, as_=USER))[0] == 200
        async with asyncio.timeout(2):
            while two.engine.bus.figures()["heard"] == heard:  # noqa: ASYNC110 - a figure, and far below the cache's 5 s
                await asyncio.sleep(0.001)
        shown = await two.settled(await two.accept(message("u1")))
        assert shown["status"] == ("suppressed" if mute else "delivered")


async def test_a_new_endpoint_is_known_everywhere_at_once(start: Start, redis: RedisServer, receiver: Receiver) -> None:
    one, two = [await start(REDIS_URL=redis.url, **SLOW) for _ in range(2)]
    await two.accept(message("u1", channels=["webhook"]))  # fills the cache with none
    heard = two.engine.bus.figures()["heard"]
    await one.register(f"{receiver.address}/hook")
    async with asyncio.timeout(2):
        while two.engine.bus.figures()["heard"] == heard:  # noqa: ASYNC110 - a figure
            await asyncio.sleep(0.001)
    assert (await two.settled(await two.accept(message("u1", channels=["webhook"]))))["status"] == "delivered"


async def test_presence_counts_the_connections_of_all_replicas(start: Start) -> None:
    fast = {"NOTIFICATION_DAEMON_HEALTH_CHECK_INTERVAL": 0.2}
    replicas = [await start(**fast) for _ in range(3)]
    async with connected(replicas[0]), connected(replicas[1]), connected(replicas[1], "u2"), asyncio.timeout(20):
        while True:
            _, shown = await replicas[2].call("GET", "/health/channels")
            fleet = shown["in_app"]["fleet"]
            if fleet["connections"] == 3:
                break
            await asyncio.sleep(0.05)  # asked again: heartbeats come by themselves
    assert shown["in_app"]["live"]["connections"] == 0
    assert fleet["users"] == 3
    assert sorted(one["connections"] for one in fleet["replicas"]) == [0, 1, 2]
    assert all(one["age_seconds"] < 5 for one in fleet["replicas"])
    assert {one["replica"] for one in fleet["replicas"]} == {one.engine.replica for one in replicas}


async def test_engines_of_two_databases_share_a_server_and_nothing_else(start: Start, redis: RedisServer) -> None:
    one = await start(REDIS_URL=redis.url, LIVE_POLL_SECONDS=0.1)
    two = await start(REDIS_URL=redis.url, LIVE_POLL_SECONDS=0.1, MONGODB_DATABASE="test_another_database")
    async with connected(two) as foreign, connected(one) as own:
        await own.has(await one.accept(message("u1")))
        told = await two.accept(message("u1"))
        await foreign.has(told)
        assert foreign.ids == [told]
    await two.engine.database.drop()
