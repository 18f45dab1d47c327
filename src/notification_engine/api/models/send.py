"""The request to send: strict, bounded, every fault named by its field."""

import base64
import binascii
import hashlib
import math
import re
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Annotated, Any
from zoneinfo import available_timezones

import orjson
from email_validator import EmailNotValidError, validate_email
from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from notification_engine.domain.attachment import MAX_ATTACHMENTS
from notification_engine.domain.delivery import Channel
from notification_engine.domain.notification import (
    MAX_BATCH,
    MAX_DATA_BYTES,
    MAX_DATA_DEPTH,
    MAX_RECIPIENTS,
    Action,
    Priority,
)
from notification_engine.domain.template import KEY_PATTERN, LOCALE_PATTERN, MAX_BODY, MAX_TITLE
from notification_engine.rendering.formats import is_locale
from notification_engine.services.requests import AttachmentRequest, NotificationRequest, RecipientRequest

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}[Tt ]")
_INT64 = 2**63
MAX_SCHEDULE = timedelta(days=366)
CONTENT_TYPE = r"^[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]*/[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]*$"
TYPE_PATTERN = r"^[a-z][a-z0-9_-]*(\.[a-z0-9_-]+)+$"


def _encodable(value: str) -> str:
    if value.isascii():
        return value
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError("must be text that UTF-8 can hold") from None
    return value


def _one_line(value: str) -> str:
    if not value.isprintable() and _CONTROL.search(value):  # the first look is the cheap one
        raise ValueError("must not hold control characters")
    if not value or value.isspace():
        raise ValueError("must not be empty")
    return value


def _line(value: str) -> str:
    return _one_line(_encodable(value))


def address(value: str) -> str:
    try:
        return validate_email(value, check_deliverability=False, test_environment=True).normalized
    except EmailNotValidError:
        raise ValueError("must be an e-mail address") from None


def _locale(value: str) -> str:
    if not is_locale(value):
        raise ValueError("must be a locale of CLDR such as de or de-CH")
    return value


def _time_zone(value: str) -> str:
    if value not in _zones():
        raise ValueError("must be a time zone such as Europe/Zurich")
    return value


@cache
def _zones() -> frozenset[str]:
    return frozenset(available_timezones())


def _channel(value: Any) -> Any:
    return Channel.IN_APP if value == "websocket" else value


def _distinct(value: tuple[Channel, ...]) -> tuple[Channel, ...]:
    if len(set(value)) != len(value):
        raise ValueError("must name each channel once")
    return value


def storable(data: dict[str, Any]) -> dict[str, Any]:
    """Depth, keys, numbers; then the size. Without recursion."""
    stack: list[tuple[Any, int]] = [(data, 1)]
    while stack:
        value, depth = stack.pop()
        if depth + bool(value) > MAX_DATA_DEPTH:
            raise ValueError(f"must be nested at most {MAX_DATA_DEPTH} levels deep")
        if isinstance(value, dict):
            for key in value:
                if key[:1] == "$" or "." in key or "\x00" in key:
                    raise ValueError("keys must not begin with $ or hold a dot or NUL")
            value = value.values()
        for child in value:
            if isinstance(child, (dict, list)):
                stack.append((child, depth + 1))
            elif isinstance(child, float) and not math.isfinite(child):
                raise ValueError("numbers must be finite")
            elif isinstance(child, int) and not -_INT64 <= child < _INT64:
                raise ValueError("whole numbers must fit into 64 bits")
    try:
        size = len(orjson.dumps(data))
    except orjson.JSONEncodeError:
        raise ValueError("must be text that UTF-8 can hold") from None
    if size > MAX_DATA_BYTES:
        raise ValueError(f"must be at most {MAX_DATA_BYTES} bytes as JSON")
    return data


def _base64(value: str) -> str:
    try:
        base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("must be base64") from None
    return value


def _written_as_text(value: Any) -> Any:
    """A number, also one in quotes, would be taken for seconds since 1970."""
    if isinstance(value, datetime) or (isinstance(value, str) and _DATE.match(value)):
        return value
    raise ValueError("must be a moment such as 2026-11-01T12:00:00Z")


Text = Annotated[str, AfterValidator(_encodable)]
# Bounds stand before the functions: only there the compiled validator keeps them, behind them Python does.
Line = Annotated[str, Field(min_length=1), AfterValidator(_line)]
Flag = Annotated[bool, Field(strict=True)]
Moment = Annotated[AwareDatetime, BeforeValidator(_written_as_text)]
ChannelName = Annotated[Channel, BeforeValidator(_channel)]
Channels = Annotated[
    tuple[ChannelName, ...],
    Field(min_length=1, max_length=8, json_schema_extra={"uniqueItems": True}),
    AfterValidator(_distinct),
]
Key = Annotated[str, Field(min_length=1, max_length=256), AfterValidator(_line)]
UserId = Annotated[str, Field(min_length=1, max_length=128), AfterValidator(_line)]
TypeName = Annotated[str, Field(max_length=128, pattern=TYPE_PATTERN)]


LocaleName = Annotated[str, Field(max_length=32, pattern=LOCALE_PATTERN), AfterValidator(_locale)]
TimeZone = Annotated[str, Field(max_length=64), AfterValidator(_time_zone)]
TemplateKey = Annotated[str, Field(max_length=128, pattern=KEY_PATTERN)]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


class RecipientIn(Strict):
    user_id: UserId
    email: Annotated[Line, Field(max_length=320), AfterValidator(address)] | None = None
    channels: Channels | None = None
    locale: LocaleName | None = None
    time_zone: TimeZone | None = None


class ActionIn(Strict):
    label: Annotated[Line, Field(max_length=100)]
    url: Annotated[Line, Field(max_length=2048, pattern=r"^https?://[^\s]+$")]


class AttachmentIn(Strict):
    """Of e-mails: `content` in base64, or an address that is fetched when the e-mail is sent."""

    filename: Annotated[Line, Field(max_length=255, pattern=r"^[^/\\\\]+$")]
    content_type: Annotated[str, Field(max_length=127, pattern=CONTENT_TYPE)] = "application/octet-stream"
    content: Annotated[str, AfterValidator(_base64)] | None = None
    url: Annotated[Line, Field(max_length=2048)] | None = None

    @model_validator(mode="after")
    def _one_source(self) -> "AttachmentIn":
        if (self.content is None) == (self.url is None):
            raise ValueError("content: give either content or url")
        return self

    def to_request(self) -> AttachmentRequest:
        content = None if self.content is None else base64.b64decode(self.content)
        return AttachmentRequest(self.filename, self.content_type, content, self.url)


class SendIn(Strict):
    """One notification for 1 to 1,000 recipients. A recipient's channels override the request's.

    What is left out comes from the type: channels, priority, and title and body where it has a published template,
    which `data` fills. `template` names another one."""

    notification_type: TypeName
    recipients: Annotated[tuple[RecipientIn, ...], Field(min_length=1, max_length=MAX_RECIPIENTS)]
    title: Annotated[str, Field(max_length=MAX_TITLE), AfterValidator(_line)] | None = None
    body: Annotated[str, Field(max_length=MAX_BODY, pattern=r"^[^\x00]*$"), AfterValidator(_encodable)] | None = None
    data: Annotated[dict[str, Any], AfterValidator(storable)] = Field(default_factory=dict)
    priority: Priority | None = None
    channels: Channels | None = None
    scheduled_at: Moment | None = None
    expires_at: Moment | None = None
    dedup_key: Key | None = None
    correlation_id: Key | None = None
    actions: Annotated[tuple[ActionIn, ...], Field(max_length=10)] = ()
    attachments: Annotated[tuple[AttachmentIn, ...], Field(max_length=MAX_ATTACHMENTS)] = ()
    template: TemplateKey | None = None

    @model_validator(mode="after")
    def _consistent(self) -> "SendIn":
        if len({r.user_id for r in self.recipients}) != len(self.recipients):
            raise ValueError("recipients: must name each user once")
        if self.scheduled_at is None and self.expires_at is None:
            return self
        now = datetime.now(UTC)
        if self.scheduled_at and self.scheduled_at > now + MAX_SCHEDULE:
            raise ValueError("scheduled_at: must be at most a year ahead")
        if self.expires_at and self.expires_at <= max(now, self.scheduled_at or now):
            raise ValueError("expires_at: must be in the future and after scheduled_at")
        return self

    @property
    def fingerprint(self) -> str:
        """What an idempotency key is compared with: the content, whatever the spelling of the JSON."""
        content = self.model_dump(exclude={"idempotency_key"})
        return hashlib.sha256(orjson.dumps(content, option=orjson.OPT_SORT_KEYS)).hexdigest()

    def to_request(self, *, guarded: bool) -> NotificationRequest:
        """`guarded`: it comes with an idempotency key; only then is there a fingerprint to compare."""
        return NotificationRequest(
            notification_type=self.notification_type,
            recipients=tuple(
                RecipientRequest(r.user_id, r.email, r.channels, r.locale, r.time_zone) for r in self.recipients
            ),
            title=self.title,
            body=self.body,
            fingerprint=self.fingerprint if guarded else "",
            data=self.data,
            priority=self.priority,
            channels=self.channels,
            scheduled_at=self.scheduled_at and self.scheduled_at.astimezone(UTC),
            expires_at=self.expires_at and self.expires_at.astimezone(UTC),
            dedup_key=self.dedup_key,
            correlation_id=self.correlation_id,
            actions=tuple(Action(a.label, a.url) for a in self.actions),
            attachments=tuple(a.to_request() for a in self.attachments),
            template=self.template,
        )


class BatchItemIn(SendIn):
    """The key is not part of the body that it guards."""

    idempotency_key: Key | None = None


class BatchIn(Strict):
    """Up to 1,000 notifications; each is checked alone, so that one fault is nobody else's."""

    notifications: Annotated[list[dict[str, Any]], Field(min_length=1, max_length=MAX_BATCH)]
