"""Contents of attachments, each once under its hash, until its last e-mail is long sent. The TTL index ends them."""

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime

from bson.binary import Binary
from pymongo import UpdateOne

from notification_engine.storage.connection import Database, translated


class Attachments:
    """Implements `services.ports.AttachmentStore`."""

    def __init__(self, database: Database) -> None:
        self._collection = database.collection("notification_attachments")
        self._majority = database.majority("notification_attachments")

    async def keep(self, contents: Sequence[bytes], until: datetime) -> list[str]:
        """The ids of these contents, kept at least so long. Raises Unavailable."""
        ids = [hashlib.sha256(content).hexdigest() for content in contents]
        writes = [
            UpdateOne(
                {"_id": content_id},
                {"$setOnInsert": {"content": Binary(content)}, "$max": {"expires_at": until}},
                upsert=True,
            )
            for content_id, content in zip(ids, contents, strict=True)
        ]
        with translated():
            await self._collection.bulk_write(writes, ordered=False)
        return ids

    async def load(self, content_ids: Sequence[str]) -> Mapping[str, bytes]:
        """Those that are still there."""
        with translated():
            found = self._majority.find({"_id": {"$in": list(content_ids)}}, {"content": 1})
            return {document["_id"]: bytes(document["content"]) async for document in found}
