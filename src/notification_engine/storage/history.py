"""The history: append-only, one document an attempt. Its id is delivery, fence and attempt, so a repeated append is
harmless."""

from collections.abc import Sequence
from typing import Any

from pymongo.errors import BulkWriteError

from notification_engine.domain.caller import Caller, Role
from notification_engine.domain.cursor import decode_cursor, encode_cursor
from notification_engine.domain.delivery import Channel, Reason
from notification_engine.domain.errors import NotFound, Unavailable
from notification_engine.domain.outcome import Attempt
from notification_engine.services.ports import Page
from notification_engine.storage.connection import Database, Document, translated
from notification_engine.storage.personal import shown

_OPTIONAL = ("provider", "endpoint", "latency_ms", "detail", "provider_message_id", "next_attempt_seconds")
_DUPLICATE_KEY = 11000


class History:
    """Implements `services.ports.HistoryStore`, and `PersonalData`."""

    collection = "notification_history"

    def __init__(self, database: Database) -> None:
        self._collection = database.collection("notification_history")
        self._majority = database.majority("notification_history")

    async def append(self, attempts: Sequence[Attempt]) -> None:
        """Raises Unavailable when not every row is there with a majority."""
        if not attempts:
            return
        with translated():
            try:
                await self._collection.insert_many([row_document(a) for a in attempts], ordered=False)
            except BulkWriteError as error:
                others = [e for e in error.details["writeErrors"] if e["code"] != _DUPLICATE_KEY]
                if others or error.details.get("writeConcernErrors"):
                    raise Unavailable("The history was not written.") from None

    async def of_notifications(self, ids: Sequence[str]) -> list[Attempt]:
        with translated():
            return [_attempt(d) async for d in self._majority.find({"notification_id": {"$in": list(ids)}})]

    async def timeline(self, notification_id: str) -> list[Attempt]:
        with translated():
            found = self._majority.find({"notification_id": notification_id}, sort=[("timestamp", 1), ("_id", 1)])
            return [_attempt(d) async for d in found]

    async def page(self, caller: Caller, user_id: str, cursor: str | None, limit: int) -> Page:
        """Newest first. Another user's is for operators; else NotFound."""
        if user_id != caller.sub and not caller.may(Role.OPERATOR):
            raise NotFound("There is no such user.")
        match: dict[str, Any] = {"user_id": user_id}
        if cursor:
            at, row_id = decode_cursor(cursor)
            match["$or"] = [{"timestamp": {"$lt": at}}, {"timestamp": at, "_id": {"$lt": row_id}}]
        with translated():
            found = self._majority.find(match, sort=[("timestamp", -1), ("_id", -1)], limit=limit + 1)
            rows = [_attempt(d) async for d in found]
        shown = rows[:limit]
        more = len(rows) > limit
        return Page(shown, encode_cursor(shown[-1].timestamp, shown[-1].id) if more else None)

    async def export(self, user_id: str) -> list[Document]:
        with translated():
            return [shown(d) async for d in self._majority.find({"user_id": user_id}, sort=[("timestamp", 1)])]

    async def erase(self, user_id: str) -> int:
        with translated():
            return (await self._collection.delete_many({"user_id": user_id})).deleted_count


def row_document(attempt: Attempt) -> Document:
    document: Document = {
        "_id": attempt.id,
        "user_id": attempt.user_id,
        "notification_id": attempt.notification_id,
        "delivery_id": attempt.delivery_id,
        "channel": str(attempt.channel),
        "delivery_status": str(attempt.delivery_status),
        "attempt": attempt.attempt,
        "fence": attempt.fence,
        "timestamp": attempt.timestamp,
    }
    if attempt.reason is not None:
        document["reason"] = str(attempt.reason)
    if attempt.held:
        document["held"] = True
    for name in _OPTIONAL:
        if (value := getattr(attempt, name)) is not None:
            document[name] = value
    return document


def _attempt(document: Document) -> Attempt:
    values = {name: document.get(name) for name in _OPTIONAL}
    return Attempt(
        **values,
        notification_id=document["notification_id"],
        delivery_id=document["delivery_id"],
        user_id=document["user_id"],
        channel=Channel(document["channel"]),
        fence=document["fence"],
        attempt=document["attempt"],
        delivery_status=document["delivery_status"],
        timestamp=document["timestamp"],
        reason=Reason(document["reason"]) if "reason" in document else None,
        held=document.get("held", False),
        suffix=_suffix(document["_id"]),
    )


def _suffix(row_id: str) -> str:
    """What stands behind delivery, fence and attempt."""
    parts = row_id.split(":", 3)
    return f":{parts[3]}" if len(parts) > 3 else ""
