from datetime import timedelta

import orjson
from tests.unit.builders import NOW, a_delivery, a_notification

from notification_engine.domain.delivery import Channel, DeliveryStatus, Reason
from notification_engine.domain.notification import Action, Idempotency, Inbox, Lease
from notification_engine.services.views import WITHHELD, delivery_view, notification_view

LATER = NOW + timedelta(minutes=1)


def test_a_notification_is_shown_with_what_its_owner_may_see() -> None:
    view = notification_view(
        a_notification([a_delivery(0, Channel.IN_APP)], actions=[Action("Open", "https://x.example")], data={"run": 7})
    )
    assert list(view) == [
        "notification_id",
        "event_id",
        "user_id",
        "notification_type",
        "priority",
        "status",
        "title",
        "body",
        "data",
        "actions",
        "channels",
        "created_at",
        "scheduled_at",
        "expires_at",
        "correlation_id",
        "visible_at",
        "seen_at",
        "read_at",
        "archived_at",
        "snoozed_until",
    ]
    assert view["actions"] == [{"label": "Open", "url": "https://x.example"}]
    assert view["channels"] == ["in_app"]
    assert view["data"] == {"run": 7}


def test_neither_address_nor_endpoint_nor_lease_nor_key_is_shown() -> None:
    secret = {
        "email": "ada@secret.example",
        "idempotency": Idempotency("secret-key", "secret-body"),
        "lease": Lease("secret-owner", "secret-token", 7),
        "source": "secret-source",
        "dedup_key": "secret-dedup",
    }
    delivery = a_delivery(endpoint="secret-endpoint", mark={"fence": 1}, provider_message_id="secret-message")
    assert b"secret" not in orjson.dumps(notification_view(a_notification([delivery], **secret), deliveries=True))


def test_an_inbox_is_shown_and_its_absence_too() -> None:
    inbox = Inbox(visible_at=NOW, seen_at=LATER, read_at=LATER, archived_at=None, snoozed_until=LATER)
    names = ("visible_at", "seen_at", "read_at", "archived_at", "snoozed_until")
    view = notification_view(a_notification(inbox=inbox))
    assert [view[n] for n in names] == [NOW, LATER, LATER, None, LATER]
    assert [notification_view(a_notification())[n] for n in names] == [None] * 5


def test_deliveries_are_shown_when_asked_for() -> None:
    notification = a_notification([a_delivery(0), a_delivery(1, Channel.EMAIL)])
    assert "deliveries" not in notification_view(notification)
    shown = notification_view(notification, deliveries=True)["deliveries"]
    assert [d["delivery_id"] for d in shown] == [d.id for d in notification.deliveries]


def test_a_delivery_is_shown_with_its_state_and_reason() -> None:
    failed = a_delivery(status=DeliveryStatus.FAILED, reason=Reason.TIMEOUT, attempts=3, provider="webhook", held=True)
    assert delivery_view(failed) == {
        "delivery_id": failed.id,
        "channel": "webhook",
        "status": "failed",
        "attempts": 3,
        "reason": "timeout",
        "provider": "webhook",
        "held": True,
        "created_at": NOW,
        "updated_at": NOW,
        "delivered_at": None,
        "next_attempt_at": None,
    }


def test_a_view_can_be_sent_as_json() -> None:
    notification = a_notification([a_delivery(0)], inbox=Inbox(visible_at=NOW))
    assert orjson.loads(orjson.dumps(notification_view(notification, deliveries=True)))["status"] == "pending"


def test_texts_of_a_sensitive_type_are_for_the_recipient_alone() -> None:
    fields = {"title": "T", "body": "B", "data": {"a": 1}, "actions": [Action("Open", "https://x.example")]}
    names = ("title", "body", "data", "actions")
    given = a_notification(user_id="u1", sensitive=True, **fields)
    assert [notification_view(given, reader="op")[n] for n in names] == [WITHHELD, "", {}, []]
    for reader in ("u1", None):
        assert notification_view(given, reader=reader)["title"] == "T"
    assert notification_view(a_notification(user_id="u1", **fields), reader="op")["title"] == "T"
