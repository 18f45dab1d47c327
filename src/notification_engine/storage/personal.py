"""What the stores share to tell and to erase personal data: whom a user's documents belong to, and plain values."""

import base64
from collections.abc import AsyncIterator
from typing import Any

from bson import ObjectId
from bson.binary import Binary

from notification_engine.domain.delivery import Channel
from notification_engine.storage.codec import to_notification
from notification_engine.storage.connection import Database, Document
from notification_engine.storage.sealing import Sealing

BATCH = 1000


def nobody(user_id: str) -> str:
    """The pseudonym where no key is given."""
    return "erased"


def shown(document: Document) -> Document:
    """A document as JSON can hold it: bytes in base64, object ids as text. Moments stay moments."""
    plain: Document = _plain(document)
    return plain


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_plain(v) for v in value]
    if isinstance(value, (bytes, Binary)):
        return base64.b64encode(bytes(value)).decode()
    return str(value) if isinstance(value, ObjectId) else value


async def delivery_ids(database: Database, user_id: str) -> AsyncIterator[list[str]]:
    """Of every notification of the user, in batches."""
    found = database.majority("notifications").find({"user_id": user_id}, {"deliveries.id": 1}, batch_size=BATCH)
    batch: list[str] = []
    async for document in found:
        batch += [delivery["id"] for delivery in document.get("deliveries", [])]
        if len(batch) >= BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


async def addresses(database: Database, sealing: Sealing | None, user_id: str) -> list[str]:
    """E-mail addresses that the user's notifications went to, as they were given."""
    found: set[str] = set()
    cursor = database.majority("notifications").find({"user_id": user_id}, batch_size=BATCH)
    while batch := await cursor.to_list(BATCH):
        notifications = await sealing.opened(batch) if sealing else [to_notification(d) for d in batch]
        for n in notifications:
            ends = [d.endpoint for d in n.deliveries if d.channel is Channel.EMAIL]
            found |= {address for address in (n.email, *ends) if address}
    return sorted(found)
