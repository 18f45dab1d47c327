"""The MIME message (RFC 5322): text and HTML, our delivery id as Message-ID, no control character in any header."""

import unicodedata
from datetime import UTC, datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime

from email_validator import validate_email

from notification_engine.rendering.plain import Email


def build(email: Email, sender: str, sender_name: str) -> EmailMessage:
    """Raises ValueError for an address or subject that cannot stand in a header."""
    message = EmailMessage()
    message["From"] = Address(sender_name, addr_spec=sender)
    message["To"] = Address(addr_spec=ascii_address(email.to))
    message["Subject"] = email.subject
    message["Date"] = format_datetime(datetime.now(UTC))
    message["Message-ID"] = f"<{email.delivery_id}@{sender.rpartition('@')[2]}>"
    message["X-Notification-Delivery-Id"] = email.delivery_id
    # As stored, not as given: an encoded word (RFC 2047) in a subject is decoded on its way in, line breaks included.
    if any(unicodedata.category(c) == "Cc" for value in message.values() for c in str(value)):
        raise ValueError("a control character in a header")
    message.set_content(email.text)
    message.add_alternative(email.html, subtype="html")
    return message


def ascii_address(address: str) -> str:
    """One bare address with its domain in the form that every mail server reads (IDNA). Raises ValueError."""
    checked = validate_email(address, check_deliverability=False, allow_smtputf8=False, test_environment=True)
    return checked.ascii_email or checked.normalized
