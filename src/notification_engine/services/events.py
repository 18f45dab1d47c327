"""From what SendGrid and SES report to our events. Pure; a vendor's word that nobody knows is kept without a kind.

Sources: Twilio SendGrid, "Event Webhook reference"; Amazon SES developer guide, "Contents of event data that Amazon SES
publishes to Amazon SNS" and "Amazon SNS notification contents for Amazon SES".
"""

import hashlib
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import orjson

from notification_engine.domain.errors import RequestError
from notification_engine.domain.feedback import EventKind as K
from notification_engine.domain.feedback import ProviderEvent
from notification_engine.domain.notification import document_id_of_delivery

MAX_ID = 200
_DELIVERY_ID = re.compile(r"dlv_[0-9a-z]{26}_[0-9]{1,4}")
_CODE = re.compile(r"[A-Za-z0-9.]{1,40}")
SES_TAG = "notification-delivery-id"
SES_HEADER = "x-notification-delivery-id"
_SENDGRID = {
    "processed": K.ACCEPTED,
    "delivered": K.DELIVERED,
    "deferred": K.DEFERRED,
    "dropped": K.DROPPED,
    "open": K.OPENED,
    "click": K.CLICKED,
    "spamreport": K.COMPLAINED,
    "unsubscribe": K.UNSUBSCRIBED,
    "group_unsubscribe": K.UNSUBSCRIBED,
}
_SES = {
    "Send": K.ACCEPTED,
    "Delivery": K.DELIVERED,
    "DeliveryDelay": K.DEFERRED,
    "Complaint": K.COMPLAINED,
    "Open": K.OPENED,
    "Click": K.CLICKED,
    "Reject": K.DROPPED,
    "Rendering Failure": K.DROPPED,
}
_SES_PART = {"DeliveryDelay": "deliveryDelay", "Rendering Failure": "failure"}


def sendgrid_events(body: bytes, now: datetime) -> list[ProviderEvent]:
    """Raises RequestError (400) for what is no JSON array of objects."""
    try:
        rows = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise RequestError("The body is not JSON.") from None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise RequestError("The body is not an array of events.")
    return [_sendgrid_event(row, now) for row in rows]


def _sendgrid_event(row: Mapping[str, Any], now: datetime) -> ProviderEvent:
    word = str(row.get("event"))
    kind = _sendgrid_bounce(row) if word == "bounce" else _SENDGRID.get(word)
    raw = orjson.dumps(row, option=orjson.OPT_SORT_KEYS)
    return ProviderEvent(
        id=_id("sendgrid", row.get("sg_event_id"), raw),
        provider="sendgrid",
        kind=kind,
        at=_epoch(row.get("timestamp"), now),
        delivery_id=_delivery_id(row.get("delivery_id")),
        address=_text(row.get("email")),
        detail=_codes(row.get("type"), row.get("status")),
        raw=raw.decode(),
    )


def _sendgrid_bounce(row: Mapping[str, Any]) -> K:
    """`type` is `bounce` for an address that does not take mail, `blocked` for a refusal of this message."""
    kind = row.get("type")
    if kind is None:
        return K.BOUNCED_HARD if str(row.get("status", "")).startswith("5") else K.BOUNCED_SOFT
    return K.BOUNCED_HARD if kind == "bounce" else K.BOUNCED_SOFT


def ses_event(message_id: str, message: str, published_at: datetime) -> ProviderEvent:
    """One SNS message is one event. What is no SES event (SNS's own greeting, another publisher) has no kind."""
    try:
        told = orjson.loads(message)
    except orjson.JSONDecodeError:
        told = None
    told = told if isinstance(told, dict) else {}
    word = str(told.get("eventType") or told.get("notificationType"))
    mail = _mapping(told.get("mail"))
    part = _mapping(told.get(_SES_PART.get(word, word.lower())))
    return ProviderEvent(
        id=_id("ses", message_id, message.encode()),
        provider="ses",
        kind=_ses_bounce(part) if word == "Bounce" else _SES.get(word),
        at=_iso(part.get("timestamp") or mail.get("timestamp"), published_at),
        delivery_id=_delivery_id(_ses_tag(mail)),
        address=_ses_address(part, mail),
        detail=_codes(
            part.get("bounceType") or part.get("complaintFeedbackType") or part.get("delayType"),
            part.get("bounceSubType") or part.get("complaintSubType"),
        ),
        raw=message,
    )


def _ses_bounce(bounce: Mapping[str, Any]) -> K:
    """`Transient` and `Undetermined` say nothing lasting about the address."""
    return K.BOUNCED_HARD if bounce.get("bounceType") == "Permanent" else K.BOUNCED_SOFT


def _ses_tag(mail: Mapping[str, Any]) -> Any:
    """From the message tags (event publishing), else from our header (feedback notifications with headers)."""
    tagged = _mapping(mail.get("tags")).get(SES_TAG)
    if isinstance(tagged, list) and tagged:
        return tagged[0]
    headers = mail.get("headers")
    for header in headers if isinstance(headers, list) else []:
        if isinstance(header, dict) and str(header.get("name")).lower() == SES_HEADER:
            return header.get("value")
    return None


def _ses_address(part: Mapping[str, Any], mail: Mapping[str, Any]) -> str | None:
    for name in ("bouncedRecipients", "complainedRecipients"):
        named = part.get(name)
        if isinstance(named, list) and named and isinstance(named[0], dict):
            return _text(named[0].get("emailAddress"))
    to = mail.get("destination")
    return _text(to[0]) if isinstance(to, list) and to else None


def _id(provider: str, given: Any, raw: bytes) -> str:
    """The provider's own id; without a usable one, the content's hash."""
    if isinstance(given, str) and 0 < len(given) <= MAX_ID and given.isprintable():
        return f"{provider}:{given}"
    return f"{provider}:sha256-{hashlib.sha256(raw).hexdigest()}"


def _delivery_id(value: Any) -> str | None:
    if not isinstance(value, str) or not _DELIVERY_ID.fullmatch(value):
        return None
    document_id_of_delivery(value)
    return value


def _codes(*values: Any) -> str | None:
    """Short codes such as `Permanent General` or `bounce 5.1.1`; free text may hold the address."""
    codes = [v for v in values if isinstance(v, str) and _CODE.fullmatch(v)]
    return " ".join(codes) or None


def _epoch(value: Any, now: datetime) -> datetime:
    if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**33:
        return datetime.fromtimestamp(value, UTC)
    return now


def _iso(value: Any, other: datetime) -> datetime:
    try:
        at = datetime.fromisoformat(value) if isinstance(value, str) else other
    except ValueError:
        return other
    return at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and 0 < len(value) <= 320 else None
