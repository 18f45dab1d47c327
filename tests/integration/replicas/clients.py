"""Live clients that do what docs/live.md tells them: come back after the delay they are told, resume, drop doubles."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import ClientError, ClientSession, ClientWebSocketResponse, ClientWSTimeout, WSMsgType
from tests.integration.conftest import API, token

from notification_engine.domain.caller import Role

BACKOFF_SECONDS = 0.2
OPEN_SECONDS = 5.0
RESUME_SECONDS = 20.0  # without a bus only a replay brings what another process accepted, of the last minute
_CLOSING = ClientWSTimeout(ws_close=1.0)


@dataclass
class Listener:
    """One user's WebSocket. `addresses` are tried in turn; a balancer is one address."""

    session: ClientSession
    addresses: list[str]
    user_id: str
    silence_seconds: float = 20.0  # a few heartbeats: then the network is gone
    seen: set[str] = field(default_factory=set)
    told_ms: list[int] = field(default_factory=list)
    closed_with: list[int | None] = field(default_factory=list)
    refused: int = 0
    connections: int = 0
    next: int = 0  # which address
    cursor: str | None = None
    _socket: ClientWebSocketResponse | None = None
    _task: asyncio.Task[None] | None = None
    _resumed_at: float = field(default_factory=time.monotonic)
    _live: asyncio.Event = field(default_factory=asyncio.Event)

    def start(self) -> None:
        self._task = asyncio.create_task(self._run())

    async def live(self, seconds: float = 60) -> None:
        """Until it is connected and greeted."""
        async with asyncio.timeout(seconds):
            await self._live.wait()

    async def resume(self) -> None:
        if self._socket is not None and self.cursor:
            await self._socket.send_json({"type": "resume", "cursor": self.cursor})

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            pause = BACKOFF_SECONDS
            try:
                pause = await self._connected(self.addresses[self.next % len(self.addresses)])
            except (ClientError, OSError, TimeoutError):
                self.refused += 1
            self._live.clear()
            self.connections += 1
            self.next += 1
            await asyncio.sleep(pause)

    async def _connected(self, address: str) -> float:
        """Until it closes; how long to wait before the next."""
        protocols = ("bearer", token(self.user_id, Role.USER, minutes=30))
        pause = BACKOFF_SECONDS
        async with asyncio.timeout(OPEN_SECONDS):
            opening = self.session.ws_connect(f"{address}{API}/ws", protocols=protocols, timeout=_CLOSING)
            socket = await opening
        async with socket:
            self._socket = socket
            while (message := await socket.receive(self.silence_seconds)).type is WSMsgType.TEXT:
                told: dict[str, Any] = message.json()
                if told["type"] == "reconnect":
                    self.told_ms.append(told["after_ms"])
                    pause = told["after_ms"] / 1000
                await self._obey(socket, told)
            # Of the frame itself: aiohttp says 1006 when TLS has ended before it could answer that frame.
            self.closed_with.append(message.data if message.type is WSMsgType.CLOSE else socket.close_code)
        return pause

    async def _obey(self, socket: ClientWebSocketResponse, told: dict[str, Any]) -> None:
        match told["type"]:
            case "hello":
                if self.cursor is not None:
                    await socket.send_json({"type": "resume", "cursor": self.cursor})
                self.cursor = self.cursor or told["cursor"]
                self._live.set()
            case "notification":
                self.seen.add(told["notification"]["notification_id"])
                self.cursor = told["cursor"]
            case "ping":
                await socket.send_json({"type": "pong"})
                if time.monotonic() > self._resumed_at + RESUME_SECONDS:
                    self._resumed_at = time.monotonic()
                    await self.resume()


@asynccontextmanager
async def listening(
    session: ClientSession, addresses: list[str], users: Sequence[str], *, silence_seconds: float = 20.0
) -> AsyncIterator[list[Listener]]:
    """One for each of these, all connected; the addresses in turn."""
    listeners = [
        Listener(session, addresses, user, silence_seconds, next=i % len(addresses)) for i, user in enumerate(users)
    ]
    for listener in listeners:
        listener.start()
    try:
        await asyncio.gather(*(listener.live() for listener in listeners))
        yield listeners
    finally:
        for listener in listeners:
            await listener.stop()


async def complete(listeners: list[Listener], expected: dict[str, set[str]], seconds: float) -> dict[str, int]:
    """Resumes until each has seen what is expected of its user; what is missing when the time is over, by user."""
    until = time.monotonic() + seconds
    while missing := {x.user_id: len(lacks) for x in listeners if (lacks := expected.get(x.user_id, set()) - x.seen)}:
        if time.monotonic() > until:
            return missing
        for listener in listeners:
            if listener.user_id in missing and listener._live.is_set():
                await listener.resume()
        await asyncio.sleep(0.5)
    return {}
