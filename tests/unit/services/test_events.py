import json
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.builders import NOW, ULID

from notification_engine.domain.errors import RequestError
from notification_engine.domain.feedback import EventKind as K
from notification_engine.services.events import sendgrid_events, ses_event

DELIVERY = f"dlv_{ULID}_0"
leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20)
anything = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner), max_leaves=8
)
sendgrid_names = st.sampled_from(["event", "timestamp", "email", "delivery_id", "sg_event_id", "type", "status", "x"])
ses_names = st.sampled_from(["eventType", "notificationType", "mail", "bounce", "timestamp", "tags", "destination"])
ses_words = st.sampled_from(["Bounce", "Complaint", "Delivery", "DeliveryDelay", "Rendering Failure", "Open", "x"])


def sendgrid(**row: Any) -> Any:
    (event,) = sendgrid_events(json.dumps([{"event": "delivered"} | row]).encode(), NOW)
    return event


def ses(told: Any) -> Any:
    return ses_event("id-1", json.dumps(told), NOW)


@given(st.lists(st.dictionaries(sendgrid_names, anything, max_size=8), max_size=3))
def test_any_object_of_sendgrid_becomes_an_event(rows: list[dict[str, Any]]) -> None:
    try:
        body = orjson.dumps(rows)
    except orjson.JSONEncodeError:  # a whole number of more than 64 bits
        return
    events = sendgrid_events(body, NOW)
    assert len(events) == len(rows)
    for event in events:
        assert event.id.startswith("sendgrid:")
        assert len(event.id) < 300
        assert event.at.tzinfo is UTC
        assert event.delivery_id is None


@given(anything | st.dictionaries(ses_names, anything | ses_words | st.dictionaries(ses_names, anything), max_size=7))
def test_any_message_of_sns_becomes_an_event(told: Any) -> None:
    event = ses(told)
    assert event.id == "ses:id-1"
    assert event.at.tzinfo is not None
    assert json.loads(event.raw) == told


@given(st.binary(max_size=60))
def test_no_body_raises_anything_but_a_400(body: bytes) -> None:
    with suppress(RequestError):
        assert all(isinstance(e.id, str) for e in sendgrid_events(body, NOW))


@pytest.mark.parametrize(
    ("row", "kind"),
    [
        ({"event": "bounce", "type": "bounce"}, K.BOUNCED_HARD),
        ({"event": "bounce", "type": "blocked"}, K.BOUNCED_SOFT),
        ({"event": "bounce", "type": "expired"}, K.BOUNCED_SOFT),
        ({"event": "bounce", "status": "5.1.1"}, K.BOUNCED_HARD),
        ({"event": "bounce", "status": "4.0.0"}, K.BOUNCED_SOFT),
        ({"event": "bounce"}, K.BOUNCED_SOFT),
        ({"event": "group_unsubscribe"}, K.UNSUBSCRIBED),
        ({"event": "group_resubscribe"}, None),
        ({"event": None}, None),
        ({"event": ["bounce"]}, None),
    ],
)
def test_a_word_of_sendgrid_has_one_meaning(row: dict[str, Any], kind: K | None) -> None:
    assert sendgrid(**row).kind is kind


def test_an_event_without_an_id_is_named_by_its_content() -> None:
    first, again, other = sendgrid(email="a@b.example"), sendgrid(email="a@b.example"), sendgrid(email="c@d.example")
    assert first.id == again.id != other.id
    assert sendgrid(sg_event_id="abc").id == "sendgrid:abc"


@pytest.mark.parametrize("given_id", ["", "x" * 201, "a\x00b", 7, None, ["a"]])
def test_an_id_that_cannot_serve_is_replaced(given_id: Any) -> None:
    assert sendgrid(sg_event_id=given_id).id.startswith("sendgrid:sha256-")


@pytest.mark.parametrize(
    "value",
    [None, 7, "", DELIVERY.upper(), DELIVERY + "x", f"{DELIVERY}\n", "dlv_short_0", f"ntfy_{ULID}", [DELIVERY]],
)
def test_what_is_no_delivery_id_of_ours_is_none(value: Any) -> None:
    assert sendgrid(delivery_id=DELIVERY).delivery_id == DELIVERY
    assert sendgrid(delivery_id=value).delivery_id is None


@pytest.mark.parametrize("value", [None, True, -5, 0, 2**40, "1700000000", 1.5])
def test_a_moment_that_cannot_be_is_now(value: Any) -> None:
    assert sendgrid(timestamp=1_700_000_000).at == datetime.fromtimestamp(1_700_000_000, UTC)
    assert sendgrid(timestamp=value).at == NOW


def test_the_detail_holds_codes_and_never_free_text() -> None:
    event = sendgrid(event="bounce", type="bounce", status="5.1.1", reason="550 <ada@example.org> is unknown")
    assert event.detail == "bounce 5.1.1"
    assert sendgrid(type="ada@example.org says no").detail is None
    assert "ada" in event.raw


def test_the_address_of_a_bounce_is_the_one_that_bounced() -> None:
    mail = {"destination": ["one@example.org"], "tags": {"notification-delivery-id": [DELIVERY]}}
    bounce = {"bounceType": "Permanent", "bouncedRecipients": [{"emailAddress": "two@example.org"}]}
    event = ses({"eventType": "Bounce", "mail": mail, "bounce": bounce})
    assert (event.kind, event.address, event.delivery_id) == (K.BOUNCED_HARD, "two@example.org", DELIVERY)
    assert ses({"eventType": "Delivery", "mail": mail}).address == "one@example.org"


def test_no_text_of_an_event_shows_an_address() -> None:
    assert "ada" not in repr(sendgrid(email="ada@example.org"))
