"""Contents of attachments, each once under its hash, until its last e-mail is long sent. The TTL index ends them."""

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from bson.binary import Binary
from pymongo import UpdateOne

from notification_engine.storage.connection import Database, Document, translated
from notification_engine.storage.personal import shown

GRACE = timedelta(seconds=30)  # an accept gives up after ten


class Attachments:
    """Implements `services.ports.AttachmentStore`, and `PersonalData`: contents that a user's notifications name."""

    collection = "notification_attachments"

    def __init__(self, database: Database, *, grace: timedelta = GRACE) -> None:
        """`grace`: how long after it was kept a content may belong to a notification that is not written yet."""
        self._grace = grace
        self._notifications = database.majority("notifications")
        self._collection = database.collection("notification_attachments")
        self._majority = database.majority("notification_attachments")

    async def keep(self, contents: Sequence[bytes], until: datetime) -> list[str]:
        """The ids of these contents, kept at least so long. Raises Unavailable."""
        ids = [hashlib.sha256(content).hexdigest() for content in contents]
        kept = {"$currentDate": {"kept_at": True}}
        writes = [
            UpdateOne(
                {"_id": content_id},
                {"$setOnInsert": {"content": Binary(content)}, "$max": {"expires_at": until}, **kept},
                upsert=True,
            )
            for content_id, content in zip(ids, contents, strict=True)
        ]
        with translated():
            await self._collection.bulk_write(writes, ordered=False)
        return ids

    async def export(self, user_id: str) -> list[Document]:
        with translated():
            found = self._majority.find({"_id": {"$in": await self.of_user(user_id)}})
            return [shown(document) async for document in found]

    async def erase(self, user_id: str) -> int:
        """Those that nobody else's notification names; one that was kept a moment ago is left to `erase_unused`."""
        with translated():
            ids = await self.of_user(user_id)
        return await self.erase_unused(ids, besides=user_id)

    async def of_user(self, user_id: str) -> list[str]:
        return [str(i) for i in await self._notifications.distinct("attachments.content_id", {"user_id": user_id}) if i]

    async def erase_unused(self, ids: Sequence[str], *, besides: str | None = None) -> int:
        """`besides`: the user whose notifications do not count."""
        if not ids:
            return 0
        others: Document = {"attachments.content_id": {"$in": list(ids)}, "user_id": {"$ne": besides}}
        with translated():
            used = set(await self._notifications.distinct("attachments.content_id", others))
            old = {"$lt": [{"$ifNull": ["$kept_at", "$$NOW"]}, {"$subtract": ["$$NOW", self._grace_ms]}]}
            match = {"_id": {"$in": sorted(set(ids) - used)}, "$expr": old}
            return (await self._collection.delete_many(match)).deleted_count

    @property
    def _grace_ms(self) -> int:
        return round(self._grace.total_seconds() * 1000)

    async def load(self, content_ids: Sequence[str]) -> Mapping[str, bytes]:
        """Those that are still there."""
        with translated():
            found = self._majority.find({"_id": {"$in": list(content_ids)}}, {"content": 1})
            return {document["_id"]: bytes(document["content"]) async for document in found}
