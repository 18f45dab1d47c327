"""SendGrid: the v3 Mail Send API (Twilio SendGrid API reference, POST /v3/mail/send). Our delivery id travels in the
personalization's `custom_args`, so that its events can be matched; of the whole send's the vendor's description says
that they are a string."""

import asyncio
import base64
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import aiohttp
import orjson

from notification_engine.channels.email.credentials import Tried, unreachable
from notification_engine.channels.email.message import ascii_address, check_line
from notification_engine.channels.email.verdict import http_signs, judge
from notification_engine.channels.http_status import parse_retry_after
from notification_engine.domain.delivery import Reason
from notification_engine.domain.outcome import Outcome, Rejected
from notification_engine.domain.retry import clamp_retry_after
from notification_engine.net.exchange import Answered, Lost, NotSent, Session, post
from notification_engine.rendering.plain import Email
from notification_engine.services.ports import Deadline

SCOPES_BYTES = 256 * 1024
MAX_BYTES = 30 * 1024 * 1024  # "the total message size should not exceed 30MB"


@dataclass(frozen=True, slots=True)
class SendGridConfig:
    api_key: str
    sender: str
    sender_name: str
    base_url: str


class SendGridProvider:
    name = "sendgrid"

    def __init__(self, session: Session, config: SendGridConfig) -> None:
        self._session = session
        self._config = config
        self._url = f"{config.base_url.rstrip('/')}/v3/mail/send"
        self._headers = {"Authorization": f"Bearer {config.api_key}", "Content-Type": "application/json"}

    async def send(self, email: Email, deadline: Deadline) -> Outcome:
        try:
            body = orjson.dumps(mail_send(email, self._config.sender, self._config.sender_name))
        except ValueError:
            return Rejected(Reason.INVALID_ADDRESS, self.name)
        if len(body) > MAX_BYTES:
            return Rejected(Reason.TOO_LARGE, self.name)
        match await post(self._session, self._url, body, self._headers, deadline.at):
            case Answered(status, headers):
                now = datetime.now(UTC)
                after = _reset(headers.get("X-RateLimit-Reset")) or parse_retry_after(headers.get("Retry-After"), now)
                message_id = headers.get("X-Message-Id")
                return judge(
                    self.name, *http_signs(status), detail=f"HTTP {status}", after=after, message_id=message_id
                )
            case NotSent(reason, detail):
                return judge(self.name, _silence(reason, "before"), detail=detail)
            case Lost(reason, detail):
                return judge(self.name, _silence(reason, "after"), detail=detail)

    def renew(self, api_key: str) -> None:
        self._headers = self._headers | {"Authorization": f"Bearer {api_key}"}

    async def try_credentials(self, seconds: float) -> Tried:
        """GET /v3/scopes (API reference, "API Key Permissions"): what this key may do."""
        url = f"{self._config.base_url.rstrip('/')}/v3/scopes"
        try:
            async with (
                asyncio.timeout(seconds),
                self._session().get(url, headers=self._headers, allow_redirects=False) as answer,
            ):
                body = await answer.content.read(SCOPES_BYTES)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            return unreachable("SendGrid", error)
        if answer.status in {401, 403}:
            todo = "Make a key with the scope mail.send, set SENDGRID_API_KEY."
            return Tried(False, f"SendGrid refused the key (HTTP {answer.status})", todo)
        if answer.status != 200:
            todo = "Check SENDGRID_BASE_URL and SendGrid's status page."
            return Tried(False, f"SendGrid answered HTTP {answer.status}", todo)
        if b'"mail.send"' not in body:
            return Tried(False, "the key lacks the scope mail.send", "Give it that scope, or make another key.")
        return Tried(True, "the key may send")

    async def close(self) -> None:
        """The session is shared; who opened it closes it."""


def mail_send(email: Email, sender: str, sender_name: str) -> dict[str, Any]:
    """The request's body. Raises ValueError for an address or subject that cannot be used."""
    check_line(email.subject)
    body: dict[str, Any] = {
        "personalizations": [
            {"to": [{"email": ascii_address(email.to)}], "custom_args": {"delivery_id": email.delivery_id}}
        ],
        "from": {"email": sender, "name": sender_name},
        "subject": email.subject,
        "content": [{"type": "text/plain", "value": email.text}, {"type": "text/html", "value": email.html}],
        "headers": {"X-Notification-Delivery-Id": email.delivery_id, **dict(email.headers)},
    }
    if email.attachments:
        body["attachments"] = [
            {
                "content": base64.b64encode(attachment.content).decode(),
                "type": attachment.content_type,
                "filename": attachment.filename,
                "disposition": "attachment",
            }
            for attachment in email.attachments
        ]
    return body


def _silence(reason: Reason, when: str) -> str:
    return f"{'timeout' if reason is Reason.TIMEOUT else 'lost'} {when}"


def _reset(value: str | None) -> float | None:
    """Seconds until the moment that `X-RateLimit-Reset` names (seconds since the epoch); None for junk."""
    if value is None or not value.isascii() or not value.isdigit():
        return None
    return clamp_retry_after(int(value[:12]) - time.time())
