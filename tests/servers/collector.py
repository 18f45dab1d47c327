"""A collector of traces: OTLP over HTTP with protobuf, parsed by the protocol's own messages.

Every span is looked through for canaries as it comes.
"""

import asyncio
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from tests.canaries import here, watch
from tests.servers.http import HttpServer

KINDS = {1: "internal", 2: "server", 3: "client"}


@dataclass(frozen=True)
class Seen:
    """One exported span; ids are hexadecimal, as in the header."""

    name: str
    kind: str
    trace_id: str
    span_id: str
    parent_id: str
    state: str
    links: tuple[tuple[str, str], ...]
    attributes: dict[str, Any]
    failed: bool
    seconds: float
    resource: dict[str, Any]


class Collector(HttpServer):
    """`status` is what every request is answered; `held`, once set, keeps answers back until it is released."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(tls=tls)
        self.spans: list[Seen] = []
        self.requests: list[dict[str, str]] = []  # their headers
        self.status = 200
        self.headers: dict[str, str] = {}  # of its answers
        self.held: asyncio.Event | None = None
        self._changed = asyncio.Condition()

    def application(self) -> web.Application:
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_post("/v1/traces", self._handle)
        return app

    async def asked(self, count: int, seconds: float = 30) -> None:
        """Waits for so many requests in all, whatever they were answered."""
        async with asyncio.timeout(seconds), self._changed:
            await self._changed.wait_for(lambda: len(self.requests) >= count)

    async def until(self, holds: Callable[[Sequence[Seen]], bool], seconds: float = 30) -> list[Seen]:
        """All spans so far, once these are enough."""
        try:
            async with asyncio.timeout(seconds), self._changed:
                await self._changed.wait_for(lambda: holds(self.spans))
        except TimeoutError:
            raise AssertionError(f"not exported in time; there are {[s.name for s in self.spans]}") from None
        return list(self.spans)

    async def named(self, *names: str, trace_id: str | None = None) -> list[Seen]:
        """Of each name the first span, of this trace if one is given; waits until there is one of each."""

        def of(name: str, spans: Sequence[Seen]) -> Seen | None:
            return next((s for s in spans if s.name == name and trace_id in {None, s.trace_id}), None)

        spans = await self.until(lambda spans: all(of(name, spans) for name in names))
        return [found for name in names if (found := of(name, spans))]

    async def _handle(self, request: web.Request) -> web.Response:
        assert request.content_type == "application/x-protobuf"
        body = ExportTraceServiceRequest.FromString(await request.read())
        watch.look("exported spans", here(), str(body))
        async with self._changed:
            self.requests.append(dict(request.headers))
            if self.status == 200:
                self.spans += _seen(body)
            self._changed.notify_all()
        if self.held is not None:
            await self.held.wait()
        answer = ExportTraceServiceResponse().SerializeToString()
        return web.Response(
            status=self.status, body=answer, headers=self.headers, content_type="application/x-protobuf"
        )


def _seen(body: ExportTraceServiceRequest) -> list[Seen]:
    return [
        Seen(
            name=span.name,
            kind=KINDS[span.kind],
            trace_id=span.trace_id.hex(),
            span_id=span.span_id.hex(),
            parent_id=span.parent_span_id.hex(),
            state=span.trace_state,
            links=tuple((link.trace_id.hex(), link.span_id.hex()) for link in span.links),
            attributes=_attributes(span.attributes),
            failed=span.status.code == 2,
            seconds=(span.end_time_unix_nano - span.start_time_unix_nano) / 1e9,
            resource=_attributes(resource.resource.attributes),
        )
        for resource in body.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]


def _attributes(given: Any) -> dict[str, Any]:
    return {a.key: getattr(a.value, a.value.WhichOneof("value")) for a in given}
