"""Redis servers of a test's own, and clients of the live inbox."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientWebSocketResponse
from tests.integration.conftest import API, Running, token
from tests.servers.redis import RedisServer, valkey

from notification_engine.domain.caller import Role


@pytest.fixture
async def redis(tmp_path: Path) -> AsyncIterator[RedisServer]:
    server = RedisServer(valkey(), tmp_path)
    await server.start()
    yield server
    await server.kill()


class Client:
    """One WebSocket of a user, and the frames that came."""

    def __init__(self, socket: ClientWebSocketResponse, hello: dict[str, Any]) -> None:
        self.hello = hello
        self.frames: list[dict[str, Any]] = []
        self.socket = socket
        self._more = asyncio.Event()
        self._reading = asyncio.create_task(self._read())

    @property
    def ids(self) -> list[str]:
        return [f["notification"]["notification_id"] for f in self.frames if f["type"] == "notification"]

    async def has(self, *ids: str, seconds: float = 15) -> None:
        async with asyncio.timeout(seconds):
            while not set(ids) <= set(self.ids):
                self._more.clear()
                await self._more.wait()

    async def until(self, kind: str, seconds: float = 15) -> dict[str, Any]:
        """The first frame of that type, also when it has come already."""
        async with asyncio.timeout(seconds):
            while not (found := [f for f in self.frames if f["type"] == kind]):
                self._more.clear()
                await self._more.wait()
        return found[0]

    async def close(self) -> None:
        self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)

    async def _read(self) -> None:
        while True:
            self.frames.append(await self.socket.receive_json())
            self._more.set()


@asynccontextmanager
async def connected(running: Running, user: str = "u1") -> AsyncIterator[Client]:
    protocols = ("bearer", token(user, Role.USER))
    async with running.session.ws_connect(f"{running.address}{API}/ws", protocols=protocols) as socket:
        client = Client(socket, await socket.receive_json(timeout=10))
        try:
            yield client
        finally:
            await client.close()


async def status_until(running: Running, bus: str, whole: str | None = None, seconds: float = 20) -> dict[str, Any]:
    """`/health/status`, once its bus, and the whole, have that status."""
    async with asyncio.timeout(seconds):
        while True:
            code, shown = await running.call("GET", "/health/status")
            if shown["bus"]["status"] == bus and whole in {None, shown["status"]}:
                return dict(shown) | {"code": code}
            await asyncio.sleep(0.02)  # asked again: it is measured, not told
