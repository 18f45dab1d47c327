"""Spans as OTLP has them in protobuf (opentelemetry/proto/trace/v1/trace.proto), as bytes.

By hand, because it is done for every step of every notification: 1.3 µs a span against 3.1 of the protobuf package,
which a process that traces would load for this alone (ADR 0019). Tests read it with the protocol's own classes.
"""

import struct
from collections.abc import Iterable, Mapping
from functools import lru_cache

from notification_engine.kit.tracing import Kind, Parent, Span

KINDS: dict[Kind, bytes] = {"internal": b"\x30\x01", "server": b"\x30\x02", "client": b"\x30\x03"}
SAMPLED = b"\x01\x00\x00\x00"
_FLAGS, _FAILED = b"\x85\x01" + SAMPLED, b"\x7a\x02\x18\x02"
_TIMES = struct.Struct("<cQcQ")
_DOUBLE = struct.Struct("<d")
_64_BITS = (1 << 64) - 1


def encoded(span: Span) -> bytes:
    """One of `spans` of a ScopeSpans, with its tag and length: such fields stand behind each other as they are."""
    parts = [_ids(span.trace_id, span.span_id)]
    if span.parent is not None:
        parts.append(b"\x22\x08" + span.parent.span_id.to_bytes(8, "big"))
    if span.state:
        parts.append(_field(b"\x1a", span.state.encode()))
    parts.append(_name(span.name))
    parts.append(KINDS[span.kind])
    parts.append(_TIMES.pack(b"\x39", span.started, b"\x41", span.ended))
    parts += [_attribute(b"\x4a", name, value) for name, value in span.attributes.items()]
    if span.link is not None:
        parts.append(_link(span.link))
    if span.failed:
        parts.append(_FAILED)
    parts.append(_FLAGS)
    return _field(b"\x12", b"".join(parts))


class Envelope:
    """What stands around the spans of one process in every ExportTraceServiceRequest."""

    def __init__(self, resource: Mapping[str, str], scope: str) -> None:
        attributes = b"".join(_attribute(b"\x0a", name, value) for name, value in resource.items())
        self._resource = _field(b"\x0a", attributes)
        self._scope = _field(b"\x0a", _field(b"\x0a", scope.encode()))

    def around(self, spans: Iterable[bytes]) -> bytes:
        """`spans`: each as `encoded` gives it."""
        return _field(b"\x0a", self._resource + _field(b"\x12", self._scope + b"".join(spans)))


def _ids(trace_id: int, span_id: int) -> bytes:
    return b"\x0a\x10" + trace_id.to_bytes(16, "big") + b"\x12\x08" + span_id.to_bytes(8, "big")


def _link(to: Parent) -> bytes:
    return _field(b"\x6a", _ids(to.trace_id, to.span_id) + b"\x35" + SAMPLED)


@lru_cache(1024)
def _name(name: str) -> bytes:
    return _field(b"\x2a", name.encode())


@lru_cache(1024, typed=True)
def _attribute(tag: bytes, name: str, value: str | int | float) -> bytes:
    """A KeyValue. Most are the same few, again and again."""
    match value:
        case int():
            any_value = b"\x18" + _varint(value & _64_BITS)
        case float():
            any_value = b"\x21" + _DOUBLE.pack(value)
        case _:
            any_value = _field(b"\x0a", value.encode(errors="replace"))
    return _field(tag, _field(b"\x0a", name.encode()) + _field(b"\x12", any_value))


def _field(tag: bytes, body: bytes) -> bytes:
    return tag + _varint(len(body)) + body


def _varint(value: int) -> bytes:
    """Seven bits a byte, the lowest first; the highest bit says that more follow."""
    if value < 0x80:
        return bytes((value,))
    groups = bytearray()
    while value >= 0x80:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    groups.append(value)
    return bytes(groups)
