import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.builders import NOW, ULID, a_delivery, a_notification

from notification_engine.domain.delivery import Channel
from notification_engine.domain.notification import (
    MAX_DELIVERIES,
    Action,
    Idempotency,
    Inbox,
    base_id,
    document_id_of_delivery,
)
from notification_engine.services.drafts import split
from notification_engine.services.intake import key_digest

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))


@pytest.mark.parametrize(
    ("count", "sizes"),
    [(1, [1]), (31, [31]), (32, [32]), (33, [32, 1]), (64, [32, 32]), (65, [32, 32, 1]), (100, [32, 32, 32, 4])],
)
def test_more_than_32_deliveries_go_to_siblings(count: int, sizes: list[int]) -> None:
    parts = split(a_notification([a_delivery(i) for i in range(count)]))
    assert [len(part.deliveries) for part in parts] == sizes
    assert [d.id for part in parts for d in part.deliveries] == [f"dlv_{ULID}_{i}" for i in range(count)]


@given(st.integers(0, 400))
def test_every_delivery_stands_in_the_document_that_its_id_leads_to(count: int) -> None:
    parts = split(a_notification([a_delivery(i) for i in range(count)]))
    assert all(document_id_of_delivery(d.id) == part.id for part in parts for d in part.deliveries)
    assert sum(len(part.deliveries) for part in parts) == count
    assert all(len(part.deliveries) <= MAX_DELIVERIES for part in parts)
    assert {base_id(part.id) for part in parts} == {f"ntfy_{ULID}"}


def test_a_sibling_says_what_the_notification_says_and_holds_what_is_only_once() -> None:
    once = {
        "inbox": Inbox(visible_at=NOW),
        "idempotency": Idempotency("k", "b"),
        "dedup_key": "d",
    }
    said = {
        "data": {"run": 7},
        "actions": [Action("Open", "https://x.example")],
        "email": "ada@example.org",
        "scheduled_at": NOW,
        "expires_at": NOW,
        "correlation_id": "c",
        "source": "s",
        "sensitive": True,
    }
    notification = a_notification([a_delivery(i, Channel.WEBHOOK) for i in range(33)], **once, **said)
    first, sibling = split(notification)
    assert first is notification
    assert {name: getattr(first, name) for name in once} == once
    assert [getattr(sibling, name) for name in once] == [None] * 3
    shared = (*said, "event_id", "user_id", "notification_type", "priority", "title", "body", "channels", "created_at")
    assert {name: getattr(sibling, name) for name in shared} == {name: getattr(first, name) for name in shared}
    assert sibling.lease is not first.lease, "each is leased by itself"


def test_a_notification_that_fits_is_left_as_it_is() -> None:
    notification = a_notification([a_delivery(i) for i in range(32)])
    assert split(notification) == [notification]


def test_a_digest_is_a_hash_and_stays_as_it_was_over_releases() -> None:
    assert key_digest("u1", "k1") == "16065aa26bf84ea672ef44642ff43455f283af7bb17f45f4250c3d6fe8761af9"


def test_a_key_belongs_to_its_caller() -> None:
    pairs = list(itertools.product(["a", "ab", "", "a b"], ["c", "bc", "", "b c"]))
    assert len({key_digest(*pair) for pair in pairs}) == len(pairs)


@given(texts, texts, texts, texts)
def test_two_callers_never_share_a_digest(sub: str, key: str, other_sub: str, other_key: str) -> None:
    same = (sub, key) == (other_sub, other_key)
    assert (key_digest(sub, key) == key_digest(other_sub, other_key)) is same
