"""How a notification is shown to people and programs: one view for answers and live frames."""

from typing import Any

from notification_engine.domain.delivery import Delivery
from notification_engine.domain.notification import Notification

WITHHELD = "(Only the recipient reads this.)"


def notification_view(
    notification: Notification, *, deliveries: bool = False, reader: str | None = None
) -> dict[str, Any]:
    """`reader`: who asks, where that may be somebody other than the recipient; texts of a sensitive type are not for
    them."""
    inbox = notification.inbox
    view: dict[str, Any] = {
        "notification_id": notification.id,
        "event_id": notification.event_id,
        "user_id": notification.user_id,
        "notification_type": notification.notification_type,
        "priority": notification.priority,
        "status": notification.status,
        "title": notification.title,
        "body": notification.body,
        "data": notification.data,
        "actions": [{"label": a.label, "url": a.url} for a in notification.actions],
        "channels": list(notification.channels),
        "created_at": notification.created_at,
        "scheduled_at": notification.scheduled_at,
        "expires_at": notification.expires_at,
        "correlation_id": notification.correlation_id,
        "visible_at": inbox.visible_at if inbox else None,
        "seen_at": inbox.seen_at if inbox else None,
        "read_at": inbox.read_at if inbox else None,
        "archived_at": inbox.archived_at if inbox else None,
        "snoozed_until": inbox.snoozed_until if inbox else None,
    }
    if notification.sensitive and reader not in (None, notification.user_id):
        view |= {"title": WITHHELD, "body": "", "data": {}, "actions": []}
    if deliveries:
        view["deliveries"] = [delivery_view(d) for d in notification.deliveries]
    return view


def delivery_view(delivery: Delivery) -> dict[str, Any]:
    return {
        "delivery_id": delivery.id,
        "channel": delivery.channel,
        "status": delivery.status,
        "attempts": delivery.attempts,
        "reason": delivery.reason,
        "provider": delivery.provider,
        "held": delivery.held,
        "created_at": delivery.created_at,
        "updated_at": delivery.updated_at,
        "delivered_at": delivery.delivered_at,
        "next_attempt_at": delivery.next_attempt_at,
    }
