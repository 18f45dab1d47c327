"""Between a notification and its document. What is absent is absent, never null, but for `inbox.read_at`: the unread
index is partial on its null."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import bson
from bson.errors import InvalidDocument, InvalidStringData

from notification_engine.domain.attachment import Attachment
from notification_engine.domain.delivery import Channel, Delivery, DeliveryStatus, NotificationStatus, Reason
from notification_engine.domain.errors import InvalidRequest
from notification_engine.domain.notification import (
    Action,
    Decision,
    Idempotency,
    Inbox,
    Lease,
    Notification,
    OnUnknown,
    Priority,
)
from notification_engine.domain.template import TemplateUse

MAX_DEPTH = 90  # the server refuses more than 100 levels; ours lies below them
MAX_BYTES = 15 * 1024 * 1024

_PLAIN = ("event_id", "user_id", "notification_type", "title", "body", "created_at")
_OPTIONAL = (
    "email",
    "locale",
    "time_zone",
    "scheduled_at",
    "expires_at",
    "due_at",
    "dedup_key",
    "correlation_id",
    "traceparent",
    "source",
)


def to_document(n: Notification) -> dict[str, Any]:
    document: dict[str, Any] = {
        "_id": n.id,
        "event_id": n.event_id,
        "user_id": n.user_id,
        "notification_type": n.notification_type,
        "title": n.title,
        "body": n.body,
        "created_at": n.created_at,
        "priority": str(n.priority),
        "rank": n.rank,
        "status": str(n.status),
        "channels": [str(c) for c in n.channels],
        "data": n.data,
        "actions": [{"label": a.label, "url": a.url} for a in n.actions],
        "lease": _fields(n.lease, _LEASE_FIELDS),
        "decisions": [_decision_document(d) for d in n.decisions],
        "deliveries": [_delivery_document(d) for d in n.deliveries],
    }
    for name in _OPTIONAL:
        if (value := getattr(n, name)) is not None:
            document[name] = value
    if n.attachments:
        document["attachments"] = [_fields(a, _ATTACHMENT_FIELDS) for a in n.attachments]
    if n.template is not None:
        document["template"] = _fields(n.template, _TEMPLATE_FIELDS)
    if n.on_unknown is not None:
        document["on_unknown"] = str(n.on_unknown)
    if n.transactional:
        document["transactional"] = True
    if n.sensitive:
        document["sensitive"] = True
    if n.inbox is not None:
        document["inbox"] = _fields(n.inbox, _INBOX_FIELDS) | {"read_at": n.inbox.read_at}
    if n.idempotency is not None:
        document["idempotency"] = {
            "key": n.idempotency.key,
            "body": n.idempotency.body,
            "statuses": list(n.idempotency.statuses),
        }
    return document


def _fields(value: object, names: tuple[str, ...]) -> dict[str, Any]:
    """What is present of a flat value. Not `asdict`: it copies every time stamp by `deepcopy`, a fifth of an accept."""
    return {name: found for name in names if (found := getattr(value, name)) is not None}


def _decision_document(d: Decision) -> dict[str, Any]:
    document: dict[str, Any] = {"code": d.code, "text": d.text}
    if d.channel is not None:
        document["channel"] = str(d.channel)
    if d.at is not None:
        document["at"] = d.at
    return document


_TEMPLATE_FIELDS = tuple(f.name for f in fields(TemplateUse))
_ATTACHMENT_FIELDS = tuple(f.name for f in fields(Attachment))
_LEASE_FIELDS = tuple(f.name for f in fields(Lease))
_INBOX_FIELDS = tuple(f.name for f in fields(Inbox))
_DELIVERY_FIELDS = (
    "provider",
    "endpoint",
    "next_attempt_at",
    "provider_message_id",
    "claim",
    "mark",
    "created_at",
    "updated_at",
    "delivered_at",
    "discarded_at",
)


def _delivery_document(d: Delivery) -> dict[str, Any]:
    document: dict[str, Any] = {
        "id": d.id,
        "channel": str(d.channel),
        "status": str(d.status),
        "attempts": d.attempts,
        "held": d.held,
    }
    if d.reason is not None:
        document["reason"] = str(d.reason)
    return document | _fields(d, _DELIVERY_FIELDS)


def to_notification(document: Mapping[str, Any]) -> Notification:
    """The other way; also for documents read without some fields. What is sealed (`sealing`) is left out."""
    inbox, key = document.get("inbox"), document.get("idempotency")
    values: dict[str, Any] = {name: document.get(name) for name in _PLAIN + _OPTIONAL}
    if isinstance(values["email"], bytes):
        values["email"] = None
    return Notification(
        **values,
        template=TemplateUse(**document["template"]) if "template" in document else None,
        on_unknown=OnUnknown(document["on_unknown"]) if "on_unknown" in document else None,
        id=document["_id"],
        priority=Priority(document["priority"]),
        status=NotificationStatus(document["status"]),
        channels=[Channel(c) for c in document["channels"]],
        data=document.get("data", {}),
        transactional=document.get("transactional", False),
        sensitive=document.get("sensitive", False),
        actions=[Action(a["label"], a["url"]) for a in document.get("actions", [])],
        attachments=[Attachment(**a) for a in document.get("attachments", [])],
        lease=Lease(**document.get("lease", {})),
        decisions=[
            Decision(d["code"], d["text"], Channel(d["channel"]) if "channel" in d else None, d.get("at"))
            for d in document.get("decisions", [])
        ],
        deliveries=[_delivery(d) for d in document.get("deliveries", [])],
        inbox=Inbox(**inbox) if inbox is not None else None,
        idempotency=Idempotency(key["key"], key["body"], tuple(key["statuses"])) if key else None,
    )


def _delivery(document: Mapping[str, Any]) -> Delivery:
    values = {name: document.get(name) for name in _DELIVERY_FIELDS}
    if isinstance(values["endpoint"], bytes):
        values["endpoint"] = None
    return Delivery(
        id=document["id"],
        channel=Channel(document["channel"]),
        status=DeliveryStatus(document["status"]),
        attempts=document.get("attempts", 0),
        held=document.get("held", False),
        rounds_from=document.get("rounds_from", 0),
        reason=Reason(document["reason"]) if "reason" in document else None,
        **values,
    )


def encode(document: Mapping[str, Any]) -> bytes:
    """BSON of one document. Raises InvalidRequest for what BSON or the server would refuse, before it joins a batch."""
    if _depth({"data": document.get("data")}) > MAX_DEPTH:  # all else is of the engine's own making, and flat
        raise InvalidRequest("The nesting is too deep.", field="data")
    try:
        encoded = bson.encode(document)
    except (OverflowError, InvalidDocument, InvalidStringData, UnicodeEncodeError, RecursionError, TypeError) as error:
        raise InvalidRequest(f"A value cannot be stored ({type(error).__name__}).", field=_culprit(document)) from error
    if len(encoded) > MAX_BYTES:
        raise InvalidRequest("The notification is larger than 15 MiB.", field="data")
    return encoded


def _depth(document: Mapping[str, Any]) -> int:
    """Levels of nesting, found without recursion; leaves are not visited."""
    deepest = 0
    stack: list[tuple[Any, int]] = [(document, 1)]
    while stack:
        current, level = stack.pop()
        deepest = max(deepest, level)
        if level > MAX_DEPTH:
            return level
        children = current if isinstance(current, list) else current.values()
        stack += [(child, level + 1) for child in children if isinstance(child, (dict, list))]
    return deepest


def _culprit(document: Mapping[str, Any]) -> str:
    for name, value in document.items():
        try:
            bson.encode({name: value})
        except Exception:  # noqa: BLE001 - only the name of the field is wanted
            return name
    return "data"
