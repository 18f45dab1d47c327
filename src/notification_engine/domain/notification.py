"""A notification: what a caller asked for, for one recipient. Pure values; ids, sizes and priorities."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from notification_engine.domain.attachment import Attachment
from notification_engine.domain.delivery import Channel, Delivery, NotificationStatus
from notification_engine.domain.template import TemplateUse

MAX_DELIVERIES = 32  # in one document; 1,000 in one fell to 203 inserts a second
MAX_DATA_BYTES = 16 * 1024
MAX_DATA_DEPTH = 32
MAX_RECIPIENTS = 1000
MAX_BATCH = 1000
MAX_BATCH_NOTIFICATIONS = 10_000


class Priority(StrEnum):
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    URGENT = "urgent"
    CRITICAL = "critical"


class OnUnknown(StrEnum):
    """What becomes of an unknown outcome: sent once more after a grace period, or held for an operator."""

    RESEND = "resend"
    HOLD = "hold"


RANK = {Priority.LOW: 0, Priority.MEDIUM: 1, Priority.HIGH: 2, Priority.URGENT: 3, Priority.CRITICAL: 4}


@dataclass(slots=True)
class Lease:
    """Who may work on a notification. `abandoned` counts claims that ended in a dead process, `solo_deaths` those
    that ended while it ran alone; `solo` is the mark that it does."""

    owner: str | None = None
    token: str | None = None
    fence: int = 0
    expires_at: datetime | None = None
    abandoned: int = 0
    solo: bool = False
    solo_deaths: int = 0


@dataclass(slots=True)
class Inbox:
    """The in-app copy; `visible_at` absent means that it has not surfaced."""

    visible_at: datetime | None = None
    seen_at: datetime | None = None
    read_at: datetime | None = None
    archived_at: datetime | None = None
    snoozed_until: datetime | None = None


@dataclass(slots=True)
class Decision:
    """One planning decision: a code and a sentence."""

    code: str
    text: str
    channel: Channel | None = None
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Action:
    label: str
    url: str


@dataclass(frozen=True, slots=True)
class Idempotency:
    key: str
    body: str
    statuses: tuple[str, ...] = ()


@dataclass(slots=True)
class Notification:
    id: str
    event_id: str
    user_id: str
    notification_type: str
    priority: Priority
    title: str
    body: str
    channels: list[Channel]
    created_at: datetime
    status: NotificationStatus = NotificationStatus.PENDING
    data: dict[str, Any] = field(default_factory=dict)
    actions: list[Action] = field(default_factory=list)
    attachments: list[Attachment] = field(default_factory=list)
    email: str | None = None
    locale: str | None = None
    time_zone: str | None = None
    template: TemplateUse | None = None
    on_unknown: OnUnknown | None = None
    transactional: bool = False
    scheduled_at: datetime | None = None
    expires_at: datetime | None = None
    due_at: datetime | None = None
    lease: Lease = field(default_factory=Lease)
    decisions: list[Decision] = field(default_factory=list)
    deliveries: list[Delivery] = field(default_factory=list)
    inbox: Inbox | None = None
    idempotency: Idempotency | None = None
    dedup_key: str | None = None
    correlation_id: str | None = None
    traceparent: str | None = None  # of the request's span, where its trace is sampled
    source: str | None = None
    sensitive: bool = False  # its texts are stored sealed
    erased: bool = False  # something of it does not open any more; not stored

    @property
    def rank(self) -> int:
        return RANK[self.priority]


def delivery_id(notification_id: str, index: int) -> str:
    """A delivery id holds its notification's id, so no index over the array is needed."""
    return f"dlv_{notification_id.removeprefix('ntfy_')}_{index}"


def sibling_id(notification_id: str, part: int) -> str:
    """Id of the document that keeps the deliveries 32·part and on; part 0 is the notification itself."""
    return notification_id if part == 0 else f"{notification_id}~{part:02d}"


def base_id(document_id: str) -> str:
    return document_id.partition("~")[0]


def document_id_of_delivery(delivery: str) -> str:
    """The document that holds a delivery. Raises ValueError for what is no delivery id."""
    prefix, ulid, index = delivery.split("_")
    if prefix != "dlv":
        raise ValueError("not a delivery id")
    return sibling_id(f"ntfy_{ulid}", int(index) // MAX_DELIVERIES)
