"""The set-up of traces, and their way to the collector. Only who has them switched on imports this file, and with it
the SDK.

The SDK gives what operators know by its variables: sampler, ids, resource. Its spans and its exporter are not used:
ours cost a quarter to make, and a thread that exports takes more of a busy process than all the rest (ADR 0019).

Invariant: nothing waits for the collector but `close`, and that not longer than FLUSH_SECONDS. Past its bound the queue
forgets the oldest.
"""

import asyncio
import gzip
import logging
import ssl
import time
from collections import deque
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, TraceFlags, TraceState
from opentelemetry.util.re import parse_env_headers

from notification_engine.channels.http_status import outcome_of_status
from notification_engine.domain.errors import ConfigurationError
from notification_engine.domain.outcome import Delivered, Outcome, Retry
from notification_engine.kit import tracing
from notification_engine.kit.logging import get_logger
from notification_engine.kit.loop import Loop
from notification_engine.kit.tracing import Kind, Parent, Span
from notification_engine.net.exchange import Answered, post
from notification_engine.net.session import Outbound
from notification_engine.settings import Settings
from notification_engine.wiring.otlp import Envelope, encoded

FLUSH_SECONDS = 3.0
KINDS: dict[Kind, SpanKind] = {"internal": SpanKind.INTERNAL, "server": SpanKind.SERVER, "client": SpanKind.CLIENT}

log = get_logger("traces")


class Traces(Loop):
    """Implements `kit.tracing.Recorder`. Spans wait as bytes; what the collector cannot take now waits for the next
    round, what it refuses is lost."""

    name = "traces"

    def __init__(self, settings: Settings, replica: str) -> None:
        """Raises ConfigurationError for certificates that cannot be read. Of what the SDK cannot use it tells in the
        log, and goes on with its default."""
        super().__init__(settings.OTEL_BSP_SCHEDULE_DELAY / 1000)
        logging.getLogger("opentelemetry.util.re").setLevel(logging.CRITICAL)  # repeats a header that it cannot read
        provider = TracerProvider(shutdown_on_exit=False)
        self._sampler, self._ids = provider.sampler, provider.id_generator
        self._queue_size = settings.OTEL_BSP_MAX_QUEUE_SIZE
        self._waiting: deque[bytes] = deque(maxlen=self._queue_size)
        self._batch_size = settings.OTEL_BSP_MAX_EXPORT_BATCH_SIZE
        self._collector = Collector(settings, replica)
        self._quiet_until = 0.0  # on the monotonic clock, as the collector asked

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
        self._waiting.append(encoded(span))
        if len(self._waiting) >= self._batch_size and not self._collector.away:
            self.wake()

    async def run_once(self) -> None:
        while self._waiting and time.monotonic() >= self._quiet_until:
            batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), self._batch_size))]
            try:
                outcome = await self._collector.send(batch)
            except asyncio.CancelledError:
                self._put_back(batch)
                raise
            if isinstance(outcome, Retry):
                self._put_back(batch)
                self._quiet_until = time.monotonic() + (outcome.after or 0.0)
                return

    def _put_back(self, batch: list[bytes]) -> None:
        room = self._queue_size - len(self._waiting)
        self._waiting.extendleft(reversed(batch[max(0, len(batch) - room) :]))

    async def close(self) -> None:
        """Sends what waits, as far as the time allows."""
        tracing.stop_recording(self)
        await self.stop()
        try:
            async with asyncio.timeout(FLUSH_SECONDS):
                await self.run_once()
        except TimeoutError:
            log.warning("The collector did not answer at the end; the last spans are lost", spans=len(self._waiting))
        await self._collector.close()


class Collector:
    """Tells once that it takes nothing, and once that it takes spans again."""

    def __init__(self, s: Settings, replica: str) -> None:
        self.away = False
        self._url, self._seconds = s.traces_endpoint or "", s.OTEL_EXPORTER_OTLP_TIMEOUT / 1000
        self._envelope = Envelope(_resource(s, replica), "notification_engine")
        self._gzip = s.OTEL_EXPORTER_OTLP_COMPRESSION == "gzip"
        given = s.OTEL_EXPORTER_OTLP_HEADERS
        self._headers: Mapping[str, str] = {
            **(parse_env_headers(given.get_secret_value(), liberal=True) if given else {}),
            "Content-Type": "application/x-protobuf",
            **({"Content-Encoding": "gzip"} if self._gzip else {}),
        }
        self._out = Outbound(None, tls=_tls(s))

    async def send(self, spans: list[bytes]) -> Outcome:
        """Retry where the same may be taken later."""
        body = self._envelope.around(spans)
        if self._gzip:
            body = await asyncio.to_thread(gzip.compress, body, 6)
        outcome = await self._post(body)
        away = not isinstance(outcome, Delivered)
        if away and not self.away:
            log.warning("The collector takes no traces", spans=len(spans), why=outcome.detail)
        if self.away and not away:
            log.info("The collector takes traces again")
        self.away = away
        return outcome

    async def _post(self, body: bytes) -> Outcome:
        until = time.monotonic() + self._seconds
        done = await post(self._out.session, self._url, body, self._headers, until)
        if isinstance(done, Answered):
            return outcome_of_status(done.status, "collector", done.headers.get("Retry-After"), datetime.now(UTC))
        return Retry(done.reason, "collector", None, done.detail)

    async def close(self) -> None:
        await self._out.close()


def _resource(s: Settings, replica: str) -> dict[str, str]:
    """What OTEL_RESOURCE_ATTRIBUTES says of it wins."""
    own = {
        "service.name": s.OTEL_SERVICE_NAME,
        "service.version": version("notification-engine"),
        "service.instance.id": replica,
        **OTELResourceDetector().detect().attributes,
    }
    return {name: str(value) for name, value in Resource.create(own).attributes.items()}


def _tls(s: Settings) -> ssl.SSLContext | None:
    """None: as the system has it."""
    authority, own, key = (
        s.OTEL_EXPORTER_OTLP_CERTIFICATE,
        s.OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE,
        s.OTEL_EXPORTER_OTLP_CLIENT_KEY,
    )
    if authority is None and own is None:
        return None
    try:
        context = ssl.create_default_context(cafile=authority)
        if own is not None:
            context.load_cert_chain(own, key)
    except OSError as error:  # SSLError is one
        raise ConfigurationError(f"OTEL_EXPORTER_OTLP_*CERTIFICATE: {error}") from None
    return context


def _around(parent: Parent, state: TraceState | None) -> Context:
    """The parent as a sampler looks for it."""
    flags = TraceFlags(TraceFlags.SAMPLED if parent.sampled else TraceFlags.DEFAULT)
    remote = SpanContext(parent.trace_id, parent.span_id, True, flags, state)
    return trace.set_span_in_context(NonRecordingSpan(remote), Context())
