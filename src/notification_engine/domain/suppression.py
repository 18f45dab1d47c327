"""A suppression: a stored reason not to send to an address on a channel."""

import hashlib
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from email_validator import EmailNotValidError, validate_email

from notification_engine.domain.delivery import Channel


class SuppressionReason(StrEnum):
    """In the order of their weight: a later one takes the place of an earlier one, never the other way round."""

    UNSUBSCRIBE = "unsubscribe"
    MANUAL = "manual"
    HARD_BOUNCE = "hard_bounce"
    COMPLAINT = "complaint"


@dataclass(frozen=True, slots=True)
class Suppression:
    """`source` is who reported it: a provider, `operator` or `import`. `stored_as`: its id, once it is stored."""

    address: str
    reason: SuppressionReason
    source: str
    created_by: str
    channel: Channel = Channel.EMAIL
    note: str = ""
    created_at: datetime | None = None
    stored_as: str | None = None

    @property
    def id(self) -> str:
        return self.stored_as or suppression_id(self.channel, self.address)


def normalised(address: str) -> str:
    """As it is compared: lower case, the domain in the form that mail servers read (IDNA)."""
    address = address.strip()
    if address.isascii():
        return address.lower()
    local, _, domain = address.rpartition("@")
    try:
        checked = validate_email(f"x@{domain}", check_deliverability=False, test_environment=True)
    except EmailNotValidError:
        return address.lower()
    return f"{local.lower()}@{checked.ascii_domain.lower()}"


def suppression_id(channel: Channel, address: str) -> str:
    """By channel and normalised address: tells equal ones. What is stored has an id of the same form under a key,
    because an address could be guessed from this one."""
    digest = hashlib.sha256("\0".join((channel, normalised(address))).encode())
    return f"sup_{digest.hexdigest()[:32]}"
