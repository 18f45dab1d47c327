"""The request as the first span of a trace, its caller's or a new one.

Invariant: a span names the route, never the path, which may hold a user's id or the token of an unsubscribe link.
"""

from collections.abc import Mapping

from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from notification_engine.api.middleware import PROBED, STREAM
from notification_engine.kit import tracing


class Traced:
    """Stands in the way only where traces are on. Probes and what lasts as long as its client likes have no span."""

    def __init__(self, app: ASGIApp, paths: Mapping[int, str]) -> None:
        """`paths`: of routes by their identity, see `whole_paths`."""
        self._app = app
        self._paths = paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith((*PROBED, STREAM)):
            await self._app(scope, receive, send)
            return
        with tracing.begin(scope["method"], "server", _caller(scope)) as span:
            if span is None:
                await self._app(scope, receive, send)
                return

            async def send_noted(message: Message) -> None:
                if message["type"] == "http.response.start":
                    span.attributes["http.response.status_code"] = status = message["status"]
                    span.failed |= status >= 500
                await send(message)

            try:
                await self._app(scope, receive, send_noted)
            finally:
                self._name(span, scope)

    def _name(self, span: tracing.Span, scope: Scope) -> None:
        """Once the router has found the route."""
        span.attributes["http.request.method"] = scope["method"]
        if path := self._paths.get(id(scope.get("route"))):
            span.name = f"{scope['method']} {path}"
            span.attributes["http.route"] = path


def _caller(scope: Scope) -> tracing.Parent | None:
    headers = dict(reversed(scope["headers"]))  # the first of a name counts
    if (parent := headers.get(b"traceparent")) is None:
        return None
    return tracing.parsed(parent.decode("latin-1"), headers.get(b"tracestate", b"").decode("latin-1"))


def whole_paths(app: FastAPI) -> dict[int, str]:
    """A route itself knows its path without the prefix under which it was included."""
    return {id(route.original_route): route.path_format or "" for route in iter_route_contexts(app.routes)}
