"""The MIME message (RFC 5322): text and HTML, our delivery id as Message-ID, no control character in any header."""

from datetime import UTC, datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime

from notification_engine.rendering.plain import Email


def build(email: Email, sender: str, sender_name: str) -> EmailMessage:
    """Raises ValueError for an address or subject that cannot stand in a header."""
    for value in (email.to, email.subject, sender, sender_name):
        if any(ord(c) < 32 or ord(c) == 127 for c in value):
            raise ValueError("a control character in a header")
    message = EmailMessage()
    message["From"] = Address(sender_name, addr_spec=sender)
    message["To"] = Address(addr_spec=email.to)
    message["Subject"] = email.subject
    message["Date"] = format_datetime(datetime.now(UTC))
    message["Message-ID"] = f"<{email.delivery_id}@{sender.rpartition('@')[2]}>"
    message["X-Notification-Delivery-Id"] = email.delivery_id
    message.set_content(email.text)
    message.add_alternative(email.html, subtype="html")
    return message
