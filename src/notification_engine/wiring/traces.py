"""The set-up of traces. Only who has them switched on imports this file, and with it the SDK.

The SDK gives what operators know by its variables: sampler, resource, batches, the exporter. Its spans are not used:
ours cost a quarter to make (ADR 0019), and become the SDK's once they have ended.

Invariant: nothing here waits for the collector but `close`, and that not longer than FLUSH_SECONDS. Of a collector that
is away there is one line in the log until it takes spans again; past its bound the queue forgets the oldest.
"""

import asyncio
import logging
import threading
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
)
from opentelemetry.util.re import parse_env_headers

from notification_engine.domain.errors import ConfigurationError
from notification_engine.kit import tracing
from notification_engine.kit.logging import get_logger
from notification_engine.kit.tracing import Kind, Parent, Span
from notification_engine.settings import Settings

FLUSH_SECONDS = 3.0
SAMPLED = TraceFlags(TraceFlags.SAMPLED)
KINDS: dict[Kind, SpanKind] = {"internal": SpanKind.INTERNAL, "server": SpanKind.SERVER, "client": SpanKind.CLIENT}
FAILED, UNSET = Status(StatusCode.ERROR), Status()

log = get_logger("traces")


class Traces:
    """Implements `kit.tracing.Recorder`."""

    def __init__(self, settings: Settings, replica: str) -> None:
        """Raises ConfigurationError for sizes of the queue that contradict each other. Of what else the SDK cannot use
        it tells in the log, and goes on with its default."""
        _silence("opentelemetry.util.re")  # repeats a header that it cannot read
        self._resource = _resource(settings, replica)
        self._scope = InstrumentationScope("notification_engine", version("notification-engine"))
        provider = TracerProvider(resource=self._resource, shutdown_on_exit=False)
        self._sampler, self._ids = provider.sampler, provider.id_generator
        try:
            self._processor = BatchSpanProcessor(_Watched(_exporter(settings)))
        except ValueError as error:
            raise ConfigurationError(f"OTEL_BSP_*: {error}") from None
        _silence("opentelemetry", "urllib3")  # tell of every batch that failed, with its address

    def first(self, name: str, kind: Kind, parent: Parent | None) -> Span | None:
        trace_id = parent.trace_id if parent else self._ids.generate_trace_id()
        state = TraceState.from_header([parent.state]) if parent and parent.state else None
        around = trace.set_span_in_context(NonRecordingSpan(_context(parent, state, remote=True))) if parent else None
        result = self._sampler.should_sample(around, trace_id, name, KINDS[kind], trace_state=state)
        if result.decision is not Decision.RECORD_AND_SAMPLE:
            return None
        told: Any = result.attributes or {}
        kept = result.trace_state.to_header() if result.trace_state else ""
        return Span(name, kind, trace_id, self.new_span_id(), parent, dict(told), kept)

    def new_span_id(self) -> int:
        return self._ids.generate_span_id()

    def take(self, span: Span) -> None:
        self._processor.on_end(self._readable(span))

    async def close(self) -> None:
        """Sends what waits, as far as the time allows; the thread that still tries does not hold the process."""
        tracing.stop_recording(self)
        flushing = threading.Thread(target=self._processor.shutdown, daemon=True)
        flushing.start()
        await asyncio.to_thread(flushing.join, FLUSH_SECONDS)

    def _readable(self, span: Span) -> ReadableSpan:
        state = TraceState.from_header([span.state]) if span.state else None
        return ReadableSpan(
            span.name,
            context=SpanContext(span.trace_id, span.span_id, False, SAMPLED, state),
            parent=_context(span.parent, state) if span.parent else None,
            resource=self._resource,
            attributes=span.attributes,
            links=(Link(_context(span.link, None)),) if span.link else (),
            kind=KINDS[span.kind],
            status=FAILED if span.failed else UNSET,
            start_time=span.started,
            end_time=span.ended,
            instrumentation_scope=self._scope,
        )


class _Resource(Resource):
    """Hashed for every span that is encoded: by what it is, because the SDK's own writes itself as JSON for it."""

    __hash__ = object.__hash__
    __eq__ = object.__eq__


class _Watched(SpanExporter):
    """The exporter, which the batches' own thread calls: tells once that it fails, and once that it works again."""

    def __init__(self, inner: SpanExporter) -> None:
        self._inner = inner
        self._away = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = self._inner.export(spans)
        away = result is not SpanExportResult.SUCCESS
        if away is not self._away:
            self._away = away
            if away:
                log.warning("The collector takes no traces; they are lost until it does", spans=len(spans))
            else:
                log.info("The collector takes traces again")
        return result

    def shutdown(self) -> None:
        self._inner.shutdown()


def _silence(*loggers: str) -> None:
    for name in loggers:
        logging.getLogger(name).setLevel(logging.CRITICAL)


def _exporter(s: Settings) -> SpanExporter:
    headers = s.OTEL_EXPORTER_OTLP_HEADERS
    given = parse_env_headers(headers.get_secret_value(), liberal=True) if headers else None
    return OTLPSpanExporter(endpoint=s.traces_endpoint, headers=given)


def _resource(s: Settings, replica: str) -> Resource:
    """What OTEL_RESOURCE_ATTRIBUTES says wins."""
    ours = {
        "service.name": s.OTEL_SERVICE_NAME,
        "service.version": version("notification-engine"),
        "service.instance.id": replica,
    }
    return _Resource(Resource.create({**ours, **OTELResourceDetector().detect().attributes}).attributes)


def _context(parent: Parent, state: TraceState | None, *, remote: bool = False) -> SpanContext:
    flags = SAMPLED if parent.sampled else TraceFlags(TraceFlags.DEFAULT)
    return SpanContext(parent.trace_id, parent.span_id, remote, flags, state)
