"""Live clients: fleets over WebSocket and SSE that write down what they saw, and clients that never read.

An honest client drops ids that it knows, keeps the cursor of its last notification frame and resumes from it.
"""

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import orjson
from aiohttp import ClientResponse, ClientSession, ClientTimeout, ClientWebSocketResponse, TCPConnector, WSMsgType
from tests.chaos.load import API, token

from notification_engine.domain.caller import Role

OPENING = 64  # handshakes at once


@dataclass
class Seen:
    """The ledger of one client over all its connections. `frames` are the notification frames of the newest one."""

    ids: Counter[str] = field(default_factory=Counter)
    frames: list[tuple[datetime, str]] = field(default_factory=list)  # visible_at, id
    at: dict[str, float] = field(default_factory=dict)  # when an id came first, of the monotonic clock
    cursor: str | None = None
    resets: int = 0
    connections: int = 0
    closed_with: list[int | None] = field(default_factory=list)

    def begin(self) -> None:
        self.connections += 1
        self.frames = []

    def note(self, frame: dict[str, Any]) -> None:
        match frame["type"]:
            case "hello" if self.cursor is None:
                self.cursor = frame["cursor"]
            case "notification":
                shown = frame["notification"]
                self.ids[shown["notification_id"]] += 1
                self.at.setdefault(shown["notification_id"], time.monotonic())
                self.frames.append((datetime.fromisoformat(shown["visible_at"]), shown["notification_id"]))
                self.cursor = frame["cursor"]
            case "reset":
                self.resets += 1

    def missing(self, expected: Iterable[str]) -> set[str]:
        return set(expected) - set(self.ids)

    def disorder(self, before: Iterable[str] | None = None) -> int:
        """Pairs out of order in the newest connection's replay: first sights only, of `before` (default: of all)."""
        wanted = None if before is None else set(before)
        first = dict.fromkeys(f for f in self.frames if wanted is None or f[1] in wanted)
        return sum(a > b for a, b in itertools.pairwise(first))

    def repeated(self) -> int:
        """Frames that the newest connection brought twice."""
        return len(self.frames) - len({frame[1] for frame in self.frames})


class Client:
    """One user's connection; `stream` false: WebSocket, true: SSE."""

    def __init__(self, fleet: "Fleet", user_id: str, *, stream: bool) -> None:
        self.user_id = user_id
        self.seen = Seen()
        self._fleet = fleet
        self._stream = stream
        self._headers = {"Authorization": f"Bearer {token(user_id, Role.USER)}"}
        self._task: asyncio.Task[None] | None = None
        self._response: ClientResponse | ClientWebSocketResponse | None = None

    @property
    def open(self) -> bool:
        return self._task is not None and not self._task.done()

    async def connect(self, address: str) -> None:
        """Opens, says `resume` when it has been here before, and reads on in the background."""
        assert self._task is None or self._task.done()
        resume = self.seen.cursor if self.seen.connections else None
        self.seen.begin()
        if self._stream:
            headers = self._headers | ({"Last-Event-ID": resume} if resume else {})
            answer = await self._fleet.session.get(f"{address}{API}/stream", headers=headers)
            answer.raise_for_status()
            self._response, reading = answer, self._read_events(answer)
        else:
            opened = await self._fleet.session.ws_connect(
                f"{address}{API}/ws",
                headers={"Sec-WebSocket-Protocol": "bearer, " + self._headers["Authorization"][7:]},
            )
            if resume:
                await opened.send_json({"type": "resume", "cursor": resume})
            self._response, reading = opened, self._read_socket(opened)
        self._task = asyncio.create_task(reading)

    async def drop(self) -> None:
        """As a lost network would: without a closing word."""
        if isinstance(self._response, ClientWebSocketResponse):
            self._response._conn.transport.abort()  # type: ignore[union-attr]
        elif self._response is not None:
            self._response.close()
        await self.ended()

    async def close(self) -> None:
        if self._response is None:
            return
        if isinstance(self._response, ClientWebSocketResponse):
            await self._response.close()
        else:
            self._response.close()
        await self.ended()

    async def ended(self) -> None:
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)

    async def _read_socket(self, opened: ClientWebSocketResponse) -> None:
        async for message in opened:
            if message.type is WSMsgType.TEXT:
                frame = orjson.loads(message.data)
                if frame["type"] == "ping":
                    await opened.send_json({"type": "pong"})
                self.seen.note(frame)
        self.seen.closed_with.append(opened.close_code)

    async def _read_events(self, answer: ClientResponse) -> None:
        async for line in answer.content:
            if line.startswith(b"data: "):
                self.seen.note(orjson.loads(line[6:]))


class Fleet:
    """Many clients, a user each; `streams` of them over SSE."""

    def __init__(self, users: Sequence[str], *, streams: int = 0) -> None:
        self.clients = [Client(self, user, stream=i < streams) for i, user in enumerate(users)]

    async def __aenter__(self) -> "Fleet":
        self.session = ClientSession(
            timeout=ClientTimeout(total=None, sock_connect=30), connector=TCPConnector(limit=0)
        )
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._each(lambda client: client.close())
        await self.session.close()

    async def connect(self, address: str) -> None:
        await self._each(lambda client: client.connect(address))

    async def drop(self) -> None:
        """All connections are lost at once."""
        await asyncio.gather(*(client.drop() for client in self.clients))

    async def complete(self, expected: dict[str, set[str]], seconds: float) -> dict[str, set[str]]:
        """Waits until each user's client has seen all that is expected; answers what is missing at the end."""
        until = time.monotonic() + seconds
        while True:
            missing = self._missing(expected)
            if not missing or time.monotonic() > until:
                return missing
            await asyncio.sleep(0.1)

    def _missing(self, expected: dict[str, set[str]]) -> dict[str, set[str]]:
        lacking = {c.user_id: c.seen.missing(expected.get(c.user_id, ())) for c in self.clients}
        return {user: ids for user, ids in lacking.items() if ids}

    async def _each(self, act: Callable[[Client], Awaitable[None]]) -> None:
        slots = asyncio.Semaphore(OPENING)

        async def one(client: Client) -> None:
            async with slots:
                await act(client)

        await asyncio.gather(*(one(client) for client in self.clients))
