"""The inbox cursor: when a notification became visible, and its id, as one opaque text."""

import base64
import binascii
from datetime import UTC, datetime, timedelta

from notification_engine.domain.errors import InvalidRequest

_EPOCH = datetime.fromtimestamp(0, UTC)
_MILLISECOND = timedelta(milliseconds=1)


def encode_cursor(at: datetime, document_id: str) -> str:
    text = f"{(at - _EPOCH) // _MILLISECOND}.{document_id}"
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def decode_cursor(cursor: str) -> tuple[datetime, str]:
    """Raises InvalidRequest, field `cursor`, for what `encode_cursor` did not make."""
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        milliseconds, _, document_id = base64.urlsafe_b64decode(padded.encode()).decode().partition(".")
        return _EPOCH + int(milliseconds) * _MILLISECOND, document_id
    except (ValueError, OverflowError, binascii.Error) as error:
        raise InvalidRequest("The cursor is not one that this engine gave.", field="cursor") from error


def encode_place(name: str) -> str:
    """The cursor of a list that is ordered by name."""
    return encode_cursor(_EPOCH, name)


def decode_place(cursor: str | None) -> str:
    """The name to go on after; the empty text begins. Raises InvalidRequest, field `cursor`."""
    return decode_cursor(cursor)[1] if cursor else ""
