"""The planning decision: which deliveries a notification gets and why. Pure: values in, values out, nothing awaited.

Quiet hours, caps and digests join here as further rules of `_refusal`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from notification_engine.domain.delivery import Channel, Delivery, DeliveryStatus, Reason
from notification_engine.domain.notification import Decision, Inbox, delivery_id
from notification_engine.domain.preference import Preference
from notification_engine.domain.webhook import WebhookEndpoint


@dataclass(frozen=True, slots=True)
class PlanInput:
    notification_id: str
    notification_type: str
    channels: tuple[Channel, ...]
    email: str | None
    preference: Preference
    endpoints: Sequence[WebhookEndpoint]
    email_available: bool
    now: datetime
    due_at: datetime
    rendered: bool = True
    transactional: bool = False  # the recipient asked for it by acting: no preference stands against it


@dataclass(frozen=True, slots=True)
class Plan:
    deliveries: list[Delivery]
    decisions: list[Decision]
    inbox: Inbox | None


def plan(given: PlanInput) -> Plan:
    """Deliveries in the order of the channels; what is not sent keeps a suppressed delivery with its reason."""
    deliveries: list[Delivery] = []
    decisions: list[Decision] = []
    for channel in given.channels:
        refusal = _refusal(given, channel)
        if refusal:
            deliveries.append(_suppressed(given, channel, refusal[0], len(deliveries)))
            decisions.append(Decision(f"suppressed_{refusal[0]}", refusal[1], channel, given.now))
            continue
        if given.transactional and (choice := _choice(given, channel)):
            text = f"{choice[1]} It is sent all the same: {given.notification_type} is transactional."
            decisions.append(Decision("preference_ignored", text, channel, given.now))
        for endpoint in _endpoints(given, channel):
            deliveries.append(_planned(given, channel, endpoint, len(deliveries)))
        decisions.append(Decision("planned", f"Planned for {channel}.", channel, given.now))
    return Plan(deliveries, decisions, _inbox(given, deliveries))


def _refusal(given: PlanInput, channel: Channel) -> tuple[Reason, str] | None:
    """The first rule that speaks against a channel, as a reason and a sentence."""
    if not given.transactional and (choice := _choice(given, channel)):
        return choice
    if channel is Channel.EMAIL and not given.email:
        return Reason.NO_ADDRESS, "No e-mail address is known for the recipient."
    if channel is Channel.EMAIL and not given.email_available:
        return Reason.NO_PROVIDER, "No e-mail provider is configured."
    if channel is Channel.WEBHOOK and not _endpoints(given, channel):
        return Reason.NO_ENDPOINT, "No enabled webhook endpoint wants this type."
    return None


def _choice(given: PlanInput, channel: Channel) -> tuple[Reason, str] | None:
    """What the recipient said against a channel."""
    if given.preference.mute:
        return Reason.MUTED, "The recipient has muted all notifications."
    allowed, pattern = given.preference.allows(given.notification_type, channel)
    if not allowed:
        return Reason.PREFERENCE_OFF, f"The recipient switched {channel} off for {pattern}."
    return None


def _endpoints(given: PlanInput, channel: Channel) -> list[str | None]:
    if channel is Channel.EMAIL:
        return [given.email]
    if channel is Channel.WEBHOOK:
        return [e.id for e in given.endpoints if e.wants(given.notification_type)]
    return [None]


def _planned(given: PlanInput, channel: Channel, endpoint: str | None, index: int) -> Delivery:
    """In-app that is due now is delivered by the insert itself; one whose text could not be rendered goes to its lane,
    which ends it."""
    delivery = Delivery(
        id=delivery_id(given.notification_id, index),
        channel=channel,
        endpoint=endpoint,
        created_at=given.now,
        updated_at=given.now,
    )
    if channel is Channel.IN_APP and given.due_at <= given.now and given.rendered:
        delivery.status = DeliveryStatus.DELIVERED
        delivery.provider = "in_app"
        delivery.attempts = 1
        delivery.delivered_at = given.now
    else:
        delivery.next_attempt_at = given.due_at
    return delivery


def _suppressed(given: PlanInput, channel: Channel, reason: Reason, index: int) -> Delivery:
    return Delivery(
        id=delivery_id(given.notification_id, index),
        channel=channel,
        status=DeliveryStatus.SUPPRESSED,
        reason=reason,
        created_at=given.now,
        updated_at=given.now,
    )


def _inbox(given: PlanInput, deliveries: list[Delivery]) -> Inbox | None:
    in_app = next((d for d in deliveries if d.channel is Channel.IN_APP), None)
    if in_app is None or in_app.status is DeliveryStatus.SUPPRESSED:
        return None
    return Inbox(visible_at=given.now if in_app.status is DeliveryStatus.DELIVERED else None)
