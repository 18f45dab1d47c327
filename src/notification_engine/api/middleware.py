"""What surrounds every request, as plain ASGI: its id, one access line, the security headers, trusted hosts."""

import re
import time
from collections.abc import Callable, Mapping, Sequence

import structlog
from starlette.datastructures import Headers
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from notification_engine.api import problems
from notification_engine.api.rate_limits import rate_limit_headers
from notification_engine.api.security_headers import EVERY_ANSWER, HSTS
from notification_engine.domain.errors import TooLarge
from notification_engine.kit.ids import new_id
from notification_engine.kit.logging import get_logger
from notification_engine.kit.origin import Origin, set_origin

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_SECRET_PART = re.compile(r"(/unsubscribe/|/users/).+", re.DOTALL)

STREAM = "/api/v1/notifications/stream"  # lasts as long as its client likes
PROBED = ("/health", "/metrics", "/api/v1/notifications/health/")
log = get_logger("api")


class RequestContext:
    """`X-Request-ID` is taken from the caller where it is well formed, and answered. `answered` is told of each answer
    that no probe asked for: status, seconds."""

    def __init__(self, app: ASGIApp, answered: Callable[[int, float], None] = lambda *_: None) -> None:
        self._app = app
        self._answered = answered

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else new_id("req")
        structlog.contextvars.bind_contextvars(request_id=request_id)
        set_origin(Origin((scope.get("client") or (None,))[0], request_id))
        started = time.perf_counter()
        status = 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                add_headers(scope, message, request_id)
            await send(message)

        try:
            await self._app(scope, receive, send_with_headers)
        except Exception:
            log.exception("A request failed unexpectedly", path=_shown(scope["path"]))
            if status or scope["type"] != "http":
                raise
            await problems.respond(problems.defect())(scope, receive, send_with_headers)
        finally:
            if scope["type"] == "http":
                seconds = time.perf_counter() - started
                _log_access(scope, status, seconds * 1000)
                if not scope["path"].startswith((*PROBED, STREAM)):
                    self._answered(status, seconds)
            structlog.contextvars.unbind_contextvars("request_id")


def add_headers(scope: Scope, message: Message, request_id: str) -> None:
    """Those of every answer, where the answer has none of its own."""
    headers = message.setdefault("headers", [])
    given = {name for name, _ in headers}
    headers.append((b"x-request-id", request_id.encode()))
    headers.extend(header for header in EVERY_ANSWER if header[0] not in given)
    headers.extend(rate_limit_headers(scope))
    if scope["scheme"] == "https":
        headers.append(HSTS)


def _shown(path: str) -> str:
    """Without what is secret in it, or names a user: who reads the log could unsubscribe others."""
    return _SECRET_PART.sub(r"\1...", path)


def _log_access(scope: Scope, status: int, milliseconds: float) -> None:
    write = log.debug if scope["path"].startswith(PROBED) else log.info
    write(
        "Request answered",
        method=scope["method"],
        path=_shown(scope["path"]),
        status=status,
        duration_ms=round(milliseconds, 2),
    )


class BodyLimit:
    """Refuses a body before it is parsed, with the problem that every other refusal has.

    The framework's own limiter stands outside the exception handlers and answers plain text without a request id.
    """

    def __init__(self, app: ASGIApp, limit: int, limits: Mapping[str, int]) -> None:
        self._app = app
        self._limit = limit
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = self._limits.get(scope["path"], self._limit)
        announced = Headers(scope=scope).get("content-length", "")
        left = limit - (int(announced) if announced.isdigit() else 0)
        read = 0

        async def receive_bounded() -> Message:
            nonlocal read
            if left >= 0:
                message = await receive()
                read += len(message.get("body", b""))
            if left < 0 or read > limit:
                raise TooLarge(f"The body must be at most {limit} bytes.")
            return message

        await self._app(scope, receive_bounded, send)


class TrustedHosts:
    """Health and metrics are exempt: probes come by address."""

    def __init__(self, app: ASGIApp, hosts: Sequence[str]) -> None:
        self._app = app
        self._checked = TrustedHostMiddleware(app, allowed_hosts=list(hosts))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exempt = scope["type"] == "lifespan" or scope["path"].startswith(PROBED)
        await (self._app if exempt else self._checked)(scope, receive, send)
