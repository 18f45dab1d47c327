"""A walk over the notifications in the order of acceptance, behind a watermark kept in `notification_watermarks`."""

from collections.abc import Sequence
from datetime import datetime

from notification_engine.domain.delivery import DeliveryStatus
from notification_engine.domain.notification import Notification, base_id
from notification_engine.kit.ids import new_ulid
from notification_engine.storage.codec import to_notification
from notification_engine.storage.connection import Database, Document, translated

_ENDED = [str(DeliveryStatus.DELIVERED), str(DeliveryStatus.SUPPRESSED)]


class Walk:
    """Implements `daemon.janitor.Walk`."""

    def __init__(self, database: Database, name: str) -> None:
        self._name = name
        self._notifications = database.majority("notifications")
        self._history = database.majority("notification_history")
        self._watermarks = database.collection("notification_watermarks")

    async def watermark(self) -> str:
        with translated():
            found = await self._watermarks.find_one({"_id": self._name})
        return found["after"] if found else ""

    async def advance(self, watermark: str) -> None:
        with translated():
            await self._watermarks.update_one({"_id": self._name}, {"$max": {"after": watermark}}, upsert=True)

    async def without_history(self, after: str, before: datetime, limit: int) -> tuple[Sequence[Notification], str]:
        newest = f"ntfy_{new_ulid(int(before.timestamp() * 1000))}"
        with translated():
            found = self._notifications.find({"_id": {"$gt": after, "$lt": newest}}, sort=[("_id", 1)], limit=limit)
            documents = [document async for document in found.hint("_id_")]
            if not documents:
                return [], after
            there = await self._with_rows([base_id(document["_id"]) for document in documents])
        missing = [document for document in documents if not _ended(document) <= there]
        return [to_notification(document) for document in missing], documents[-1]["_id"]

    async def _with_rows(self, notification_ids: list[str]) -> set[str]:
        """The deliveries of these notifications that have a row."""
        match = {"notification_id": {"$in": notification_ids}}
        return {row["delivery_id"] async for row in self._history.find(match, {"delivery_id": 1, "_id": 0})}


def _ended(document: Document) -> set[str]:
    return {d["id"] for d in document["deliveries"] if d["status"] in _ENDED}
