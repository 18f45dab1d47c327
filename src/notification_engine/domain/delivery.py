"""A delivery: one notification on one channel to one endpoint. Owns the transition table and the derived status.

`storage` builds its update pipelines from `ALLOWED_FROM` and `STATUS_RULES`; nothing else decides on state.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import cache


class Channel(StrEnum):
    IN_APP = "in_app"
    EMAIL = "email"
    WEBHOOK = "webhook"


class DeliveryStatus(StrEnum):
    PENDING = "pending"
    SENDING = "sending"
    ACCEPTED = "accepted"
    DELIVERED = "delivered"
    UNKNOWN = "unknown"
    FAILED = "failed"
    SUPPRESSED = "suppressed"
    EXPIRED = "expired"
    CANCELLED = "cancelled"


class Reason(StrEnum):
    """Why a delivery ended, waits or was not sent: closed, because it labels metrics."""

    NO_ENDPOINT = "no_endpoint"
    NO_ADDRESS = "no_address"
    NO_PROVIDER = "no_provider"
    MUTED = "muted"
    PREFERENCE_OFF = "preference_off"
    EXPIRED = "expired"
    ENDPOINT_DISABLED = "endpoint_disabled"
    ENDPOINT_GONE = "endpoint_gone"
    BLOCKED_ADDRESS = "blocked_address"
    CONNECTION_FAILED = "connection_failed"
    TIMEOUT = "timeout"
    RATE_LIMITED = "rate_limited"
    SERVER_ERROR = "server_error"
    REDIRECT = "redirect"
    REFUSED = "refused"
    PROVIDER_REFUSED = "provider_refused"
    TOO_LARGE = "too_large"
    INVALID_ADDRESS = "invalid_address"
    CREDENTIALS = "credentials"
    UNREADABLE_ANSWER = "unreadable_answer"
    CONNECTION_LOST = "connection_lost"
    INTERRUPTED = "interrupted"
    POISON = "poison"
    BREAKER_OPEN = "breaker_open"
    SUPPRESSED_ADDRESS = "suppressed_address"
    BOUNCED = "bounced"
    SOFT_BOUNCED = "soft_bounced"
    DROPPED = "dropped"
    ATTACHMENT_FAILED = "attachment_failed"
    TEMPLATE_ERROR = "template_error"
    ERASED = "erased"
    INTERNAL = "internal"


S = DeliveryStatus

# To a state, from which stored states. A provider's feedback may still come after `accepted`, `unknown` and `failed`;
# `pending` from `failed` is for an operator's replay alone, a lane's retry does not revive what feedback has ended.
ALLOWED_FROM: dict[DeliveryStatus, tuple[DeliveryStatus, ...]] = {
    S.PENDING: (S.PENDING, S.SENDING, S.UNKNOWN, S.FAILED),
    S.SENDING: (S.PENDING, S.UNKNOWN),
    S.ACCEPTED: (S.PENDING, S.SENDING, S.UNKNOWN),
    S.DELIVERED: (S.PENDING, S.SENDING, S.ACCEPTED, S.UNKNOWN, S.FAILED),
    S.UNKNOWN: (S.PENDING, S.SENDING, S.UNKNOWN),  # from itself: its resend is given up, and it is held
    S.FAILED: (S.PENDING, S.SENDING, S.ACCEPTED, S.UNKNOWN),
    S.SUPPRESSED: (S.PENDING,),
    S.EXPIRED: (S.PENDING,),
    S.CANCELLED: (S.PENDING,),
}
OPEN = frozenset({S.PENDING, S.SENDING})
SUCCESS = frozenset({S.ACCEPTED, S.DELIVERED})


class NotificationStatus(StrEnum):
    SCHEDULED = "scheduled"
    PENDING = "pending"
    PROCESSING = "processing"
    ACCEPTED = "accepted"
    UNKNOWN = "unknown"
    DELIVERED = "delivered"
    PARTIALLY_DELIVERED = "partially_delivered"
    FAILED = "failed"
    SUPPRESSED = "suppressed"
    EXPIRED = "expired"
    CANCELLED = "cancelled"


N = NotificationStatus

# The published table, first match wins: a status holds when every group of delivery states has a member present.
# Before this, an open delivery makes it scheduled (all open, none tried, scheduled_at ahead), processing (tried or
# sending) or pending.
STATUS_RULES: tuple[tuple[NotificationStatus, tuple[tuple[DeliveryStatus, ...], ...]], ...] = (
    (N.PARTIALLY_DELIVERED, ((S.FAILED,), (S.DELIVERED, S.ACCEPTED))),
    (N.UNKNOWN, ((S.UNKNOWN,),)),
    (N.FAILED, ((S.FAILED,),)),
    (N.ACCEPTED, ((S.ACCEPTED,),)),
    (N.DELIVERED, ((S.DELIVERED,),)),
    (N.CANCELLED, ((S.CANCELLED,),)),
    (N.EXPIRED, ((S.EXPIRED,),)),
    (N.SUPPRESSED, ((S.SUPPRESSED,),)),
)


@dataclass(slots=True)
class Delivery:
    """`claim` is the fence under which a lane holds it; `mark` the fence and attempt written ahead of a send.
    A replay grants new rounds: they count from `rounds_from`, while `attempts` never starts anew."""

    id: str
    channel: Channel
    status: DeliveryStatus = DeliveryStatus.PENDING
    provider: str | None = None
    endpoint: str | None = None
    held: bool = False
    attempts: int = 0
    next_attempt_at: datetime | None = None
    reason: Reason | None = None
    provider_message_id: str | None = None
    claim: int | None = None
    mark: dict[str, int] | None = None
    rounds_from: int = 0
    discarded_at: datetime | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None
    delivered_at: datetime | None = None


def is_dead(delivery: Delivery) -> bool:
    """A dead letter: failed, or of unknown outcome and held for an operator, and nobody discarded it."""
    held = delivery.status is S.UNKNOWN and delivery.held
    return (held or delivery.status is S.FAILED) and delivery.discarded_at is None


def derive_status(deliveries: list[Delivery], *, scheduled_ahead: bool = False) -> NotificationStatus:
    """The status of a notification by the published table; the server's pipeline computes the same."""
    pending = [d for d in deliveries if d.status in OPEN]
    if pending:
        if any(d.status is S.SENDING or d.attempts for d in pending):
            return N.PROCESSING
        return N.SCHEDULED if scheduled_ahead and len(pending) == len(deliveries) else N.PENDING
    return _ended_status(frozenset(d.status for d in deliveries))


@cache
def _ended_status(present: frozenset[DeliveryStatus]) -> NotificationStatus:
    for status, groups in STATUS_RULES:
        if all(present.intersection(group) for group in groups):
            return status
    return N.SUPPRESSED
