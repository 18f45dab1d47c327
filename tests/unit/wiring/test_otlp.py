"""Spans written by hand, read with the protocol's own classes."""

from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1 import trace_pb2 as otlp

from notification_engine.kit.tracing import Kind, Parent, Span
from notification_engine.wiring.otlp import Envelope, encoded

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)  # past the length that takes one byte
IDS, TRACE_IDS = st.integers(1, 2**64 - 1), st.integers(1, 2**128 - 1)
PARENTS = st.builds(Parent, TRACE_IDS, IDS, st.just(True))
VALUES = TEXTS | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False)
SPANS = st.builds(
    Span,
    name=TEXTS,
    kind=st.sampled_from(["internal", "server", "client"]),
    trace_id=TRACE_IDS,
    span_id=IDS,
    parent=st.none() | PARENTS,
    attributes=st.dictionaries(TEXTS, VALUES, max_size=6),
    state=TEXTS,
    link=st.none() | PARENTS,
    started=IDS,
    ended=IDS,
    failed=st.booleans(),
)
KINDS: dict[Kind, int] = {
    "internal": otlp.Span.SPAN_KIND_INTERNAL,
    "server": otlp.Span.SPAN_KIND_SERVER,
    "client": otlp.Span.SPAN_KIND_CLIENT,
}


def read(spans: list[Span], resource: dict[str, str]) -> ExportTraceServiceRequest:
    return ExportTraceServiceRequest.FromString(Envelope(resource, "scope").around(map(encoded, spans)))


@given(st.lists(SPANS, max_size=4), st.dictionaries(TEXTS, TEXTS, max_size=3))
def test_what_is_written_is_what_is_read(spans: list[Span], resource: dict[str, str]) -> None:
    [whole] = read(spans, resource).resource_spans
    [scoped] = whole.scope_spans
    assert {a.key: a.value.string_value for a in whole.resource.attributes} == resource
    assert scoped.scope.name == "scope"
    for span, seen in zip(spans, scoped.spans, strict=True):
        assert (seen.name, seen.kind, seen.trace_state, seen.flags) == (span.name, KINDS[span.kind], span.state, 1)
        assert (seen.trace_id.hex(), seen.span_id.hex()) == (f"{span.trace_id:032x}", f"{span.span_id:016x}")
        assert seen.parent_span_id.hex() == (f"{span.parent.span_id:016x}" if span.parent else "")
        assert (seen.start_time_unix_nano, seen.end_time_unix_nano) == (span.started, span.ended)
        assert {a.key: getattr(a.value, a.value.WhichOneof("value")) for a in seen.attributes} == span.attributes
        assert (seen.status.code == otlp.Status.STATUS_CODE_ERROR) == span.failed
        links = [(link.trace_id.hex(), link.span_id.hex(), link.flags) for link in seen.links]
        assert links == ([(f"{span.link.trace_id:032x}", f"{span.link.span_id:016x}", 1)] if span.link else [])


@given(SPANS)
def test_nothing_is_written_that_the_protocol_does_not_know(span: Span) -> None:
    """What is not known is kept by its classes, and would be dropped here."""
    whole = read([span], {})
    known = ExportTraceServiceRequest()
    known.CopyFrom(whole)
    known.DiscardUnknownFields()
    assert known.SerializeToString(deterministic=True) == whole.SerializeToString(deterministic=True)
