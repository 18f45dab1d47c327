"""What the routes answer, and the examples that stand in the OpenAPI document."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import BaseModel, model_validator

from notification_engine.api.models.send import Flag, Moment, Strict
from notification_engine.domain.delivery import Channel, DeliveryStatus, NotificationStatus, Reason
from notification_engine.domain.notification import Notification, Priority
from notification_engine.domain.outcome import Attempt

SEND_EXAMPLE: dict[str, Any] = {
    "notification_type": "test_execution.completed",
    "recipients": [
        {
            "user_id": "u1",
            "email": "u1@example.org",
            "channels": ["in_app", "email"],
            "locale": "de-CH",
            "time_zone": "Europe/Zurich",
        }
    ],
    "title": "Run 4711 passed",
    "body": "148 of 148 tests passed.",
    "data": {"run": 4711},
    "priority": "high",
    "channels": ["in_app", "email", "webhook"],
    "scheduled_at": None,
    "expires_at": None,
    "dedup_key": None,
    "correlation_id": None,
    "actions": [{"label": "Open run", "url": "https://app.example.org/runs/4711"}],
}
_ULID = "01kb0c5s2m8v7k3r9x4w6y1z0a"
ACCEPTED_EXAMPLE = {
    "event_id": f"evt_{_ULID}",
    "notifications": [{"notification_id": f"ntfy_{_ULID}", "user_id": "u1", "status": "pending"}],
}
BATCH_EXAMPLE = {"notifications": [SEND_EXAMPLE | {"idempotency_key": "run-4711-passed"}]}
BATCH_RESULT_EXAMPLE = {"results": [{"index": 0, "status": 202} | ACCEPTED_EXAMPLE]}


class Problem(BaseModel):
    """RFC 9457."""

    type: str
    title: str
    status: int
    detail: str
    field: str | None = None
    errors: list[dict[str, str]] | None = None
    line: int | None = None
    column: int | None = None
    request_id: str | None = None


class AcceptedNotificationOut(BaseModel):
    notification_id: str
    user_id: str
    status: NotificationStatus


class AcceptedOut(BaseModel):
    event_id: str
    notifications: list[AcceptedNotificationOut]


class BatchResultOut(BaseModel):
    index: int
    status: int
    event_id: str | None = None
    notifications: list[AcceptedNotificationOut] | None = None
    problem: Problem | None = None


class BatchOut(BaseModel):
    results: list[BatchResultOut]


class ActionOut(BaseModel):
    label: str
    url: str


class DeliveryOut(BaseModel):
    delivery_id: str
    channel: Channel
    status: DeliveryStatus
    attempts: int
    reason: Reason | None
    provider: str | None
    held: bool
    created_at: datetime | None
    updated_at: datetime | None
    delivered_at: datetime | None
    next_attempt_at: datetime | None


class NotificationOut(BaseModel):
    notification_id: str
    event_id: str
    user_id: str
    notification_type: str
    priority: Priority
    status: NotificationStatus
    title: str
    body: str
    data: dict[str, Any]
    actions: list[ActionOut]
    channels: list[Channel]
    created_at: datetime
    scheduled_at: datetime | None
    expires_at: datetime | None
    correlation_id: str | None
    visible_at: datetime | None
    seen_at: datetime | None
    read_at: datetime | None
    archived_at: datetime | None
    snoozed_until: datetime | None
    deliveries: list[DeliveryOut] = []


class InboxOut(BaseModel):
    notifications: list[NotificationOut]
    next_cursor: str | None


class UnreadOut(BaseModel):
    unread_count: int


class ReadAllOut(BaseModel):
    changed: int


class InboxChangeIn(Strict):
    """At least one. `read: false` marks as unread; `snoozed_until: null` brings a snoozed one back."""

    seen: Literal[True] | None = None
    read: Flag | None = None
    archived: Flag | None = None
    snoozed_until: Moment | None = None

    @property
    def unsnoozes(self) -> bool:
        return "snoozed_until" in self.model_fields_set and self.snoozed_until is None

    @model_validator(mode="after")
    def _something(self) -> "InboxChangeIn":
        if not self.model_fields_set:
            raise ValueError("seen: name at least one of seen, read, archived, snoozed_until")
        if self.snoozed_until is not None and self.snoozed_until <= datetime.now(UTC):
            raise ValueError("snoozed_until: must be in the future")
        return self


class TimelineEntryOut(BaseModel):
    timestamp: datetime | None
    code: str
    text: str
    channel: Channel | None
    delivery_id: str | None = None
    attempt: int | None = None
    latency_ms: float | None = None


class TimelineOut(BaseModel):
    notification_id: str
    status: NotificationStatus
    entries: list[TimelineEntryOut]


class AttemptOut(BaseModel):
    notification_id: str
    delivery_id: str
    channel: Channel
    provider: str | None
    delivery_status: str
    reason: Reason | None
    attempt: int
    latency_ms: float | None
    timestamp: datetime
    detail: str | None


class HistoryOut(BaseModel):
    attempts: list[AttemptOut]
    next_cursor: str | None


_SENTENCES = {
    "delivered": "Delivered",
    "accepted": "Accepted by the provider; the arrival is not confirmed",
    "pending": "Not delivered; it will be tried again",
    "failed": "Failed for good",
    "unknown": "Nobody can say whether it arrived",
    "expired": "Expired before it was sent",
    "suppressed": "Not sent",
    "passed_over": "Refused, and the next provider was asked",
    "cancelled": "Cancelled before it was sent",
    "replayed": "Sent again by an operator",
    "discarded": "Taken off the list of dead letters by an operator",
    "stale": "A worker without its lease brought this back; it changed nothing",
}


def timeline(notification: Notification, attempts: Sequence[Attempt]) -> list[dict[str, Any]]:
    """Accept, decisions, attempts, in the order of time."""
    entries: list[dict[str, Any]] = [
        {"timestamp": notification.created_at, "code": "accepted", "text": "Accepted and stored.", "channel": None}
    ]
    entries += [
        {"timestamp": d.at or notification.created_at, "code": d.code, "text": d.text, "channel": d.channel}
        for d in notification.decisions
    ]
    return entries + [_attempt_entry(a) for a in sorted(attempts, key=_moment)]


_REPORTS = {
    "event_accepted": "it has taken the e-mail",
    "event_deferred": "the recipient's server asks to wait, it goes on trying",
    "event_delivered": "the recipient's server has taken it",
    "event_bounced_hard": "the address takes no mail",
    "event_bounced_soft": "the recipient's server refused this message",
    "event_complained": "the recipient called it spam",
    "event_opened": "it was opened",
    "event_clicked": "a link in it was followed",
    "event_unsubscribed": "the recipient unsubscribed",
    "event_dropped": "it did not send it",
}
_NO_ATTEMPT = {"cancelled", "replayed", "discarded"}


def _code(status: str) -> str:
    return status if status in _NO_ATTEMPT or status in _REPORTS else f"attempt_{status}"


def _attempt_entry(attempt: Attempt) -> dict[str, Any]:
    return {
        "timestamp": attempt.timestamp,
        "code": _code(str(attempt.delivery_status)),
        "text": _text(attempt),
        "channel": attempt.channel,
        "delivery_id": attempt.delivery_id,
        "attempt": attempt.attempt,
        "latency_ms": attempt.latency_ms,
    }


def _moment(attempt: Attempt) -> tuple[datetime, int, datetime]:
    """A provider may tell whole seconds only: within one, what it reports follows what the engine did, in the order in
    which it usually happens."""
    place = list(_REPORTS).index(attempt.delivery_status) + 1 if attempt.delivery_status in _REPORTS else 0
    return attempt.timestamp.replace(microsecond=0), place, attempt.timestamp


def _text(attempt: Attempt) -> str:
    status = str(attempt.delivery_status)
    more = f" ({attempt.detail})" if attempt.detail else ""
    if status in _REPORTS:
        return f"Reported by {attempt.provider}: {_REPORTS[status]}{more}."
    by = f" by {attempt.provider}" if attempt.provider else ""
    why = f": {attempt.reason}" if attempt.reason else ""
    return f"{_SENTENCES.get(status, status)}{by}{why}{more}."


def attempt_view(attempt: Attempt) -> dict[str, Any]:
    return {name: getattr(attempt, name) for name in AttemptOut.model_fields}
