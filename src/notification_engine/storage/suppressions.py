"""The suppression list: one document a channel and address; what people change is audited in the same transaction."""

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from pymongo import UpdateOne

from notification_engine.domain.caller import Caller
from notification_engine.domain.cursor import decode_cursor, encode_cursor
from notification_engine.domain.delivery import Channel
from notification_engine.domain.errors import Conflict, NotFound, Unavailable
from notification_engine.domain.suppression import Suppression, SuppressionReason, normalised, suppression_id
from notification_engine.kit.batching import Batcher, QueueFull
from notification_engine.services.ports import Page, SuppressionFilter
from notification_engine.storage.audit import AuditLog
from notification_engine.storage.connection import Database, Document, Session, translated
from notification_engine.storage.personal import addresses, shown

EXPORT_BATCH = 500
IMPORT_BATCH = 1000
_WEIGHTS = [str(reason) for reason in SuppressionReason]  # the lighter first


class Suppressions:
    """Implements `services.ports.SuppressionStore`."""

    def __init__(self, database: Database, audit: AuditLog) -> None:
        self._database = database
        self._audit = audit
        self._collection = database.collection("notification_suppressions")
        self._majority = database.majority("notification_suppressions")
        self._loads: Batcher[str, Suppression | None] = Batcher(
            self._load, max_batch=500, max_waiting=100_000, concurrency=2
        )

    async def find(self, channel: Channel, address: str) -> Suppression | None:
        """From the primary, never from a cache: what was reported a moment ago counts."""
        try:
            return await self._loads.submit(suppression_id(channel, address))
        except QueueFull as error:
            raise Unavailable("Too many sends wait for the suppression list.") from error

    async def report(self, suppressions: Sequence[Suppression]) -> None:
        if suppressions:
            writes: list[Any] = [UpdateOne({"_id": s.id}, _reported(s), upsert=True) for s in suppressions]
            with translated():
                await self._collection.bulk_write(writes, ordered=False)

    async def add(self, caller: Caller, suppression: Suppression) -> Suppression:
        own = {"_id": suppression.id}

        async def work(session: Session) -> None:
            if await self._collection.find_one(own, session=session):
                raise Conflict("The address is on the list.")
            await self._collection.update_one(own, _added(suppression), upsert=True, session=session)
            after = _told(suppression)
            await self._audit.append(caller, "suppression.create", suppression.id, after=after, session=session)

        await self._database.transaction(work)
        return await self.get(suppression.id)

    async def add_many(self, caller: Caller, suppressions: Sequence[Suppression]) -> int:
        """Each row is written whole or not at all; a repeated import completes one that was broken off."""
        added = 0
        with translated():
            for start in range(0, len(suppressions), IMPORT_BATCH):
                batch = suppressions[start : start + IMPORT_BATCH]
                writes: list[Any] = [UpdateOne({"_id": s.id}, _added(s), upsert=True) for s in batch]
                added += (await self._collection.bulk_write(writes, ordered=False)).upserted_count
        await self._audit.append(caller, "suppression.import", f"{added} new of {len(suppressions)}")
        return added

    async def get(self, suppression_id: str) -> Suppression:
        with translated():
            document = await self._majority.find_one({"_id": suppression_id})
        if document is None:
            raise NotFound("There is no such suppression.")
        return _suppression(document)

    async def remove(self, caller: Caller, suppression_id: str) -> None:
        async def work(session: Session) -> None:
            found = await self._collection.find_one_and_delete({"_id": suppression_id}, session=session)
            if found is None:
                raise NotFound("There is no such suppression.")
            before = _told(_suppression(found))
            await self._audit.append(caller, "suppression.delete", suppression_id, before=before, session=session)

        await self._database.transaction(work)

    async def page(self, query: SuppressionFilter, cursor: str | None, limit: int) -> Page:
        """Newest first."""
        match: Document = {}
        if query.channel:
            match["channel"] = str(query.channel)
        if query.reason:
            match["reason"] = str(query.reason)
        if query.address:
            match["address"] = normalised(query.address)
        if cursor:
            at, document_id = decode_cursor(cursor)
            match["$or"] = [{"created_at": {"$lt": at}}, {"created_at": at, "_id": {"$lt": document_id}}]
        with translated():
            found = self._majority.find(match, sort=[("created_at", -1), ("_id", -1)], limit=limit + 1)
            rows = [_suppression(d) async for d in found]
        shown = rows[:limit]
        last = shown[-1] if len(rows) > limit else None
        return Page(shown, encode_cursor(last.created_at, last.id) if last and last.created_at else None)

    async def export(self, caller: Caller) -> AsyncIterator[Sequence[Suppression]]:
        await self._audit.append(caller, "suppression.export", "all")
        after = ""
        while True:
            with translated():
                found = self._majority.find({"_id": {"$gt": after}}, sort=[("_id", 1)], limit=EXPORT_BATCH)
                batch = [_suppression(d) async for d in found]
            if not batch:
                return
            yield batch
            after = batch[-1].id

    async def _load(self, ids: list[str]) -> Sequence[Suppression | BaseException | None]:
        with translated():
            found = self._collection.find({"_id": {"$in": list(set(ids))}})
            by_id = {d["_id"]: _suppression(d) async for d in found}
        return [by_id.get(i) for i in ids]


class PersonalSuppressions:
    """Implements `services.ports.PersonalData`: by the addresses of a user's notifications, and by who wrote a row."""

    collection = "notification_suppressions"

    def __init__(self, database: Database, pseudonym: Callable[[str], str]) -> None:
        self._database = database
        self._suppressions = database.collection(self.collection)
        self._pseudonym = pseudonym

    async def _own(self, user_id: str) -> Document:
        ids = [suppression_id(Channel.EMAIL, address) for address in await addresses(self._database, user_id)]
        return {"_id": {"$in": ids}}

    async def export(self, user_id: str) -> list[Document]:
        with translated():
            match = {"$or": [await self._own(user_id), {"created_by": user_id}]}
            return [shown(d) async for d in self._suppressions.find(match)]

    async def erase(self, user_id: str) -> int:
        pseudonym = {"$set": {"created_by": self._pseudonym(user_id)}}
        with translated():
            removed = (await self._suppressions.delete_many(await self._own(user_id))).deleted_count
            changed = await self._suppressions.update_many({"created_by": user_id}, pseudonym)
            return removed + changed.modified_count


def _told(s: Suppression) -> Document:
    """For the audit: no address, and no note, which may name somebody."""
    return {"channel": str(s.channel), "reason": str(s.reason), "source": s.source}


def _added(s: Suppression) -> list[Document]:
    """What is there stays as it is; the moment is the server's."""
    return [{"$replaceWith": {"$cond": [{"$gt": ["$created_at", None]}, "$$ROOT", _values(s)]}}]


def _reported(s: Suppression) -> list[Document]:
    """New, or the weightier reason; the rest is that of the first report."""
    heavier = {"$gt": [_WEIGHTS.index(s.reason), {"$indexOfArray": [_WEIGHTS, "$reason"]}]}
    raised = {"$cond": [heavier, {"$mergeObjects": ["$$ROOT", {"reason": str(s.reason)}]}, "$$ROOT"]}
    return [{"$replaceWith": {"$cond": [{"$gt": ["$created_at", None]}, raised, _values(s)]}}]


def _values(s: Suppression) -> Document:
    return {
        "_id": s.id,
        "channel": str(s.channel),
        "address": {"$literal": normalised(s.address)},
        "reason": str(s.reason),
        "source": {"$literal": s.source},
        "note": {"$literal": s.note},
        "created_at": "$$NOW",
        "created_by": {"$literal": s.created_by},
    }


def _suppression(document: Document) -> Suppression:
    return Suppression(
        address=document["address"],
        reason=SuppressionReason(document["reason"]),
        source=document["source"],
        created_by=document["created_by"],
        channel=Channel(document["channel"]),
        note=document["note"],
        created_at=document["created_at"],
    )
