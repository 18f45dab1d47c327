"""Admission: new work is refused while the oldest that is under way waits too long.

Past its capacity the process would otherwise take every request, answer each after its caller has given up, and starve
its own lanes and lease renewals. A request counts from the moment its body is read, so that a slow sender is nobody
else's delay. An answer of 503 costs no parsing.
"""

import time
from collections.abc import Collection, Sequence

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from notification_engine.api import problems
from notification_engine.domain.errors import Unavailable

MAX_WAIT_SECONDS = 3.0  # longer than an election of the database takes, shorter than callers wait
MIN_UNDER_WAY = 8  # fewer are no crowd, however slow


class Admission:
    """`limit` bounds all requests under way, so that memory stays flat; `exempt` paths (probes, streams with a bound of
    their own) are never refused. `accepting` are the paths of new work."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        limit: int,
        exempt: Sequence[str],
        accepting: Collection[str],
        max_wait_seconds: float = MAX_WAIT_SECONDS,
        min_under_way: int = MIN_UNDER_WAY,
    ) -> None:
        self._app = app
        self._limit = limit
        self._exempt = tuple(exempt)
        self._accepting = frozenset(accepting)
        self._max_wait_seconds = max_wait_seconds
        self._min_under_way = min_under_way
        self._under_way = 0
        self._since: dict[object, float] = {}  # in the order of their bodies' ends, so the first is the oldest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith(self._exempt):
            await self._app(scope, receive, send)
            return
        accepts = scope["method"] == "POST" and scope["path"] in self._accepting
        if self._under_way >= self._limit or (accepts and self._crowded()):
            busy = Unavailable("More requests wait than can be answered in time.", retry_after=1)
            answer = problems.respond(problems.problem_of(busy), **{"Retry-After": str(busy.retry_after)})
            await answer(scope, receive, send)
            return
        self._under_way += 1
        try:
            await (self._counted if accepts else self._app)(scope, receive, send)
        finally:
            self._under_way -= 1

    def _crowded(self) -> bool:
        if len(self._since) < self._min_under_way:
            return False
        return time.monotonic() - next(iter(self._since.values())) > self._max_wait_seconds

    async def _counted(self, scope: Scope, receive: Receive, send: Send) -> None:
        mine = object()

        async def receive_counted() -> Message:
            message = await receive()
            if message["type"] == "http.request" and not message.get("more_body"):
                self._since.setdefault(mine, time.monotonic())
            return message

        try:
            await self._app(scope, receive_counted, send)
        finally:
            self._since.pop(mine, None)
