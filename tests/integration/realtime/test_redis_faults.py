"""Redis goes wrong in every way, again and again, under load: nothing is lost or wrong, and it heals by itself."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from tests.integration.conftest import Running, Start, message, token
from tests.integration.realtime.conftest import connected, status_until
from tests.servers.redis import RedisServer, Wire

from notification_engine.domain.caller import Role

USER = token("u1", Role.USER)
Fault = Callable[["Bed"], Awaitable[None]]


class Bed:
    """Two replicas on one Redis behind a wire; `both_until` waits for the status of both their buses."""

    def __init__(self, redis: RedisServer, wire: Wire, replicas: list[Running]) -> None:
        self.redis, self.wire, self.replicas = redis, wire, replicas

    async def both_until(self, status: str) -> None:
        for replica in self.replicas:
            shown = await status_until(replica, status, "healthy" if status == "up" else "degraded")
            assert shown["code"] == 200
            assert shown["ready"]
            assert bool(shown["bus"]["reason"]) is (status == "degraded")


async def killed(bed: Bed) -> None:
    await bed.redis.kill()
    await bed.both_until("degraded")
    await bed.redis.start()


async def restarted_empty(bed: Bed) -> None:
    await bed.redis.restart()


async def flushed(bed: Bed) -> None:
    await bed.redis.ask("FLUSHALL")
    await bed.redis.ask("SCRIPT", "FLUSH")


async def clients_killed(bed: Bed) -> None:
    for kind in ("normal", "pubsub"):
        await bed.redis.ask("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")


async def paused(bed: Bed) -> None:
    bed.redis.pause()
    try:
        await bed.both_until("degraded")
    finally:
        bed.redis.resume()


async def cut_off(bed: Bed) -> None:
    bed.wire.cut()
    try:
        await bed.both_until("degraded")
    finally:
        bed.wire.mend()


@asynccontextmanager
async def load(replica: Running) -> AsyncIterator[list[str]]:
    """Accepts for u1 all the time; the ids so far."""
    accepted: list[str] = []

    async def accept() -> None:
        while True:
            accepted.append(await replica.accept(message("u1")))

    accepting = asyncio.create_task(accept())
    try:
        yield accepted
        assert not accepting.done(), accepting.exception()
    finally:
        accepting.cancel()
        await asyncio.gather(accepting, return_exceptions=True)


@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    ("fault", "times"),
    [(killed, 10), (restarted_empty, 10), (flushed, 10), (clients_killed, 10), (paused, 3), (cut_off, 3)],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
async def test_nothing_is_lost_and_it_heals(redis: RedisServer, start: Start, fault: Fault, times: int) -> None:
    wire = Wire(redis.port)
    await wire.start()
    try:
        replicas = [await start(REDIS_URL=wire.url, LIVE_POLL_SECONDS=0.3) for _ in range(2)]
        bed = Bed(redis, wire, replicas)
        async with connected(replicas[1]) as client, load(replicas[0]) as accepted:
            for _ in range(times):
                await fault(bed)
                await bed.both_until("up")
                before = len(accepted)
                async with asyncio.timeout(20):
                    while len(accepted) < before + 3:  # noqa: ASYNC110 - the load goes on
                        await asyncio.sleep(0.01)
                await client.has(*accepted[: before + 2])
        assert set(client.ids) <= set(accepted) | await _inbox(replicas[0])
        assert set(accepted) <= await _inbox(replicas[0])
        for replica in replicas:
            assert replica.engine.bus.shown()["status"] == "up"
    finally:
        await wire.stop()


async def _inbox(running: Running) -> set[str]:
    """Every id in the inbox of u1: the truth."""
    ids: set[str] = set()
    cursor = ""
    while True:
        status, page = await running.call("GET", f"?limit=100{cursor}", as_=USER)
        assert status == 200, page
        ids |= {one["notification_id"] for one in page["notifications"]}
        if page["next_cursor"] is None:
            return ids
        cursor = f"&cursor={page['next_cursor']}"


async def test_live_messages_take_the_bus_again_after_a_fault(redis: RedisServer, start: Start) -> None:
    """Without the poll: only a link that subscribed again brings them."""
    replicas = [await start(REDIS_URL=redis.url, LIVE_POLL_SECONDS=60) for _ in range(2)]
    async with connected(replicas[1]) as client:
        for _ in range(3):
            await redis.restart()
            for replica in replicas:
                await status_until(replica, "up")
            async with asyncio.timeout(20):
                ids: set[str] = set()
                while not ids & set(client.ids):
                    ids.add(await replicas[0].accept(message("u1")))
                    await asyncio.sleep(0.02)


async def test_what_waits_for_a_server_that_is_away_is_dropped_and_counted(redis: RedisServer, start: Start) -> None:
    one = await start(REDIS_URL=redis.url)
    await redis.kill()
    await status_until(one, "degraded")
    for _ in range(5):
        await one.accept(message("u1"))
    figures = one.engine.bus.figures()
    assert (figures["waiting"], figures["dropped"] >= 5) == (0, True)
    async with one.session.get(f"{one.address}/metrics") as answer:
        text = await answer.text()
    assert 'notification_state{figure="bus_up"} 0.0' in text
    assert 'notification_state{figure="bus_dropped"}' in text
