"""The set-up of traces. Only who has them switched on imports this file, and with it the SDK.

The SDK gives what operators know by its variables: sampler, resource, batches, the exporter. Its spans are not used:
ours cost a quarter to make and a third to encode (ADR 0019).

Invariant: nothing waits for the collector but `close`, and that not longer than FLUSH_SECONDS. Past its bound the queue
forgets the oldest.
"""

import asyncio
import logging
import threading
from importlib.metadata import version
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, TraceFlags, TraceState
from opentelemetry.util.re import parse_env_headers

from notification_engine.domain.errors import ConfigurationError
from notification_engine.kit import tracing
from notification_engine.kit.tracing import Kind, Parent, Span
from notification_engine.settings import Settings
from notification_engine.wiring.otlp import Ended, Exporter

FLUSH_SECONDS = 3.0
KINDS: dict[Kind, SpanKind] = {"internal": SpanKind.INTERNAL, "server": SpanKind.SERVER, "client": SpanKind.CLIENT}


class Traces:
    """Implements `kit.tracing.Recorder`."""

    def __init__(self, settings: Settings, replica: str) -> None:
        """Raises ConfigurationError for sizes of the queue that contradict each other. Of what else the SDK cannot use
        it tells in the log, and goes on with its default."""
        _silence("opentelemetry.util.re")  # repeats a header that it cannot read
        provider = TracerProvider(shutdown_on_exit=False)
        self._sampler, self._ids = provider.sampler, provider.id_generator
        try:
            self._processor = BatchSpanProcessor(_exporter(settings, replica))
        except ValueError as error:
            raise ConfigurationError(f"OTEL_BSP_*: {error}") from None
        _silence("opentelemetry", "urllib3")  # tell of every batch that failed, with its address

    def first(self, name: str, kind: Kind, parent: Parent | None) -> Span | None:
        trace_id = parent.trace_id if parent else self._ids.generate_trace_id()
        state = TraceState.from_header([parent.state]) if parent and parent.state else None
        around = _around(parent, state) if parent else None
        result = self._sampler.should_sample(around, trace_id, name, KINDS[kind], trace_state=state)
        if result.decision is not Decision.RECORD_AND_SAMPLE:
            return None
        kept = result.trace_state.to_header() if result.trace_state else ""
        return Span(name, kind, trace_id, self.new_span_id(), parent, {}, kept)

    def new_span_id(self) -> int:
        return self._ids.generate_span_id()

    def take(self, span: Span) -> None:
        self._processor.on_end(Ended(span))

    async def close(self) -> None:
        """Sends what waits, as far as the time allows; the thread that still tries does not hold the process."""
        tracing.stop_recording(self)
        flushing = threading.Thread(target=self._processor.shutdown, daemon=True)
        flushing.start()
        await asyncio.to_thread(flushing.join, FLUSH_SECONDS)


def _silence(*loggers: str) -> None:
    for name in loggers:
        logging.getLogger(name).setLevel(logging.CRITICAL)


def _exporter(s: Settings, replica: str) -> Exporter:
    """What OTEL_RESOURCE_ATTRIBUTES says of the resource wins."""
    headers = s.OTEL_EXPORTER_OTLP_HEADERS
    given = parse_env_headers(headers.get_secret_value(), liberal=True) if headers else None
    resource: dict[str, Any] = {
        "service.name": s.OTEL_SERVICE_NAME,
        "service.version": version("notification-engine"),
        "service.instance.id": replica,
        **OTELResourceDetector().detect().attributes,
    }
    shown = {name: str(value) for name, value in Resource.create(resource).attributes.items()}
    return Exporter(s.traces_endpoint or "", given, shown)


def _around(parent: Parent, state: TraceState | None) -> Context:
    """The parent as a sampler looks for it."""
    flags = TraceFlags(TraceFlags.SAMPLED if parent.sampled else TraceFlags.DEFAULT)
    remote = SpanContext(parent.trace_id, parent.span_id, True, flags, state)
    return trace.set_span_in_context(NonRecordingSpan(remote), Context())
