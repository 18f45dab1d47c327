"""The seam of traces, without an SDK: what begins, continues and is left out, and what a header may say."""

import asyncio
import itertools
from collections.abc import Iterator

import pytest

from notification_engine.kit import tracing
from notification_engine.kit.tracing import Kind, Parent, Span, parsed

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
HEADER = f"00-{TRACE}-{SPAN}-01"


class Kept:
    """Keeps what it takes; samples what its parent does, and every new trace."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self._ids = itertools.count(1)

    def first(self, name: str, kind: Kind, parent: Parent | None) -> Span | None:
        if parent is not None and not parent.sampled:
            return None
        trace_id = parent.trace_id if parent else next(self._ids)
        return Span(name, kind, trace_id, self.new_span_id(), parent, {}, parent.state if parent else "")

    def new_span_id(self) -> int:
        return next(self._ids)

    def take(self, span: Span) -> None:
        self.spans.append(span)


@pytest.fixture
def kept() -> Iterator[Kept]:
    recorder = Kept()
    tracing.record(recorder)
    yield recorder
    tracing.stop_recording(recorder)


def test_off_makes_nothing_and_reads_nothing() -> None:
    with tracing.begin("request", "server", parsed(HEADER)) as request, tracing.span("write", "client", {}) as write:
        tracing.note({"a": 1})
        assert (request, write, tracing.current_traceparent(), tracing.current_trace_id()) == (None, None, None, None)
    with tracing.resume("lane", HEADER, {}) as lane:
        assert lane is None


def test_a_step_is_the_child_of_the_one_around_it(kept: Kept) -> None:
    with tracing.begin("request", "server", None) as request:
        assert request is not None
        with tracing.span("write", "client", {"count": 2, "absent": None}):
            tracing.note({"later": "yes"}, failed=True)
        assert tracing.current_traceparent() == request.traceparent
    write, first = kept.spans
    assert first is request
    assert write.parent == request.as_parent
    assert (write.attributes, write.failed, first.failed) == ({"count": 2, "later": "yes"}, True, False)
    assert first.started <= write.started <= write.ended <= first.ended
    assert tracing.current_traceparent() is None


def test_a_stored_trace_is_continued_and_names_what_led_to_it(kept: Kept) -> None:
    with (
        tracing.begin("request", "server", None) as request,
        tracing.resume("callback", HEADER, {"x": None}, since=5, linked=True),
    ):
        assert tracing.current_trace_id() == TRACE
    span = kept.spans[0]
    assert span.parent == Parent(int(TRACE, 16), int(SPAN, 16), True)
    assert request is not None
    assert (span.link, span.started, span.attributes) == (request.as_parent, 5, {})


def test_a_step_of_no_trace_is_not_taken_for_the_one_around_it(kept: Kept) -> None:
    """A lane's task is made in the context of whatever request came last."""
    with tracing.begin("request", "server", None), tracing.resume("lane", None, {}), tracing.span("call", "client", {}):
        assert tracing.current_traceparent() is None
    assert [span.name for span in kept.spans] == ["request"]


def test_what_is_not_sampled_has_no_spans_and_no_header(kept: Kept) -> None:
    with tracing.begin("request", "server", parsed(HEADER[:-1] + "0")), tracing.span("write", "client", {}):
        assert tracing.current_traceparent() is None
    assert kept.spans == []


def test_a_step_that_raises_has_failed(kept: Kept) -> None:
    with pytest.raises(ValueError, match="no"), tracing.begin("request", "server", None):
        raise ValueError("no")
    assert kept.spans[0].failed


async def test_tasks_that_run_at_once_keep_their_traces_apart(kept: Kept) -> None:
    async def one() -> str | None:
        with tracing.begin("request", "server", None):
            await asyncio.sleep(0)
            return tracing.current_trace_id()

    assert len(set(await asyncio.gather(*(one() for _ in range(10))))) == 10


def test_another_recorder_is_not_ended_by_the_one_before_it(kept: Kept) -> None:
    tracing.stop_recording(Kept())
    with tracing.begin("request", "server", None) as request:
        assert request is not None


@pytest.mark.parametrize(
    "header",
    [
        "",
        "junk",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}-{SPAN}-01-more",
        f"00-{TRACE}-{SPAN}-01\n",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE[:-1]}g-{SPAN}-01",
        f"00-{'٣' * 32}-{SPAN}-01",
    ],
)
def test_a_malformed_header_is_as_none(header: str) -> None:
    assert parsed(header) is None


def test_a_later_version_may_say_more() -> None:
    assert parsed(f"cc-{TRACE}-{SPAN}-03-what-comes") == Parent(int(TRACE, 16), int(SPAN, 16), True)


def test_a_state_that_is_too_long_is_left() -> None:
    assert parsed(HEADER, "a=b") == Parent(int(TRACE, 16), int(SPAN, 16), True, "a=b")
    assert parsed(HEADER, "a=" + "b" * tracing.MAX_STATE) == Parent(int(TRACE, 16), int(SPAN, 16), True)
