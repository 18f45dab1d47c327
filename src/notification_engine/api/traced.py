"""The request as the first span of a trace, its caller's or a new one.

Invariant: a span names the route, never the path, which may hold a user's id or the token of an unsubscribe link.
"""

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from notification_engine.api.middleware import PROBED, STREAM
from notification_engine.kit import tracing


class Traced:
    """Stands in the way only where traces are on. Probes and what lasts as long as its client likes have no span."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith((*PROBED, STREAM)):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        caller = tracing.parsed(headers.get("traceparent", ""), headers.get("tracestate", ""))
        with tracing.begin(scope["method"], "server", caller) as span:

            async def send_noted(message: Message) -> None:
                if message["type"] == "http.response.start":
                    status = message["status"]
                    tracing.note({"http.response.status_code": status}, failed=status >= 500)
                await send(message)

            try:
                await self._app(scope, receive, send_noted)
            finally:
                if span is not None:
                    _name(span, scope)


def _name(span: tracing.Span, scope: Scope) -> None:
    """Once the router has found the route."""
    span.attributes["http.request.method"] = scope["method"]
    if (route := getattr(scope.get("route"), "path", None)) is not None:
        span.name = f"{scope['method']} {route}"
        span.attributes["http.route"] = route
