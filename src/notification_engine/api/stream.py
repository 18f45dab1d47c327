"""The live inbox as server-sent events: the same frames; `id:` is the cursor, `Last-Event-ID` resumes."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Annotated

import orjson
from fastapi import APIRouter, Header
from fastapi.responses import Response, StreamingResponse
from starlette.types import Message, Send

from notification_engine.api.dependencies import ApiServices, Services, User
from notification_engine.api.live import hello, replay
from notification_engine.api.problems import problems
from notification_engine.domain.caller import Caller
from notification_engine.domain.errors import Unavailable
from notification_engine.realtime.hub import Connection

router = APIRouter(tags=["live"])


@router.get(
    "/stream",
    summary="The live inbox as server-sent events",
    description="Roles: user, service, operator. Ends at the token's expiry and at the engine's drain.",
    response_class=StreamingResponse,
    responses=problems(401, 403, 503) | {200: {"content": {"text/event-stream": {}}}},
)
async def stream(
    caller: User, given: Services, last_event_id: Annotated[str | None, Header(max_length=256)] = None
) -> Response:
    given.access.check(caller)  # in the same breath as joining: a revocation closes only what has joined
    connection = given.hub.join(caller.sub, caller)
    if connection is None:
        raise Unavailable("Too many live connections.", retry_after=5)
    return _EventStream(given, connection, _events(given, caller, connection, last_event_id))


class _EventStream(StreamingResponse):
    """Ends when the client does not take what is written, or shortly after its connection was closed; its place is
    free then, whether or not anything was sent."""

    def __init__(self, given: ApiServices, connection: Connection, events: AsyncIterator[bytes]) -> None:
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        super().__init__(events, media_type="text/event-stream", headers=headers)
        self._hub = given.hub
        self._connection = connection

    async def stream_response(self, send: Send) -> None:
        async def bounded(message: Message) -> None:
            await self._connection.write(send(message))

        try:
            with contextlib.suppress(TimeoutError):
                await super().stream_response(bounded)
        finally:
            self._hub.leave(self._connection)


async def _events(given: ApiServices, caller: Caller, connection: Connection, last: str | None) -> AsyncIterator[bytes]:
    await given.hub.catch_up(connection)
    yield _event(await hello(given, caller), with_id=not last)  # a resuming client's place is behind the replay
    if last:
        async for missed in replay(given, caller.sub, last):
            yield _event(missed)
    while (left := caller.expires_at - time.time()) > 0:
        try:
            async with asyncio.timeout(min(left, given.config.heartbeat_seconds)):
                data = await connection.next()
        except TimeoutError:
            yield b": ping\n\n"
            continue
        if data is None:
            return
        yield _event(data)


def _event(data: bytes, *, with_id: bool = True) -> bytes:
    parsed = orjson.loads(data)
    cursor = f"id: {parsed['cursor']}\n" if with_id and parsed.get("cursor") else ""
    retry = f"retry: {parsed['after_ms']}\n" if parsed["type"] == "reconnect" else ""
    return f"event: {parsed['type']}\n{cursor}{retry}data: ".encode() + data + b"\n\n"
