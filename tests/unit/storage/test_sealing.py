"""What of a document is sealed, and that the rest is as it was."""

from dataclasses import replace
from typing import Any

import bson
import pytest
from tests.unit.builders import a_delivery, a_notification

from notification_engine.domain.delivery import Channel
from notification_engine.domain.errors import InvalidRequest
from notification_engine.domain.notification import Action, Idempotency, Notification, sibling_id
from notification_engine.security.envelope import DataKey
from notification_engine.storage.codec import encode, to_document, to_notification
from notification_engine.storage.sealing import _opened, _sealed, is_sealed

KEY = DataKey.new()
ADDRESS = "ada@example.org"


def a_full(**fields: Any) -> Notification:
    deliveries = [
        a_delivery(0, Channel.EMAIL, endpoint=ADDRESS),
        a_delivery(1, Channel.WEBHOOK, endpoint="whk_1"),
        a_delivery(2, Channel.IN_APP),
    ]
    plain: dict[str, Any] = {
        "email": ADDRESS,
        "title": "A title",
        "body": "A body",
        "data": {"code": "1234", "deep": [{"a": 1}]},
        "actions": [Action("Open", "https://x.example")],
        "idempotency": Idempotency("key", "fingerprint", ("pending",)),
    }
    return a_notification(deliveries, **plain | fields)


def stored(notification: Notification, key: DataKey = KEY) -> dict[str, Any]:
    return dict(bson.decode(encode(_sealed(notification, key))))


def without_times(notification: Notification) -> Notification:
    return to_notification(bson.decode(encode(to_document(notification))))


@pytest.mark.parametrize("sensitive", [False, True])
def test_what_is_sealed_comes_back_whole(sensitive: bool) -> None:
    given = a_full(sensitive=sensitive)
    document = stored(given)
    assert is_sealed(document)
    assert _opened(document, {given.user_id: KEY}) == without_times(given)


def test_an_address_is_sealed_once_and_a_webhook_not_at_all() -> None:
    document = stored(a_full())
    assert isinstance(document["email"], bytes)
    assert [d.get("endpoint") for d in document["deliveries"]] == [document["email"], "whk_1", None]
    assert (document["title"], document["data"]["code"]) == ("A title", "1234")


def test_a_sensitive_type_leaves_no_text_and_no_hash_of_one() -> None:
    raw = encode(_sealed(a_full(sensitive=True), KEY))
    for word in (b"A title", b"A body", b"1234", b"https://x.example", b"fingerprint", ADDRESS.encode()):
        assert word not in raw


def test_without_the_key_a_document_is_erased_and_the_rest_of_it_is_read() -> None:
    given = a_full(sensitive=True)
    for keys in ({}, {given.user_id: DataKey.new()}):
        found = _opened(stored(given), keys)
        assert (found.erased, found.title, found.body, found.data, found.email) == (True, "", "", {}, None)
        assert [d.endpoint for d in found.deliveries] == [None, "whk_1", None]


def test_a_sibling_opens_with_the_place_of_its_notification() -> None:
    """Its deliveries are sealed for the same document, whose id its own begins with."""
    given = a_full()
    sibling = replace(given, id=sibling_id(given.id, 1))
    assert _opened(stored(sibling), {given.user_id: KEY}).email == ADDRESS


def test_nothing_is_sealed_that_holds_neither_address_nor_sensitive_text() -> None:
    assert not is_sealed(to_document(a_notification([a_delivery(0, Channel.WEBHOOK, endpoint="whk_1")])))


@pytest.mark.parametrize("data", [{"n": 2**70}, {"s": "\ud800"}])
def test_what_bson_refuses_is_refused_by_its_field_also_where_it_is_sealed(data: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest) as error:
        _sealed(a_full(sensitive=True, data=data), KEY)
    assert error.value.field == "data"
