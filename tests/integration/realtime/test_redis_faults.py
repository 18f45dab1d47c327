"""After a fault of Redis the bus itself is back, and what met the fault is counted (the faults: `tests/chaos`)."""

import asyncio

from tests.integration.conftest import Start, message
from tests.integration.realtime.conftest import connected, status_until
from tests.servers.redis import RedisServer


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
