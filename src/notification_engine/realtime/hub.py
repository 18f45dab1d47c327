"""The hub: who is connected to this process, and what they are told. Signals only; the record is the database.

Invariant: a client that does not read costs at most its bound of queued bytes. Past it, or when one write lasts too
long, it is closed (1008), its place is free at once, and it resumes from its cursor.

What surfaces here goes to the local connections at once and over the bus to the other replicas; what the bus loses
comes by the poll (`live_poll.py`), and what has come already does not come again.
"""

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import orjson

from notification_engine.domain.caller import Caller
from notification_engine.domain.cursor import encode_cursor
from notification_engine.domain.notification import Notification
from notification_engine.realtime.local_bus import LocalBus
from notification_engine.realtime.recent import Recent
from notification_engine.services.ports import Bus, SurfacedStore
from notification_engine.services.views import notification_view

BEFORE = timedelta(seconds=20)  # beyond what the poll looks back: how late a stamped notification can become visible
MAX_BEFORE = 1000
MAX_QUEUED_BYTES = 1024 * 1024
RECONNECTS_PER_SECOND = 200  # of one process's clients, all together: each costs a token check and two reads
MIN_SPREAD_MS = 1000
MAX_SPREAD_MS = 30_000
WRITE_SECONDS = 30.0  # in which a client has to take one frame
LAST_FRAME_SECONDS = 1.0  # what a write still gets once the connection is closed


def frame(kind: str, **values: Any) -> bytes:
    return orjson.dumps({"type": kind, **values}, option=orjson.OPT_UTC_Z)


def notification_frame(notification: Notification) -> bytes:
    return frame("notification", notification=notification_view(notification), cursor=cursor_of(notification))


def cursor_of(notification: Notification) -> str | None:
    inbox = notification.inbox
    return encode_cursor(inbox.visible_at, notification.id) if inbox and inbox.visible_at else None


def spread_ms(connections: int) -> int:
    """Over how long so many clients come back."""
    return min(MAX_SPREAD_MS, max(MIN_SPREAD_MS, connections * 1000 // RECONNECTS_PER_SECOND))


class Connection:
    """The outbound queue of one client. `closed_with` is set when it must end, as a WebSocket close code.

    `since` and `before`: what the poll finds from earlier, or in these places, its replay or inbox has shown.
    """

    def __init__(self, user_id: str, caller: Caller | None = None) -> None:
        self.user_id = user_id
        self.caller = caller
        self.closed_with: int | None = None
        self.since: datetime | None = None
        self.before: Mapping[str, datetime] = {}
        self._frames: deque[bytes] = deque()
        self._bytes = 0
        self._ready = asyncio.Event()
        self._room = asyncio.Event()
        self._writing: asyncio.Timeout | None = None

    def push(self, data: bytes) -> None:
        """A live frame, which waits for nobody."""
        if self.closed_with is not None:
            return
        self._frames.append(data)
        self._bytes += len(data)
        if self._bytes > MAX_QUEUED_BYTES:
            self.close(1008)
        self._ready.set()

    async def offer(self, data: bytes) -> None:
        """A frame of a replay: waits until half of the queue is free, so that a long replay closes nobody."""
        while self._frames and self._bytes + len(data) > MAX_QUEUED_BYTES // 2 and self.closed_with is None:
            self._room.clear()
            await self._room.wait()
        self.push(data)

    def close(self, code: int, last: bytes | None = None) -> None:
        """Drops what is queued; `last` says why and is still sent. A write that is under way gets a moment more."""
        if self.closed_with is None:
            self.closed_with = code
            self._frames.clear()
            self._bytes = 0
            if last is not None:
                self._frames.append(last)
            if self._writing is not None:
                self._writing.reschedule(asyncio.get_running_loop().time() + LAST_FRAME_SECONDS)
            self._ready.set()
            self._room.set()

    async def write(self, writing: Awaitable[None]) -> None:
        """One write into the client's socket. Raises TimeoutError when it is not taken in time; it is closed then."""
        seconds = WRITE_SECONDS if self.closed_with is None else LAST_FRAME_SECONDS
        try:
            async with asyncio.timeout(seconds) as self._writing:
                try:
                    await writing
                finally:
                    self._writing = None
        except TimeoutError:
            self.close(1008)
            raise

    async def next(self) -> bytes | None:
        """The next frame; None when the connection is to be closed."""
        while not self._frames:
            if self.closed_with is not None:
                return None
            self._ready.clear()
            await self._ready.wait()
        data = self._frames.popleft()
        self._bytes -= len(data)
        self._room.set()
        return data


class Hub:
    """Implements `services.ports.Live`."""

    def __init__(
        self,
        max_connections: int,
        *,
        per_user: int = 20,
        bus: Bus | None = None,
        inbox: SurfacedStore | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._max = max_connections
        self._per_user = per_user
        self._bus: Bus = bus or LocalBus()
        self._inbox = inbox
        self._now = now
        self._users: dict[str, set[Connection]] = {}
        self._recent = Recent()
        self._count = 0
        self.closing = False

    def join(self, user_id: str, caller: Caller | None = None) -> Connection | None:
        """None when this process, or this user, has no place left. `caller`: whose credential, for `close_denied`."""
        own = self._users.get(user_id, set())
        if self.closing or self._count >= self._max or len(own) >= self._per_user:
            return None
        connection = Connection(user_id, caller)
        if not own:
            self._bus.listen(_topic(user_id), partial(self._heard, user_id))
        self._users.setdefault(user_id, set()).add(connection)
        self._count += 1
        return connection

    async def catch_up(self, connection: Connection) -> None:
        """Before `hello`: what is in the inbox by now is its business, and what comes after it the poll's."""
        if self._inbox is None:
            return
        since = self._now() - BEFORE
        found = await self._inbox.surfaced_since([connection.user_id], since, MAX_BEFORE, newest=True)
        connection.before = {one.id: one.visible_at for one in found}
        connection.since = found[-1].visible_at if len(found) == MAX_BEFORE else since

    def leave(self, connection: Connection) -> None:
        own = self._users.get(connection.user_id)
        if own and connection in own:
            own.discard(connection)
            self._count -= 1
            if not own:
                del self._users[connection.user_id]
                self._bus.leave(_topic(connection.user_id))

    def surfaced(self, notification: Notification) -> None:
        if self._bus.reaches_others or notification.user_id in self._users:
            self._tell(b"n", notification, notification_frame(notification))

    def updated(self, notification: Notification) -> None:
        if self._bus.reaches_others or notification.user_id in self._users:
            self._tell(b"u", notification, frame("updated", notification=notification_view(notification)))

    def unread(self, user_id: str, count: int) -> None:
        data = frame("unread_count", unread_count=count)
        self._push(user_id, data)
        if self._bus.reaches_others:
            self._bus.tell(_topic(user_id), b"c\n" + data)

    def users(self) -> list[str]:
        return list(self._users)

    def lacks(self, document_id: str, visible_at: datetime) -> bool:
        """Whether it has not gone to the connections here yet."""
        return not self._recent.has(document_id, visible_at)

    def found(self, notification: Notification) -> None:
        """By the poll: another replica surfaced it."""
        inbox = notification.inbox
        if inbox is None or inbox.visible_at is None or self._recent.has(notification.id, inbox.visible_at):
            return
        self._recent.add(notification.id, inbox.visible_at)
        data = notification_frame(notification)
        for connection in tuple(self._users.get(notification.user_id, ())):
            begun = connection.since is not None and inbox.visible_at >= connection.since
            if begun and connection.before.get(notification.id) != inbox.visible_at:
                connection.push(data)

    def reset(self, user_ids: Iterable[str]) -> None:
        """More surfaced than can be told one by one: they read their inbox again."""
        for user_id in user_ids:
            self._push(user_id, frame("reset"))

    def close_all(self, code: int) -> None:
        """For the drain: nobody joins any more, everybody is told to come back elsewhere, each after a while of its
        own, so that they do not all come at once."""
        self.closing = True
        spread = spread_ms(self._count)
        for connections in self._users.values():
            for connection in connections:
                after = random.randint(0, spread)  # noqa: S311 - a delay, no secret
                connection.close(code, frame("reconnect", after_ms=after))

    def close_denied(self, denies: Callable[[Caller], bool]) -> None:
        """After a revocation: those whose credential no longer opens anything."""
        open_ones = [connection for connections in self._users.values() for connection in connections]
        for connection in open_ones:
            if connection.caller is not None and denies(connection.caller):
                connection.close(1008)
                self.leave(connection)

    def counts(self) -> dict[str, int]:
        return {"connections": self._count, "users": len(self._users), "max": self._max}

    def _tell(self, kind: bytes, notification: Notification, data: bytes) -> None:
        visible_at = notification.inbox.visible_at if notification.inbox else None
        if notification.user_id in self._users:
            if visible_at is not None:
                self._recent.add(notification.id, visible_at)
            self._push(notification.user_id, data)
        if self._bus.reaches_others and not notification.sensitive:  # the others find it by their poll
            at = str(int(visible_at.timestamp() * 1000)) if visible_at else "-"
            head = b"%s %s %s\n" % (kind, notification.id.encode(), at.encode())
            self._bus.tell(_topic(notification.user_id), head + data)

    def _heard(self, user_id: str, message: bytes) -> None:
        """From another replica. Raises ValueError for what none of ours said."""
        head, _, data = message.partition(b"\n")
        match head.split():
            case [b"c"]:
                self._push(user_id, data)
            case [b"n" | b"u" as kind, document_id, at]:
                if at != b"-":
                    visible_at = datetime.fromtimestamp(int(at) / 1000, UTC)
                    if kind == b"n" and self._recent.has(document_id.decode(), visible_at):
                        return
                    self._recent.add(document_id.decode(), visible_at)
                self._push(user_id, data)
            case _:
                raise ValueError("not a message of this engine")

    def _push(self, user_id: str, data: bytes) -> None:
        for connection in tuple(self._users.get(user_id, ())):
            connection.push(data)
            if connection.closed_with is not None:
                self.leave(connection)


def _topic(user_id: str) -> str:
    return f"user:{user_id}"
