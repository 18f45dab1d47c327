"""A webhook receiver: checks each signature with the public library and answers what the test told it to."""

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from standardwebhooks import Webhook
from tests.servers.http import HttpServer


@dataclass
class Call:
    path: str
    headers: dict[str, str]
    event: dict[str, Any]
    body: bytes = b""


@dataclass
class Answer:
    status: int = 204
    headers: dict[str, str] = field(default_factory=dict)
    delay_seconds: float = 0.0
    body: bytes = b""
    held: asyncio.Event | None = None  # the answer comes once this is set


class Receiver(HttpServer):
    """`answers` are used up one a call, then every call gets 204. A wrong signature raises in the handler: 500."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        super().__init__(host)
        self.secrets: dict[str, str] = {}
        self.calls: list[Call] = []
        self.answers: deque[Answer] = deque()
        self._changed = asyncio.Condition()

    def application(self) -> web.Application:
        app = web.Application(client_max_size=4 * 1024 * 1024)
        app.router.add_post("/{name:.*}", self._handle)
        return app

    async def received(self, count: int, seconds: float = 20) -> list[Call]:
        async with asyncio.timeout(seconds), self._changed:
            await self._changed.wait_for(lambda: len(self.calls) >= count)
        return self.calls

    async def _handle(self, request: web.Request) -> web.Response:
        body = await request.read()
        secret = self.secrets.get(request.path)
        event = Webhook(secret).verify(body, dict(request.headers)) if secret else {}
        async with self._changed:
            self.calls.append(Call(request.path, dict(request.headers), event, body))
            self._changed.notify_all()
        answer = self.answers.popleft() if self.answers else Answer()
        await asyncio.sleep(answer.delay_seconds)
        if answer.held is not None:
            await answer.held.wait()
        return web.Response(status=answer.status, headers=answer.headers, body=answer.body)
