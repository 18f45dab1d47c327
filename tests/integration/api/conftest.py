"""Two replicas, for what one of them decides and the other has to hear of."""

import asyncio

import pytest
from tests.integration.conftest import Running, Start
from tests.integration.realtime.conftest import redis as redis
from tests.servers.redis import RedisServer


@pytest.fixture(params=["bus", "poll"])
async def two(request: pytest.FixtureRequest, start: Start, redis: RedisServer) -> tuple[Running, ...]:
    """With the bus, their polls stand still, so that nothing else can bring the news."""
    changes = {"REDIS_URL": redis.url} if request.param == "bus" else {"LIVE_POLL_SECONDS": 0.1}
    replicas = [await start(**changes) for _ in range(2)]
    if request.param == "bus":
        for watch in (replica.engine._access_watch for replica in replicas):
            watch.interval_seconds = 3600
            watch.ran.clear()
            watch.wake()
            await asyncio.wait_for(watch.ran.wait(), 10)
    return tuple(replicas)
