"""Traces as the engine sees them: spans, the one that is current, and the W3C header that carries them on.

Knows no SDK: what records spans is given to `record`, by `wiring` and only where traces are on. Only a trace that is
sampled has spans; in any other there is no current one.

Invariant: while nothing records, no span is made, no header is read or sent, nothing is stored, and a call here costs a
look at one variable.
"""

import re
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar, Token
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal, Protocol

Kind = Literal["internal", "server", "client"]
Attributes = Mapping[str, str | int | float | None]

MAX_STATE = 512  # characters of `tracestate`; section 3.3.1.5 asks for no more to be carried
_TRACEPARENT = re.compile(
    r"(?P<version>(?!ff)[0-9a-f]{2})-(?P<trace>[0-9a-f]{32})-(?P<span>[0-9a-f]{16})-(?P<flags>[0-9a-f]{2})(?P<rest>-.*)?"
)
_NOTHING: AbstractContextManager[None] = nullcontext()


@dataclass(frozen=True, slots=True)
class Parent:
    """A span of somebody else. `state`: the `tracestate` that came with it."""

    trace_id: int
    span_id: int
    sampled: bool
    state: str = ""


@dataclass(slots=True)
class Span:
    """One step of a sampled trace; times are nanoseconds of the epoch. `link`: what led here from another trace."""

    name: str
    kind: Kind
    trace_id: int
    span_id: int
    parent: Parent | None
    attributes: dict[str, str | int | float]
    state: str = ""
    link: Parent | None = None
    started: int = field(default_factory=time.time_ns)
    ended: int = 0
    failed: bool = False

    @property
    def traceparent(self) -> str:
        return f"00-{self.trace_id:032x}-{self.span_id:016x}-01"

    @property
    def as_parent(self) -> Parent:
        return Parent(self.trace_id, self.span_id, True, self.state)


class Recorder(Protocol):
    """What samples, names and takes spans; nothing here waits."""

    def first(self, name: str, kind: Kind, parent: Parent | None) -> Span | None:
        """The first span of this process in a trace, new or `parent`'s. None: it is not sampled."""
        ...

    def new_span_id(self) -> int: ...
    def take(self, span: Span) -> None:
        """One that has ended."""
        ...


_recorder: Recorder | None = None
_current: ContextVar[Span | None] = ContextVar("span", default=None)


def record(recorder: Recorder | None) -> None:
    """From now on, for the whole process; None ends it."""
    global _recorder
    _recorder = recorder


def stop_recording(recorder: Recorder) -> None:
    """If it is still the one."""
    if _recorder is recorder:
        record(None)


class _Open:
    """A span while it is current, or none in the place of one that is another's."""

    __slots__ = ("_span", "_token")

    def __init__(self, span: Span | None) -> None:
        self._span = span

    def __enter__(self) -> Span | None:
        self._token: Token[Span | None] = _current.set(self._span)
        return self._span

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, place: TracebackType | None
    ) -> None:
        _current.reset(self._token)
        if self._span is not None and _recorder is not None:
            self._span.failed |= kind is not None
            self._span.ended = time.time_ns()
            _recorder.take(self._span)


def begin(name: str, kind: Kind, parent: Parent | None) -> AbstractContextManager[Span | None]:
    """A step that continues its caller's trace, or begins one."""
    return _NOTHING if _recorder is None else _Open(_recorder.first(name, kind, parent))


def resume(
    name: str, traceparent: str | None, attributes: Attributes, *, since: int | None = None, linked: bool = False
) -> AbstractContextManager[Span | None]:
    """A step in the trace that was stored with a notification; none without it, whatever is current. `since`: when it
    began, if not now. `linked`: names the current span as what led to it."""
    if _recorder is None:
        return _NOTHING
    parent = parsed(traceparent) if traceparent else None
    span = _recorder.first(name, "internal", parent) if parent else None
    if span is not None:
        span.attributes.update(_given(attributes))
        span.started = since or span.started
        led = _current.get() if linked else None
        span.link = led.as_parent if led else None
    return _Open(span)


def span(name: str, kind: Kind, attributes: Attributes) -> AbstractContextManager[Span | None]:
    """A step within the current one; none where there is none."""
    if _recorder is None or (within := _current.get()) is None:
        return _NOTHING
    own = _recorder.new_span_id()
    return _Open(Span(name, kind, within.trace_id, own, within.as_parent, _given(attributes), within.state))


def note(attributes: Attributes, *, failed: bool = False) -> None:
    """Tells something of the current span."""
    if (current := _current.get()) is not None:
        current.attributes.update(_given(attributes))
        current.failed |= failed


def current_traceparent() -> str | None:
    """The header that makes another's span a child of the current one."""
    return None if (current := _current.get()) is None else current.traceparent


def current_trace_id() -> str | None:
    return None if (current := _current.get()) is None else f"{current.trace_id:032x}"


def parsed(traceparent: str, tracestate: str = "") -> Parent | None:
    """W3C Trace Context, section 3.2. None for what is malformed, as if there were no header."""
    found = _TRACEPARENT.fullmatch(traceparent)
    if found is None or (found["rest"] and found["version"] == "00"):
        return None
    trace_id, span_id = int(found["trace"], 16), int(found["span"], 16)
    if not trace_id or not span_id:
        return None
    state = tracestate if len(tracestate) <= MAX_STATE else ""
    return Parent(trace_id, span_id, bool(int(found["flags"], 16) & 1), state)


def _given(attributes: Attributes) -> dict[str, str | int | float]:
    return {name: value for name, value in attributes.items() if value is not None}
