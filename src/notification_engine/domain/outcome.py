"""What a channel answers for one attempt, and the message it was given."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from notification_engine.domain.attachment import Attachment
from notification_engine.domain.delivery import Channel, DeliveryStatus, Reason
from notification_engine.domain.notification import Action, Priority
from notification_engine.domain.template import TemplateUse


@dataclass(frozen=True, slots=True)
class PassedOver:
    """One call of a provider that refused definitely; the next one was asked within the same round."""

    provider: str
    reason: Reason
    latency_ms: float
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class Accepted:
    """The provider took it; whether it arrived is told later, if ever."""

    provider: str
    provider_message_id: str | None = None
    detail: str | None = None
    passed_over: tuple[PassedOver, ...] = ()


@dataclass(frozen=True, slots=True)
class Delivered:
    provider: str
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class Retry:
    """A passing failure; `after` is the provider's wish in seconds, already clamped."""

    reason: Reason
    provider: str
    after: float | None = None
    detail: str | None = None
    passed_over: tuple[PassedOver, ...] = ()


@dataclass(frozen=True, slots=True)
class Rejected:
    """It will never work; `disable_endpoint` when the endpoint said that it is gone (410)."""

    reason: Reason
    provider: str
    detail: str | None = None
    disable_endpoint: bool = False
    passed_over: tuple[PassedOver, ...] = ()


@dataclass(frozen=True, slots=True)
class Unknown:
    """The receiver cannot deduplicate, and nobody can say whether it has the message."""

    reason: Reason
    provider: str
    detail: str | None = None
    passed_over: tuple[PassedOver, ...] = ()


@dataclass(frozen=True, slots=True)
class Postponed:
    """Nobody was asked: every provider rests (its breaker is open, its rate used up). No attempt, so no round."""

    reason: Reason
    after: float
    provider: str = "engine"
    detail: str | None = None


Outcome = Accepted | Delivered | Retry | Rejected | Unknown | Postponed


@dataclass(frozen=True, slots=True)
class Message:
    """The content of one delivery. `endpoint` is an e-mail address or the id of a webhook endpoint."""

    notification_id: str
    delivery_id: str
    event_id: str
    user_id: str
    notification_type: str
    channel: Channel
    priority: Priority
    title: str
    body: str
    created_at: datetime
    endpoint: str | None = None
    data: dict[str, Any] = field(default_factory=dict)
    actions: tuple[Action, ...] = ()
    attachments: tuple[Attachment, ...] = ()
    correlation_id: str | None = None
    unsubscribe_url: str | None = field(default=None, repr=False)
    attempt: int = 1
    solo: bool = False
    template: TemplateUse | None = None
    locale: str | None = None
    time_zone: str | None = None
    transactional: bool = False


@dataclass(frozen=True, slots=True)
class Attempt:
    """One row of the history. Its id is delivery, fence and attempt; rows are only ever appended."""

    notification_id: str
    delivery_id: str
    user_id: str
    channel: Channel
    fence: int
    attempt: int
    delivery_status: DeliveryStatus | str
    timestamp: datetime
    provider: str | None = None
    endpoint: str | None = None
    reason: Reason | None = None
    latency_ms: float | None = None
    detail: str | None = None
    provider_message_id: str | None = None
    next_attempt_seconds: float | None = None
    held: bool = False
    suffix: str = ""

    @property
    def id(self) -> str:
        return f"{self.delivery_id}:{self.fence}:{self.attempt}{self.suffix}"
