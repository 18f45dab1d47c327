"""An attachment of an e-mail: kept under the hash of its content, or fetched from an address when it is sent."""

from dataclasses import dataclass

MAX_ATTACHMENTS = 10
MAX_FILE_BYTES = 10 * 1024 * 1024
MAX_MESSAGE_BYTES = 20 * 1024 * 1024  # of all attachments of one e-mail; providers take 30 MB with base64


@dataclass(frozen=True, slots=True)
class Attachment:
    """One of `content_id` and `url` is set."""

    filename: str
    content_type: str
    content_id: str | None = None
    url: str | None = None
