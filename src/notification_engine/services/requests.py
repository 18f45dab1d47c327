"""What a caller asks of the use cases, and what it is answered: plain values, already validated by `api`."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from notification_engine.domain.delivery import Channel, NotificationStatus
from notification_engine.domain.notification import Action, Priority


@dataclass(frozen=True, slots=True)
class RecipientRequest:
    user_id: str
    email: str | None = None
    channels: tuple[Channel, ...] | None = None
    locale: str | None = None
    time_zone: str | None = None


@dataclass(frozen=True, slots=True)
class AttachmentRequest:
    """One of `content` and `url` is set."""

    filename: str
    content_type: str
    content: bytes | None = field(default=None, repr=False)
    url: str | None = None


@dataclass(frozen=True, slots=True)
class NotificationRequest:
    """`fingerprint` is the SHA-256 of the canonical body in hex: it tells a repeated request from another one. Empty
    without an idempotency key. Title and body may be missing where a template gives them; `template` names one in place
    of the type's."""

    notification_type: str
    recipients: tuple[RecipientRequest, ...]
    title: str | None
    body: str | None
    fingerprint: str
    data: dict[str, Any] = field(default_factory=dict)
    priority: Priority | None = None
    channels: tuple[Channel, ...] | None = None
    scheduled_at: datetime | None = None
    expires_at: datetime | None = None
    dedup_key: str | None = None
    correlation_id: str | None = None
    actions: tuple[Action, ...] = ()
    attachments: tuple[AttachmentRequest, ...] = ()
    template: str | None = None


@dataclass(frozen=True, slots=True)
class AcceptedNotification:
    notification_id: str
    user_id: str
    status: NotificationStatus


@dataclass(frozen=True, slots=True)
class AcceptedEvent:
    event_id: str
    notifications: list[AcceptedNotification]
