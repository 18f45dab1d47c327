from datetime import UTC, datetime, timedelta
from typing import Any

import bson
import pytest
from bson.codec_options import CodecOptions
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.builders import NOW, a_delivery, a_notification

from notification_engine.domain.delivery import Channel, Delivery, DeliveryStatus, NotificationStatus, Reason
from notification_engine.domain.errors import InvalidRequest
from notification_engine.domain.notification import (
    Action,
    Decision,
    Idempotency,
    Inbox,
    Lease,
    Notification,
    Priority,
)
from notification_engine.storage.codec import MAX_BYTES, MAX_DEPTH, encode, to_document, to_notification

AWARE: CodecOptions[dict[str, Any]] = CodecOptions(tz_aware=True)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
times = st.integers(0, 4_102_444_800_000).map(lambda ms: datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=ms))
channels = st.sampled_from(list(Channel))
leaves = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | texts
data = st.dictionaries(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8),
    st.recursive(leaves, lambda c: st.lists(c, max_size=3), max_leaves=8),
    max_size=4,
)


def maybe(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | strategy


deliveries = st.builds(
    Delivery,
    id=texts,
    channel=channels,
    status=st.sampled_from(list(DeliveryStatus)),
    provider=maybe(texts),
    endpoint=maybe(texts),
    held=st.booleans(),
    attempts=st.integers(0, 9),
    next_attempt_at=maybe(times),
    reason=maybe(st.sampled_from(list(Reason))),
    provider_message_id=maybe(texts),
    claim=maybe(st.integers(0, 9)),
    mark=maybe(st.fixed_dictionaries({"fence": st.integers(0, 9), "attempt": st.integers(1, 9)})),
    created_at=maybe(times),
    updated_at=maybe(times),
    delivered_at=maybe(times),
)
notifications = st.builds(
    Notification,
    id=texts,
    event_id=texts,
    user_id=texts,
    notification_type=texts,
    priority=st.sampled_from(list(Priority)),
    title=texts,
    body=texts,
    channels=st.lists(channels, max_size=3),
    created_at=times,
    status=st.sampled_from(list(NotificationStatus)),
    data=data,
    actions=st.lists(st.builds(Action, texts, texts), max_size=2),
    email=maybe(texts),
    scheduled_at=maybe(times),
    expires_at=maybe(times),
    due_at=maybe(times),
    lease=st.builds(Lease, maybe(texts), maybe(texts), st.integers(0, 9), maybe(times), st.integers(0, 3)),
    decisions=st.lists(st.builds(Decision, texts, texts, maybe(channels), maybe(times)), max_size=2),
    deliveries=st.lists(deliveries, max_size=3),
    inbox=maybe(st.builds(Inbox, maybe(times), maybe(times), maybe(times), maybe(times), maybe(times))),
    idempotency=maybe(st.builds(Idempotency, texts, texts, st.lists(texts, max_size=2).map(tuple))),
    dedup_key=maybe(texts),
    correlation_id=maybe(texts),
    source=maybe(texts),
)


@given(notifications)
def test_a_notification_comes_back_from_the_store_as_it_went(notification: Notification) -> None:
    stored = bson.decode(encode(to_document(notification)), AWARE)
    assert to_notification(stored) == notification


def absent(document: Any) -> list[str]:
    """The paths of every null."""
    found = []
    stack: list[tuple[str, Any]] = [("", document)]
    while stack:
        path, value = stack.pop()
        if value is None:
            found.append(path.lstrip("."))
        children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        stack += [(f"{path}.{name}", child) for name, child in children]
    return found


def test_what_is_absent_is_absent_but_for_the_null_of_the_unread_index() -> None:
    document = to_document(a_notification([a_delivery()], inbox=Inbox(visible_at=NOW), decisions=[Decision("c", "t")]))
    assert absent(document) == ["inbox.read_at"]
    assert absent(to_document(a_notification([a_delivery()]))) == []
    read = to_document(a_notification(inbox=Inbox(visible_at=NOW, read_at=NOW)))
    assert read["inbox"] == {"visible_at": NOW, "read_at": NOW}


def test_the_rank_is_stored_beside_the_priority() -> None:
    """The queue's index is on it."""
    documents = [to_document(a_notification(priority=p)) for p in Priority]
    assert [(d["priority"], d["rank"]) for d in documents] == [(str(p), i) for i, p in enumerate(Priority)]


def test_a_document_read_without_some_fields_is_a_notification() -> None:
    document = to_document(a_notification([a_delivery()]))
    for name in ("data", "actions", "lease", "decisions", "deliveries"):
        del document[name]
    read = to_notification(document)
    assert (read.data, read.actions, read.lease, read.deliveries) == ({}, [], Lease(), [])


def nested(depth: int) -> Any:
    value: Any = 1
    for level in range(depth):
        value = {"a": value} if level % 2 else [value]
    return value


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("data", {"n": 2**63}),
        ("data", {"n": -(2**70)}),
        ("data", {"text": "\ud800"}),
        ("data", {"a\0b": 1}),
        ("data", {1: "a"}),
        ("data", {"what": object()}),
        ("data", {"deep": nested(MAX_DEPTH)}),
        ("data", {"deep": nested(100_000)}),
        ("title", "\udfff"),
        ("body", "x\ud800"),
    ],
    ids=lambda value: repr(value)[:30] if not isinstance(value, dict) else next(iter(value)).__repr__(),
)
def test_what_cannot_be_stored_is_refused_by_its_field_before_it_joins_a_batch(name: str, value: Any) -> None:
    with pytest.raises(InvalidRequest) as refused:
        encode(to_document(a_notification(**{name: value})))
    assert refused.value.field == name


def test_a_document_may_be_nested_as_deep_as_the_rule_says() -> None:
    document = {"data": nested(MAX_DEPTH - 1)}
    assert bson.decode(encode(document)) == document
    with pytest.raises(InvalidRequest, match="deep"):
        encode({"data": nested(MAX_DEPTH)})


def test_a_document_larger_than_the_bound_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="larger"):
        encode({"data": "x" * MAX_BYTES})
    assert len(encode({"data": "x" * (MAX_BYTES - 100)})) <= MAX_BYTES
