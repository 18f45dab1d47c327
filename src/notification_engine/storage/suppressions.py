"""The suppression list: one document a channel and address; what people change is audited in the same transaction.

Invariant: a document's id is a keyed hash of channel and address, and the address is sealed beside it. What an engine
before that stored (`suppression_id`, in clear) is found too, and brought over when it is met or by `reseal`.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from pymongo import UpdateOne

from notification_engine.domain.caller import Caller
from notification_engine.domain.cursor import decode_cursor, encode_cursor
from notification_engine.domain.delivery import Channel
from notification_engine.domain.errors import Conflict, NotFound, Unavailable, Unreadable
from notification_engine.domain.suppression import Suppression, SuppressionReason, normalised, suppression_id
from notification_engine.kit.batching import Batcher, QueueFull
from notification_engine.kit.logging import get_logger
from notification_engine.security.envelope import Sealer
from notification_engine.services.ports import Page, SuppressionFilter
from notification_engine.storage.audit import AuditLog
from notification_engine.storage.connection import Database, Document, Session, translated
from notification_engine.storage.personal import addresses, shown
from notification_engine.storage.sealing import Sealing

log = get_logger("engine")
EXPORT_BATCH = 500
IMPORT_BATCH = 1000
_WEIGHTS = [str(reason) for reason in SuppressionReason]  # the lighter first


class Suppressions:
    """Implements `services.ports.SuppressionStore`."""

    def __init__(self, database: Database, audit: AuditLog, sealer: Sealer | None = None) -> None:
        """Without `sealer` all is kept in clear."""
        self._sealer = sealer
        self._database = database
        self._audit = audit
        self._collection = database.collection("notification_suppressions")
        self._majority = database.majority("notification_suppressions")
        self._loads: Batcher[tuple[str, str], Suppression | None] = Batcher(
            self._load, max_batch=500, max_waiting=100_000, concurrency=2
        )

    async def find(self, channel: Channel, address: str) -> Suppression | None:
        """From the primary, never from a cache: what was reported a moment ago counts."""
        try:
            return await self._loads.submit((self._id(channel, address), suppression_id(channel, address)))
        except QueueFull as error:
            raise Unavailable("Too many sends wait for the suppression list.") from error

    async def report(self, suppressions: Sequence[Suppression]) -> None:
        if suppressions:
            await self._bring_over([s.id for s in suppressions])
            writes: list[Any] = [
                UpdateOne({"_id": self._id(s.channel, s.address)}, _reported(s, self._values(s)), upsert=True)
                for s in suppressions
            ]
            with translated():
                await self._collection.bulk_write(writes, ordered=False)

    async def add(self, caller: Caller, suppression: Suppression) -> Suppression:
        own = {"_id": self._id(suppression.channel, suppression.address)}
        await self._bring_over([suppression.id])

        async def work(session: Session) -> None:
            if await self._collection.find_one(own, session=session):
                raise Conflict("The address is on the list.")
            added = _added(self._values(suppression))
            await self._collection.update_one(own, added, upsert=True, session=session)
            after = _told(suppression)
            await self._audit.append(caller, "suppression.create", own["_id"], after=after, session=session)

        await self._database.transaction(work)
        return await self.get(own["_id"])

    async def add_many(self, caller: Caller, suppressions: Sequence[Suppression]) -> int:
        """Each row is written whole or not at all; a repeated import completes one that was broken off."""
        added = 0
        with translated():
            for start in range(0, len(suppressions), IMPORT_BATCH):
                batch = suppressions[start : start + IMPORT_BATCH]
                await self._bring_over([s.id for s in batch])
                writes: list[Any] = [
                    UpdateOne({"_id": self._id(s.channel, s.address)}, _added(self._values(s)), upsert=True)
                    for s in batch
                ]
                added += (await self._collection.bulk_write(writes, ordered=False)).upserted_count
        await self._audit.append(caller, "suppression.import", f"{added} new of {len(suppressions)}")
        return added

    async def get(self, suppression_id: str) -> Suppression:
        with translated():
            document = await self._majority.find_one({"_id": suppression_id})
        if document is None:
            raise NotFound("There is no such suppression.")
        return self._suppression(document)

    async def remove(self, caller: Caller, suppression_id: str) -> None:
        async def work(session: Session) -> None:
            found = await self._collection.find_one_and_delete({"_id": suppression_id}, session=session)
            if found is None:
                raise NotFound("There is no such suppression.")
            before = _told(self._suppression(found))
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
            match["_id"] = {"$in": self.ids_of(query.address)}
        if cursor:
            at, document_id = decode_cursor(cursor)
            earlier = [{"created_at": {"$lt": at}}, {"created_at": at, "_id": {"$lt": document_id}}]
            match = {"$and": [match, {"$or": earlier}]}
        with translated():
            found = self._majority.find(match, sort=[("created_at", -1), ("_id", -1)], limit=limit + 1)
            rows = [self._suppression(d) async for d in found]
        shown = rows[:limit]
        last = shown[-1] if len(rows) > limit else None
        return Page(shown, encode_cursor(last.created_at, last.id) if last and last.created_at else None)

    async def export(self, caller: Caller) -> AsyncIterator[Sequence[Suppression]]:
        await self._audit.append(caller, "suppression.export", "all")
        after = ""
        while True:
            with translated():
                found = self._majority.find({"_id": {"$gt": after}}, sort=[("_id", 1)], limit=EXPORT_BATCH)
                batch = [self._suppression(d) async for d in found]
            if not batch:
                return
            yield batch
            after = batch[-1].id

    def ids_of(self, address: str) -> list[str]:
        """Under which it may be stored, on every channel."""
        return [of(channel, address) for channel in Channel for of in (self._id, suppression_id)]

    async def legacy(self) -> int:
        """How many addresses stand there in clear."""
        with translated():
            return await self._collection.count_documents({"address": {"$type": "string"}})

    async def reseal(self, advance: Callable[[int], None] = lambda count: None) -> int:
        """Brings over all that an engine before this stored; how many. Repeatable; `advance` hears of each batch."""
        done = 0
        with translated():
            found = [d["_id"] async for d in self._collection.find({"address": {"$type": "string"}}, {"_id": 1})]
        for start in range(0, len(found), IMPORT_BATCH):
            done += await self._bring_over(found[start : start + IMPORT_BATCH])
            advance(len(found[start : start + IMPORT_BATCH]))
        return done

    async def _bring_over(self, legacy_ids: Sequence[str]) -> int:
        """Under its own id first, then the old one goes: no send finds neither. What is there twice, the weightier
        reason stays."""
        if self._sealer is None:
            return 0
        match = {"_id": {"$in": list(legacy_ids)}, "address": {"$type": "string"}}
        with translated():
            old = [d async for d in self._collection.find(match)]
            for document in old:
                s = self._suppression(document)
                values = self._values(s) | {"created_at": {"$literal": document["created_at"]}}
                own = {"_id": self._id(s.channel, s.address)}
                await self._collection.update_one(own, _reported(s, values), upsert=True)
                await self._collection.delete_one({"_id": document["_id"]})
        return len(old)

    async def _load(self, ids: list[tuple[str, str]]) -> Sequence[Suppression | BaseException | None]:
        with translated():
            found = self._collection.find({"_id": {"$in": list({i for pair in ids for i in pair})}})
            by_id = {d["_id"]: self._suppression(d) async for d in found}
        return [by_id.get(own) or by_id.get(former) for own, former in ids]

    def _id(self, channel: Channel, address: str) -> str:
        if self._sealer is None:
            return suppression_id(channel, address)
        return f"sup_{self._sealer.digest(channel, normalised(address))[:32]}"

    def _values(self, s: Suppression) -> Document:
        document_id, address = self._id(s.channel, s.address), normalised(s.address)
        return {
            "_id": document_id,
            "channel": str(s.channel),
            "address": {"$literal": self._sealer.seal(address.encode(), document_id) if self._sealer else address},
            "reason": str(s.reason),
            "source": {"$literal": s.source},
            "note": {"$literal": s.note},
            "created_at": "$$NOW",
            "created_by": {"$literal": s.created_by},
        }

    def _suppression(self, document: Document) -> Suppression:
        return Suppression(
            address=self.address_of(document),
            reason=SuppressionReason(document["reason"]),
            source=document["source"],
            created_by=document["created_by"],
            channel=Channel(document["channel"]),
            note=document["note"],
            created_at=document["created_at"],
            stored_as=document["_id"],
        )

    def address_of(self, document: Document) -> str:
        """An address that was altered is not shown; its id still suppresses it."""
        stored = document["address"]
        if isinstance(stored, str) or self._sealer is None:
            return str(stored)
        try:
            return self._sealer.open(stored, document["_id"]).decode()
        except Unreadable:
            log.error("The address of a suppression was altered", suppression_id=document["_id"])
            return ""


class PersonalSuppressions:
    """Implements `services.ports.PersonalData`: by the addresses of a user's notifications, and by who wrote a row."""

    collection = "notification_suppressions"

    def __init__(
        self, database: Database, suppressions: Suppressions, sealing: Sealing | None, pseudonym: Callable[[str], str]
    ) -> None:
        self._database = database
        self._suppressions = suppressions
        self._sealing = sealing
        self._collection = database.collection(self.collection)
        self._pseudonym = pseudonym

    async def _own(self, user_id: str) -> Document:
        own = await addresses(self._database, self._sealing, user_id)
        return {"_id": {"$in": [i for address in own for i in self._suppressions.ids_of(address)]}}

    async def export(self, user_id: str) -> list[Document]:
        match = {"$or": [await self._own(user_id), {"created_by": user_id}]}
        with translated():
            found = [d async for d in self._collection.find(match)]
        return [shown(d | {"address": self._suppressions.address_of(d)}) for d in found]

    async def erase(self, user_id: str) -> int:
        own, pseudonym = await self._own(user_id), {"$set": {"created_by": self._pseudonym(user_id)}}
        with translated():
            removed = (await self._collection.delete_many(own)).deleted_count
            changed = await self._collection.update_many({"created_by": user_id}, pseudonym)
            return removed + changed.modified_count


def _told(s: Suppression) -> Document:
    """For the audit: no address, and no note, which may name somebody."""
    return {"channel": str(s.channel), "reason": str(s.reason), "source": s.source}


def _added(values: Document) -> list[Document]:
    """What is there stays as it is; the moment is the server's."""
    return [{"$replaceWith": {"$cond": [{"$gt": ["$created_at", None]}, "$$ROOT", values]}}]


def _reported(s: Suppression, values: Document) -> list[Document]:
    """New, or the weightier reason; the rest is that of the first report."""
    heavier = {"$gt": [_WEIGHTS.index(s.reason), {"$indexOfArray": [_WEIGHTS, "$reason"]}]}
    raised = {"$cond": [heavier, {"$mergeObjects": ["$$ROOT", {"reason": str(s.reason)}]}, "$$ROOT"]}
    return [{"$replaceWith": {"$cond": [{"$gt": ["$created_at", None]}, raised, values]}}]
