"""Rate limits that replicas count together, and what becomes of them when Redis does not answer."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import structlog
from tests.integration.conftest import Start, token
from tests.servers.redis import RedisCluster, RedisSentinel, RedisServer, Wire, redis_7, valkey

from notification_engine.domain.caller import Role
from notification_engine.domain.rate_limit import RateClass, RateLimit
from notification_engine.realtime.rate_limits import RateLimits
from notification_engine.realtime.redis_address import parse_redis_url
from notification_engine.realtime.redis_counters import RedisCounters

READ = RateClass.READ
LIMIT = RateLimit(20, 3600)


class Replica:
    def __init__(
        self, url: str, now: Callable[[], float], namespace: str = "ne:test", limit: RateLimit = LIMIT
    ) -> None:
        self.counters = RedisCounters(parse_redis_url(url), namespace=namespace)
        self.limits = RateLimits({READ: limit}, key="k", tell=self.counters.tell, now=now)

    def take(self, times: int = 1, subject: str = "u1") -> int:
        """How many were allowed."""
        return sum(1 for _ in range(times) if (taken := self.limits.take(READ, subject)) and taken.allowed)

    async def until(self, true: Callable[[], bool], seconds: float = 15) -> None:
        async with asyncio.timeout(seconds):
            while not true():  # noqa: ASYNC110 - asked again: it happens in another task, beside every request
                await asyncio.sleep(0.005)

    async def told(self, subject: str = "") -> None:
        """What was taken so far, by that subject or by all, is exchanged."""
        windows = [w for s, w in self.limits._windows[READ].items() if subject in {"", s}]
        await self.until(lambda: not any(w.waits for w in windows) and all(w.told == w.count for w in windows))


class Bed:
    def __init__(self, stack: AsyncExitStack) -> None:
        self._stack = stack
        self.time = 1_000_000.0 * 3600 + 60

    async def replica(self, url: str, **options: Any) -> Replica:
        replica = Replica(url, lambda: self.time, **options)
        await replica.counters.start()
        self._stack.push_async_callback(replica.counters.stop)
        await replica.until(lambda: replica.counters.up)
        return replica


@pytest.fixture
async def bed() -> AsyncIterator[Bed]:
    async with AsyncExitStack() as stack:
        yield Bed(stack)


async def test_what_one_replica_counted_the_other_refuses(redis: RedisServer, bed: Bed) -> None:
    a, b = await bed.replica(redis.url), await bed.replica(redis.url)
    assert a.take(20) == 20
    await a.told()
    assert b.take() == 1  # it asks the others with its first request, and waits for nobody
    await b.told()
    assert b.take(10) == 0
    assert b.limits.refused[READ] == 10


async def test_replicas_together_take_hardly_more_than_the_limit(redis: RedisServer, bed: Bed) -> None:
    limit = RateLimit(1000, 3600)
    replicas = [await bed.replica(redis.url, limit=limit) for _ in range(3)]
    taken = 0
    for _ in range(150):
        for replica in replicas:
            taken += replica.take(10)
        for replica in replicas:
            if any(w.waits for w in replica.limits._windows[READ].values()):
                await replica.told()
    assert 1000 <= taken <= 1000 * (1 + 0.02 * len(replicas))


async def test_other_subjects_and_other_engines_have_their_own_counts(redis: RedisServer, bed: Bed) -> None:
    a, b = await bed.replica(redis.url), await bed.replica(redis.url, namespace="ne:another")
    assert a.take(20) == 20
    await a.told()
    assert b.take(20) == 20
    c = await bed.replica(redis.url)
    c.take(1, "u2")
    await c.told()
    assert c.take(19, "u2") == 19


async def test_the_next_window_begins_where_all_left_the_last(redis: RedisServer, bed: Bed) -> None:
    a, b = await bed.replica(redis.url), await bed.replica(redis.url)
    assert a.take(20) == 20
    await a.told()
    bed.time += 3600 * 1.25 - 60
    assert b.take() == 1
    await b.told()
    assert b.take(20) == 4  # of 20, three quarters of the last window still count, and one of this


async def test_who_asked_is_not_in_redis_and_counts_expire(redis: RedisServer, bed: Bed) -> None:
    a = await bed.replica(redis.url)
    a.take(3, "anna@example.org")
    await a.told()
    keys = await redis.ask("KEYS", "*")
    assert isinstance(keys, list)
    keys = [key for key in keys if b"{probe}" not in key]
    assert len(keys) == 1
    assert keys[0].startswith(b"ne:test:rate:{read:")
    assert b"anna" not in keys[0]
    left = await redis.ask("TTL", keys[0].decode())
    assert isinstance(left, int)
    assert 0 < left <= 7200


@pytest.mark.parametrize("fault", ["killed", "paused", "cut"])
async def test_an_outage_neither_opens_nor_closes_the_door(redis: RedisServer, bed: Bed, fault: str) -> None:
    wire = Wire(redis.port)
    await wire.start()
    a, b = await bed.replica(wire.url), await bed.replica(redis.url)
    a.take(5)
    await a.told()
    b.take(5)
    await b.told()
    assert b.limits._windows[READ]["u1"].count == 10
    if fault == "killed":
        await redis.kill()
    elif fault == "paused":
        redis.pause()
    else:
        wire.cut()
    assert b.take(30) == 10  # from what it knew: the other's count stays, and its own limit holds at once
    assert a.take(30) == 15
    assert a.take(3, "new") == 3
    await a.until(lambda: not a.counters.up)
    assert a.take(30, "new") == 17
    if fault == "killed":
        await redis.start()
    elif fault == "paused":
        redis.resume()
    else:
        wire.mend()
    await a.until(lambda: a.counters.up)
    await b.until(lambda: b.counters.up)
    assert a.take(7, "after") == 7
    await a.told("after")
    b.take(1, "after")
    await b.told("after")
    assert b.limits._windows[READ]["after"].count == 8
    assert a.take(1, "new") == 0
    await a.told("new")  # what was counted meanwhile
    assert b.take(1, "new") == 1
    await b.told("new")
    assert b.take(20, "new") <= 2  # the three whose answer was lost may not have been counted there
    await wire.stop()


async def test_a_server_that_forgot_everything_takes_nothing_back(redis: RedisServer, bed: Bed) -> None:
    a = await bed.replica(redis.url)
    assert a.take(20) == 20
    await a.told()
    await redis.ask("FLUSHALL")
    assert a.take(5) == 0
    assert a.take(1, "u2") == 1
    await a.told()
    await redis.ask("FLUSHALL")
    assert a.take(5, "u2") == 5
    await a.told()
    assert a.limits._windows[READ]["u2"].count == 6


@pytest.fixture(params=["cluster", "sentinel", "redis 7"])
async def other_kind(
    request: pytest.FixtureRequest, tmp_path: Path
) -> AsyncIterator[RedisCluster | RedisSentinel | RedisServer]:
    kinds: dict[str, Callable[[], Any]] = {
        "cluster": lambda: RedisCluster(valkey(), tmp_path),
        "sentinel": lambda: RedisSentinel(valkey(), tmp_path),
        "redis 7": lambda: RedisServer(redis_7(), tmp_path),
    }
    server = kinds[request.param]()
    await server.start()
    yield server
    await server.kill()


async def test_every_kind_of_redis_counts(other_kind: RedisCluster | RedisSentinel | RedisServer, bed: Bed) -> None:
    a, b = await bed.replica(other_kind.url), await bed.replica(other_kind.url)
    users = [f"u{i}" for i in range(30)]  # over all nodes of a Cluster
    for user in users:
        assert a.take(20, user) == 20
    await a.told()
    for user in users:
        assert b.take(1, user) == 1
    await b.told()
    assert sum(b.take(5, user) for user in users) == 0


async def test_a_user_that_may_not_count_leaves_each_process_its_own_limits(redis: RedisServer, bed: Bed) -> None:
    await redis.ask("ACL", "SETUSER", "engine", "on", ">password", "&ne:*", "-@all", "+@pubsub", "+ping")
    url = f"redis://engine:password@127.0.0.1:{redis.port}"
    replica = Replica(url, lambda: bed.time)
    with structlog.testing.capture_logs() as logged:
        await replica.counters.start()
        await replica.until(lambda: bool(logged))
        assert not replica.counters.up
        assert replica.take(30) == 20
        await redis.ask("ACL", "SETUSER", "engine", "~ne:*", "+incrby", "+expire", "+get")
        await replica.until(lambda: replica.counters.up)
        await replica.counters.stop()
    warnings = [line for line in logged if line["log_level"] == "warning"]
    assert [line["reason"] for line in warnings] == ["the user may not use the commands or channels that are needed"]


async def test_a_failover_of_the_master_is_followed(tmp_path: Path, bed: Bed) -> None:
    server = RedisSentinel(valkey(), tmp_path)
    await server.start()
    a = await bed.replica(server.url)
    a.take(5)
    await a.told()
    await server.master.kill()
    exchanged = a.counters.exchanged
    async with asyncio.timeout(30):
        while a.counters.exchanged == exchanged:  # asked again: the sentinel decides when
            a.take(1, f"u{time.monotonic()}")
            await asyncio.sleep(0.02)
    await server.kill()


async def test_two_replicas_refuse_together_over_http(start: Start, redis: RedisServer) -> None:
    one = await start(REDIS_URL=redis.url, RATE_LIMIT_READ="10/hour")
    two = await start(REDIS_URL=redis.url, RATE_LIMIT_READ="10/hour")
    user = token("u1", Role.USER)
    statuses = [(await one.call("GET", "/unread-count", as_=user))[0] for _ in range(11)]
    assert statuses == [200] * 10 + [429]
    async with asyncio.timeout(15):
        answered = 0
        while (await two.call("GET", "/unread-count", as_=user))[0] == 200:
            answered += 1
    assert answered < 10


@pytest.mark.parametrize("fault", ["kill", "pause"])
async def test_requests_are_answered_and_limited_while_redis_is_away(
    start: Start, redis: RedisServer, fault: str
) -> None:
    running = await start(REDIS_URL=redis.url, RATE_LIMIT_READ="10/hour")
    user = token("u1", Role.USER)
    assert (await running.call("GET", "/unread-count", as_=user))[0] == 200
    await (redis.kill() if fault == "kill" else asyncio.to_thread(redis.pause))
    statuses = [(await running.call("GET", "/unread-count", as_=user))[0] for _ in range(10)]
    assert statuses == [200] * 9 + [429]
    if fault == "pause":
        redis.resume()
