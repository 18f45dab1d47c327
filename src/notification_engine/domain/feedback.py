"""Provider feedback: what a vendor reports of an e-mail after it took it, in one closed set of kinds.

Invariant: what a set of events leads to does not depend on their order. The states form a line (accepted, failed,
delivered) that the transition table walks in one direction, and so do the reasons of a failure.
"""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from notification_engine.domain.delivery import DeliveryStatus, Reason
from notification_engine.domain.suppression import SuppressionReason


class EventKind(StrEnum):
    ACCEPTED = "accepted"
    DELIVERED = "delivered"
    DEFERRED = "deferred"
    BOUNCED_HARD = "bounced_hard"
    BOUNCED_SOFT = "bounced_soft"
    COMPLAINED = "complained"
    OPENED = "opened"
    CLICKED = "clicked"
    UNSUBSCRIBED = "unsubscribed"
    DROPPED = "dropped"


K = EventKind

# What a kind makes of a delivery, the weaker first; the other kinds are told in the history and change no state.
STATE_AFTER: dict[EventKind, tuple[DeliveryStatus, Reason | None]] = {
    K.ACCEPTED: (DeliveryStatus.ACCEPTED, None),
    K.DROPPED: (DeliveryStatus.FAILED, Reason.DROPPED),
    K.BOUNCED_SOFT: (DeliveryStatus.FAILED, Reason.SOFT_BOUNCED),
    K.BOUNCED_HARD: (DeliveryStatus.FAILED, Reason.BOUNCED),
    K.DELIVERED: (DeliveryStatus.DELIVERED, None),
}
WEIGHT = {kind: weight for weight, kind in enumerate(STATE_AFTER)}
SUPPRESSES: dict[EventKind, SuppressionReason] = {
    K.BOUNCED_HARD: SuppressionReason.HARD_BOUNCE,
    K.COMPLAINED: SuppressionReason.COMPLAINT,
}


@dataclass(frozen=True, slots=True)
class ProviderEvent:
    """`id` begins with the provider's name. `kind` None: reported, and none of ours. `delivery_id` is ours, where the
    provider gave it back; `address` the recipient as the provider names it. `detail` holds codes only, no free text."""

    id: str
    provider: str
    kind: EventKind | None
    at: datetime
    delivery_id: str | None = None
    address: str | None = field(default=None, repr=False)
    detail: str | None = None
    raw: str = field(default="", repr=False)


def weaker_reasons(reason: Reason | None) -> tuple[Reason, ...]:
    """Reasons of a reported failure that this one takes the place of."""
    order = [r for _, r in STATE_AFTER.values() if r is not None]
    return tuple(order[: order.index(reason)]) if reason in order else ()
