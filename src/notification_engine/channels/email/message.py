"""The MIME message (RFC 5322): text and HTML, our delivery id as Message-ID, no control character in any header."""

import unicodedata
from datetime import UTC, datetime
from email.headerregistry import Address, BaseHeader, HeaderRegistry, UnstructuredHeader
from email.message import EmailMessage
from email.policy import EmailPolicy, Policy
from email.utils import format_datetime

from email_validator import validate_email

from notification_engine.rendering.plain import Email


class _UrlHeader(UnstructuredHeader, BaseHeader):
    """One address on one line: the standard library would cut a long one up into encoded words (RFC 2047), which no
    mail client reads as an address."""

    def fold(self, *, policy: Policy) -> str:
        return f"{self.name}: {self}{policy.linesep}"


def _policy() -> "EmailPolicy[EmailMessage]":
    registry = HeaderRegistry()
    registry.map_to_type("list-unsubscribe", _UrlHeader)
    return EmailPolicy(header_factory=registry)


POLICY = _policy()


def build(email: Email, sender: str, sender_name: str) -> EmailMessage:
    """Raises ValueError for an address or subject that cannot stand in a header."""
    message = EmailMessage(POLICY)
    message["From"] = Address(sender_name, addr_spec=sender)
    message["To"] = Address(addr_spec=ascii_address(email.to))
    message["Subject"] = email.subject
    message["Date"] = format_datetime(datetime.now(UTC))
    message["Message-ID"] = f"<{email.delivery_id}@{sender.rpartition('@')[2]}>"
    message["X-Notification-Delivery-Id"] = email.delivery_id
    for name, value in email.headers:
        message[name] = value
    # As stored, not as given: an encoded word (RFC 2047) in a subject is decoded on its way in, line breaks included.
    for value in message.values():
        check_line(str(value))
    message.set_content(email.text)
    message.add_alternative(email.html, subtype="html")
    for attached in email.attachments:
        check_line(attached.filename)
        main, _, sub = attached.content_type.partition("/")
        message.add_attachment(attached.content, maintype=main, subtype=sub, filename=attached.filename)
    return message


def check_line(value: str) -> None:
    """Raises ValueError for what would end a header's line or hide in it."""
    if not value.isprintable() and any(unicodedata.category(c) == "Cc" for c in value):
        raise ValueError("a control character in a header")


def ascii_address(address: str) -> str:
    """One bare address with its domain in the form that every mail server reads (IDNA). Raises ValueError."""
    checked = validate_email(address, check_deliverability=False, allow_smtputf8=False, test_environment=True)
    return checked.ascii_email or checked.normalized
