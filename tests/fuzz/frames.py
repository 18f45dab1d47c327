"""What a WebSocket client may send: the protocol's frames, the same mutated, and nonsense, as Hypothesis draws it."""

import json
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

USERS = ("alice", "bob")
OPENINGS = ("subprotocol", "message", "ticket", "none", "foreign-ticket", "junk", "query")
PLACES = ("<own>", "<foreign>", "<ticket>", "<token>", "<foreign-token>", "<cursor>", "<foreign-cursor>")


@dataclass(frozen=True)
class Frame:
    """`kind`: text, binary, or raw bytes below the protocol. Placeholders in it are filled in by the player."""

    kind: str
    data: bytes

    def __repr__(self) -> str:
        return f"{self.kind}:{self.data[:200]!r}" + (f" ({len(self.data)} bytes)" if len(self.data) > 200 else "")


@dataclass(frozen=True)
class Play:
    """How each of the two users opens its socket, and who then sends what."""

    openings: tuple[str, str]
    steps: tuple[tuple[int, Frame], ...]


_words = st.one_of(
    st.sampled_from(PLACES), st.text(max_size=40), st.sampled_from(["", "\x00", "ntfy_" + "0" * 26, "../../x", "𝔘" * 8])
)
_kinds = st.sampled_from(["auth", "resume", "ack", "seen", "read", "pong", "hello", "notification", "reset", "", "__"])
_junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | _words,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
_right = st.one_of(
    st.builds(lambda m, i: {"type": m, "notification_id": i}, st.sampled_from(["seen", "read"]), _words),
    st.builds(lambda c: {"type": "resume", "cursor": c}, st.sampled_from(["<cursor>", "<foreign-cursor>"]) | _words),
    st.builds(lambda t: {"type": "auth", "token": t}, _words),
    st.sampled_from([{"type": "pong"}, {"type": "ack"}, {"type": "ack", "cursor": "<cursor>"}]),
)
_valid = st.one_of(
    st.builds(lambda m: {"type": m, "notification_id": "<own>"}, st.sampled_from(["seen", "read"])),
    st.just({"type": "resume", "cursor": "<cursor>"}),
    st.just({"type": "pong"}),
    st.just({"type": "ack"}),
)
_mutated = st.one_of(
    st.builds(lambda base, key, value: base | {key: value}, _right, _words | st.just("type"), _junk),
    st.builds(lambda kind, value: {"type": kind, "cursor": value, "notification_id": value}, _kinds, _junk),
    st.builds(lambda kind: {"type": kind}, _junk | _kinds),
    _junk,
)
_HUGE = (
    b'{"type":"pong","x":"' + b"a" * 65_000 + b'"}',
    b'{"type":"pong","x":"' + b"a" * 65_537 + b'"}',
    b"a" * 1_100_000,
    b"[" * 60_000,
    b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
    b'{"type":"read","notification_id":"' + b"9" * 60_000 + b'"}',
    b'{"type":"resume","cursor":"' + b"A" * 60_000 + b'"}',
    b'{"type":"pong","x":' + b"9" * 5_000 + b"}",
)
_ODD = (
    b'{"type":"read","notification_id":"\\ud800"}',
    b'{"type":"\\u0000"}',
    b'{"type":"pong","type":"read"}',
    b'{"type":NaN}',
    b"\xed\xa0\x80",
    b"\xff\xfe",
    b"",
    b"null",
    b'"pong"',
    b"{",
    b"\xef\xbb\xbf{}",
)


def _frame(kind: str, value: Any) -> Frame:
    return Frame(kind, json.dumps(value).encode())


def frames() -> st.SearchStrategy[Frame]:
    """More than half keeps the session alive, so that something stands behind the first refusal."""
    return st.one_of(
        *[st.builds(_frame, st.just("text"), _valid)] * 5,
        *[st.builds(_frame, st.just("text"), _right)] * 3,
        st.builds(_frame, st.just("text"), _mutated),
        st.builds(_frame, st.just("binary"), _right | _mutated),
        st.builds(Frame, st.sampled_from(["text", "binary"]), st.sampled_from(_HUGE + _ODD) | st.binary(max_size=200)),
        st.builds(Frame, st.just("raw"), st.binary(min_size=1, max_size=60)),
    )


def plays(length: int) -> st.SearchStrategy[Play]:
    opening = st.sampled_from(("subprotocol",) * 4 + ("message",) * 2 + OPENINGS)
    steps = st.lists(st.tuples(st.sampled_from([0, 1]), frames()), min_size=length // 2, max_size=length).map(tuple)
    return st.builds(Play, st.tuples(opening, opening), steps)
