"""The inbox: what surfaced for a user, newest first, and the marks that its owner sets. Times are the server's."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from pymongo import ReturnDocument

from notification_engine.domain.caller import Caller
from notification_engine.domain.cursor import decode_cursor, encode_cursor
from notification_engine.domain.errors import NotFound
from notification_engine.domain.notification import Notification
from notification_engine.kit.clock import Clock
from notification_engine.services.ports import InboxChange, InboxFilter, Page, Surfaced
from notification_engine.storage.codec import to_notification
from notification_engine.storage.connection import Database, Document, translated
from notification_engine.storage.pipelines import recompute

INBOX_INDEX = "inbox"
KEYS_AT_ONCE = 500  # decoded in one go: thousands would hold up every frame for 15 ms
OVERLAP = timedelta(seconds=60)  # a replay starts so long before the cursor: clocks and slow commits
_UNREAD = {"inbox.read_at": None, "inbox.visible_at": {"$exists": True}, "inbox.archived_at": {"$exists": False}}


class InboxQueries:
    """The reader's half of the notification store. Every query carries the user."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._inbox = database.collection("notifications")
        self._inbox_majority = database.majority("notifications")

    async def restamp(self, ids: Sequence[str]) -> None:
        if ids:
            with translated():
                await self._inbox.update_many({"_id": {"$in": list(ids)}}, [{"$set": {"inbox.visible_at": "$$NOW"}}])

    async def inbox(self, caller: Caller, query: InboxFilter, cursor: str | None, limit: int) -> Page:
        match = _matching(caller.sub, query)
        if cursor:
            at, document_id = decode_cursor(cursor)
            match["$or"] = [
                {"inbox.visible_at": {"$lt": at}},
                {"inbox.visible_at": at, "_id": {"$lt": document_id}},
            ]
        order = [("inbox.visible_at", -1), ("_id", -1)]
        return await self._page(match, order, limit)

    async def inbox_after(self, user_id: str, cursor: str, limit: int) -> Page:
        """Oldest first, as a majority has it, from 60 s before the cursor when it is a client's; a cursor that this
        method gave goes on where it was."""
        at, document_id = decode_cursor(cursor)
        if document_id.startswith(_PAGED):
            document_id = document_id.removeprefix(_PAGED)
        else:
            at, document_id = at - OVERLAP, ""
        match = {
            "user_id": user_id,
            "inbox.visible_at": {"$gte": at},
            "$or": [{"inbox.visible_at": {"$gt": at}}, {"_id": {"$gt": document_id}}],
        }
        return await self._page(match, [("inbox.visible_at", 1), ("_id", 1)], limit, prefix=_PAGED)

    async def _page(self, match: dict[str, Any], order: list[tuple[str, int]], limit: int, prefix: str = "") -> Page:
        with translated():
            found = self._inbox_majority.find(match, sort=order, limit=limit + 1)
            documents = [document async for document in found]
        more = len(documents) > limit
        items = await self.opened(documents[:limit])
        return Page(items, inbox_cursor(items[-1], prefix) if more else None)

    async def surfaced_since(
        self, user_ids: Sequence[str], since: datetime, limit: int, *, newest: bool = False
    ) -> list[Surfaced]:
        """Of all these users together, from the index alone; oldest first unless `newest`."""
        match = {"user_id": {"$in": list(user_ids)}, "inbox.visible_at": {"$gte": since}}
        shown = {"_id": 1, "user_id": 1, "inbox.visible_at": 1}
        way = -1 if newest else 1
        order = [("inbox.visible_at", way), ("_id", way)]
        with translated():
            found = self._inbox_majority.find(
                match, shown, sort=order, limit=limit, hint=INBOX_INDEX, batch_size=KEYS_AT_ONCE
            )
            return [Surfaced(d["_id"], d["user_id"], d["inbox"]["visible_at"]) async for d in found]

    async def surfaced(self, ids: Sequence[str]) -> list[Notification]:
        match = {"_id": {"$in": list(ids)}, "inbox.visible_at": {"$exists": True}}
        with translated():
            found = self._inbox_majority.find(match, sort=[("inbox.visible_at", 1), ("_id", 1)])
            documents = [document async for document in found]
        return await self.opened(documents)

    async def unread_count(self, user_id: str) -> int:
        with translated():
            return await self._inbox_majority.count_documents({"user_id": user_id} | _UNREAD)

    async def change_inbox(self, caller: Caller, notification_id: str, change: InboxChange) -> Notification:
        """Only the owner's, only what is in the inbox or snoozed out of it; else NotFound."""
        match = {"_id": notification_id, "user_id": caller.sub, "inbox": {"$exists": True}}
        with translated():
            document = await self._inbox.find_one_and_update(
                match, _inbox_pipeline(change), return_document=ReturnDocument.AFTER
            )
        if document is None:
            raise NotFound("There is no such notification.")
        return (await self.opened([document]))[0]

    async def opened(self, documents: Sequence[Document]) -> list[Notification]:
        return [to_notification(document) for document in documents]

    async def read_all(self, caller: Caller) -> int:
        with translated():
            pipeline = [{"$set": {"inbox.read_at": "$$NOW", "inbox.seen_at": {"$ifNull": ["$inbox.seen_at", "$$NOW"]}}}]
            result = await self._inbox.update_many({"user_id": caller.sub} | _UNREAD, pipeline)
        return int(result.modified_count)


_PAGED = "+"


def inbox_cursor(notification: Notification, prefix: str = "") -> str:
    assert notification.inbox is not None
    assert notification.inbox.visible_at is not None
    return encode_cursor(notification.inbox.visible_at, prefix + notification.id)


def _matching(user_id: str, query: InboxFilter) -> dict[str, Any]:
    visible: dict[str, Any] = {"$exists": True}
    if query.since:
        visible["$gte"] = query.since
    if query.until:
        visible["$lt"] = query.until
    match: dict[str, Any] = {"user_id": user_id, "inbox.visible_at": visible}
    match["inbox.archived_at"] = {"$exists": query.archived}
    if query.unread is not None:
        match["inbox.read_at"] = None if query.unread else {"$ne": None}
    if query.status:
        match["status"] = query.status
    if query.notification_type:
        match["notification_type"] = query.notification_type
    if query.priority:
        match["priority"] = str(query.priority)
    return match


def _inbox_pipeline(change: InboxChange) -> list[dict[str, Any]]:
    """First times stay; read implies seen. A snooze takes it out of the inbox until the sweeper surfaces it."""
    values: dict[str, Any] = {}
    gone: list[str] = []
    if change.read is True:
        values["inbox.read_at"] = {"$ifNull": ["$inbox.read_at", "$$NOW"]}
    elif change.read is False:
        values["inbox.read_at"] = None
    if change.seen or change.read:
        values["inbox.seen_at"] = {"$ifNull": ["$inbox.seen_at", "$$NOW"]}
    if change.archived is True:
        values["inbox.archived_at"] = {"$ifNull": ["$inbox.archived_at", "$$NOW"]}
    elif change.archived is False:
        gone.append("inbox.archived_at")
    if change.snoozed_until is not None:
        values["inbox.snoozed_until"] = change.snoozed_until
        gone.append("inbox.visible_at")
    elif change.unsnooze:
        values["inbox.visible_at"] = {"$ifNull": ["$inbox.visible_at", "$$NOW"]}
        gone.append("inbox.snoozed_until")
    stages: list[dict[str, Any]] = [{"$set": values}] if values else []
    stages += [{"$unset": gone}] if gone else []
    return stages + recompute(reset_deaths=False)
