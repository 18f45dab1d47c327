"""The guide's switches and times of monitoring and of live connections: each does what its name says."""

import asyncio

from aiohttp import ClientWebSocketResponse, WSMsgType
from tests.integration.conftest import API, Running, Start, token

from notification_engine.domain.caller import Role
from notification_engine.storage.connection import Database

USER = token("u1", Role.USER)


async def test_background_checks_can_be_switched_off_and_the_endpoints_stay(start: Start) -> None:
    off = await start(HEALTH_CHECK_ENABLED=False, HEALTH_CHECK_INTERVAL=0.05)
    on = await start(HEALTH_CHECK_INTERVAL=0.05)

    async def checked_at(running: Running) -> str | None:
        async with on.session.get(f"{running.address}{API}/health/status") as answer:
            assert answer.status == 200
            checked: str | None = (await answer.json())["checks"].get("checked_at")
        return checked

    async with asyncio.timeout(20):
        while await checked_at(on) is None:  # noqa: ASYNC110 - asked again: it is another engine's loop
            await asyncio.sleep(0.02)
    assert await checked_at(off) is None


async def test_samples_of_metrics_can_be_switched_off(start: Start, mongod: str) -> None:
    off = await start(METRICS_COLLECTION_ENABLED=False)
    database = Database(mongod, off.engine.settings.MONGODB_DATABASE, pool_size=1)
    try:
        samples = database.collection("notification_metrics")
        await off.engine.stop()
        assert await samples.count_documents({}) == 0
        await start()
        async with asyncio.timeout(20):
            while not await samples.count_documents({}):  # noqa: ASYNC110 - another task writes it
                await asyncio.sleep(0.02)  # asked again: the loop writes its first sample by itself
    finally:
        await database.close()


async def test_the_pool_is_as_large_as_is_set(start: Start) -> None:
    running = await start(DATABASE_CONNECTION_POOL_SIZE=7)
    async with running.session.get(f"{running.address}{API}/health/status") as answer:
        assert (await answer.json())["database"]["pool"]["max"] == 7


async def test_a_live_connection_is_pinged_at_its_interval(start: Start) -> None:
    running = await start(WEBSOCKET_HEARTBEAT_INTERVAL=0.1)
    async with running.session.ws_connect(f"{running.address}{API}/ws", protocols=("bearer", USER)) as socket:
        kinds = [(await socket.receive_json(timeout=10))["type"] for _ in range(3)]
    assert kinds == ["hello", "ping", "ping"]


async def test_a_silent_connection_ends_after_its_time_and_one_that_answers_stays(start: Start) -> None:
    running = await start(WEBSOCKET_HEARTBEAT_INTERVAL=0.1, WEBSOCKET_CONNECTION_TIMEOUT=1)
    address = f"{running.address}{API}/ws"
    async with (
        running.session.ws_connect(address, protocols=("bearer", USER)) as silent,
        running.session.ws_connect(address, protocols=("bearer", USER)) as alive,
    ):
        ended = asyncio.create_task(_end(silent))
        async with asyncio.timeout(30):
            while not ended.done():
                assert (await alive.receive_json(timeout=10))["type"] in {"hello", "ping"}
                await alive.send_json({"type": "pong"})
        assert (await alive.receive_json(timeout=10))["type"] == "ping"


async def _end(socket: ClientWebSocketResponse) -> None:
    while (await socket.receive()).type is WSMsgType.TEXT:
        continue
