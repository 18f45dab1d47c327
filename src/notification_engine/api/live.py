"""The live inbox over WebSocket (protocol: docs/live.md).

A client is subscribed before it is replayed to, so nothing falls between: what surfaces during a replay waits in its
queue, and clients drop ids that they know. Order is promised in the replay; live frames are hints.
"""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Annotated, Any
from urllib.parse import urlsplit

from fastapi import APIRouter, Depends, WebSocket, WebSocketDisconnect
from fastapi.responses import Response
from pydantic import BaseModel

from notification_engine.api import strict_json
from notification_engine.api.answers import answer
from notification_engine.api.dependencies import ApiServices, Services, User, services
from notification_engine.api.problems import problems
from notification_engine.api.rate_limits import address_of, take
from notification_engine.domain.caller import Caller
from notification_engine.domain.cursor import encode_cursor
from notification_engine.domain.errors import EngineError, RateLimited, RequestError, Unauthenticated, Unavailable
from notification_engine.domain.rate_limit import RateClass
from notification_engine.realtime.hub import LAST_FRAME_SECONDS, Connection, cursor_of, frame, notification_frame
from notification_engine.services.ports import InboxChange, InboxFilter

router = APIRouter(tags=["live"])
MAX_IN_BYTES = 64 * 1024
MAX_REPLAY = 1000
PAGE = 200
AUTH_SECONDS = 10.0
_EPOCH = datetime.fromtimestamp(0, UTC)
TICKET_SECONDS = 30


class TicketOut(BaseModel):
    ticket: str
    expires_in: int


@router.post(
    "/ws/ticket",
    status_code=201,
    response_model=TicketOut,
    summary="A one-time ticket that opens a WebSocket",
    description="Roles: user, service, operator. Use it within 30 s as `?ticket=`.",
    responses=problems(401, 403, 503),
)
async def ticket(caller: User, given: Services) -> Response:
    return answer({"ticket": await given.tickets.create(caller), "expires_in": TICKET_SECONDS}, 201)


@router.websocket("/ws")
async def live(socket: WebSocket, given: Annotated[ApiServices, Depends(services)]) -> None:
    with contextlib.suppress(WebSocketDisconnect, asyncio.IncompleteReadError):
        await _serve(socket, given)


async def _serve(socket: WebSocket, given: ApiServices) -> None:
    if given.hub.closing:  # as HTTP, so that a load balancer tries another replica
        await socket.send_denial_response(answer({"detail": "The engine stops."}, 503))
        return
    protocols = [p.strip() for p in socket.headers.get("sec-websocket-protocol", "").split(",")]
    if not _origin_allowed(socket, given.config.cors_origins):
        await socket.close(1008, "origin")
        return
    await socket.accept("bearer" if protocols[0] == "bearer" else None)
    try:
        caller = given.access.check(await _authenticate(socket, given, protocols))
        take(socket, RateClass.LIVE, caller.sub)
    except (Unauthenticated, RateLimited, TimeoutError) as error:
        if isinstance(error, Unauthenticated):
            given.denials.denied(None, "access.unauthenticated", "WS /ws")
        with contextlib.suppress(RuntimeError):  # closed by the server, see `_send`
            await socket.close(1008, "rate limit" if isinstance(error, RateLimited) else "authentication")
        return
    except Unavailable:
        await socket.close(1013, "try again later")
        return
    connection = given.hub.join(caller.sub, caller)
    if connection is None:
        with contextlib.suppress(RuntimeError):
            await socket.close(1013, "too many connections")
        return
    try:
        await _Session(socket, given, caller, connection).run()
    finally:
        given.hub.leave(connection)


async def _authenticate(socket: WebSocket, given: ApiServices, protocols: list[str]) -> Caller:
    """By ticket, by subprotocol `bearer, <token>` or by the first message; a token in the query string is refused."""
    if "token" in socket.query_params or "access_token" in socket.query_params:
        raise Unauthenticated("A token does not belong into an address.")
    if (one_time := socket.query_params.get("ticket")) is not None:
        caller = await given.tickets.redeem(one_time)
        if caller is None:
            raise Unauthenticated("The ticket is not valid.")
        return caller
    if len(protocols) == 2 and protocols[0] == "bearer":
        return await given.access.caller(protocols[1])
    take(socket, RateClass.PUBLIC, address_of(socket))  # a stranger that may wait here for a while
    async with asyncio.timeout(AUTH_SECONDS):
        message = await _received(socket)
    if message.get("type") != "auth" or not isinstance(message.get("token"), str):
        raise Unauthenticated("The first message must be `auth`.")
    return await given.access.caller(message["token"])


def _origin_allowed(socket: WebSocket, allowed: tuple[str, ...]) -> bool:
    """Same origin always passes, and so does a client that is no browser."""
    origin = socket.headers.get("origin")
    if origin is None or origin in allowed or "*" in allowed:
        return True
    return urlsplit(origin).netloc == socket.headers.get("host")


async def _send(socket: WebSocket, data: bytes) -> None:
    """The server itself ends a connection whose client broke the protocol below ours, and then takes nothing more."""
    try:
        await socket.send_text(data.decode())
    except RuntimeError:
        raise WebSocketDisconnect(1006) from None


async def _received(socket: WebSocket) -> dict[str, Any]:
    """A binary frame is none of the protocol's: like what is no JSON, it is the empty message."""
    message = await socket.receive()
    if message["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(message["code"], message.get("reason"))
    text = message.get("text")
    return {} if text is None else _parse(text)


def _parse(text: str) -> dict[str, Any]:
    """The empty message for what is too large, no JSON or no object; its unknown type then ends the session."""
    if len(text) > MAX_IN_BYTES:
        return {}
    try:
        message = strict_json.parse(text)
    except json.JSONDecodeError:
        return {}
    return message if isinstance(message, dict) else {}


class _Session:
    def __init__(self, socket: WebSocket, given: ApiServices, caller: Caller, connection: Connection) -> None:
        self._socket = socket
        self._given = given
        self._caller = caller
        self._connection = connection
        self._heard = time.monotonic()

    async def run(self) -> None:
        """Reads, writes and watches until one of the three ends; the others end with it. The writer ends when the
        connection is closed, by whomever, within `LAST_FRAME_SECONDS` even if the client takes nothing."""
        await self._given.hub.catch_up(self._connection)
        self._connection.push(await hello(self._given, self._caller))
        writing = asyncio.create_task(self._write())
        tasks = [writing, asyncio.create_task(self._read()), asyncio.create_task(self._watch())]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if self._connection.closed_with is not None:
                await asyncio.wait([writing], timeout=LAST_FRAME_SECONDS)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        for task in done:
            if (error := task.exception()) is not None and not isinstance(error, EngineError | TimeoutError):
                raise error
        code = self._connection.closed_with or 1011
        with contextlib.suppress(RuntimeError, TimeoutError):  # the client closed first, or takes nothing
            async with asyncio.timeout(LAST_FRAME_SECONDS):
                await self._socket.close(code)

    async def _write(self) -> None:
        while (data := await self._connection.next()) is not None:
            await self._connection.write(_send(self._socket, data))

    async def _watch(self) -> None:
        config = self._given.config
        while True:
            left = self._caller.expires_at - time.time()
            await asyncio.sleep(max(0.0, min(config.heartbeat_seconds, left)))
            silent = time.monotonic() - self._heard > config.silence_seconds
            if silent or time.time() >= self._caller.expires_at:
                self._connection.close(1008)
                return
            self._connection.push(frame("ping"))

    async def _read(self) -> None:
        while self._connection.closed_with is None:
            message = await _received(self._socket)
            self._heard = time.monotonic()
            taken = self._given.limits.take(RateClass.MESSAGES, self._caller.sub)
            if taken is not None and not taken.allowed:
                late = frame("error", detail="Too many messages.", field=None, retry_after=taken.retry_after)
                self._connection.close(1008, late)
                return
            try:
                await self._obey(message)
            except RequestError as error:
                self._connection.push(frame("error", detail=error.detail, field=error.field))

    async def _obey(self, message: dict[str, Any]) -> None:
        match message:
            case {"type": "resume", "cursor": str(cursor)}:
                async for data in replay(self._given, self._caller.sub, cursor):
                    await self._connection.offer(data)
            case {"type": "seen" | "read" as mark, "notification_id": str(notification_id)}:
                change = InboxChange(read=True) if mark == "read" else InboxChange(seen=True)
                changed = await self._given.notifications.change_inbox(self._caller, notification_id, change)
                self._given.hub.updated(changed)
                count = await self._given.notifications.unread_count(self._caller.sub)
                self._given.hub.unread(self._caller.sub, count)
            case {"type": "pong" | "ack"}:
                return
            case _:
                self._connection.close(1008, frame("error", detail="Unknown or malformed message.", field="type"))


async def hello(given: ApiServices, caller: Caller) -> bytes:
    """The cursor of the newest notification in the inbox, and the unread count."""
    page = await given.notifications.inbox(caller, InboxFilter(), None, 1)
    cursor = cursor_of(page.items[0]) if page.items else encode_cursor(_EPOCH, "")
    return frame("hello", cursor=cursor, unread_count=await given.notifications.unread_count(caller.sub))


async def replay(given: ApiServices, user_id: str, cursor: str) -> AsyncIterator[bytes]:
    """What surfaced since 60 s before the cursor, in order; more than 1,000 is a `reset`: the client reads its list."""
    found = []
    position: str | None = cursor
    while position is not None:
        page = await given.notifications.inbox_after(user_id, position, PAGE)
        found += page.items
        position = page.next_cursor
        if len(found) > MAX_REPLAY:
            yield frame("reset")
            return
    for notification in found:
        yield notification_frame(notification)
