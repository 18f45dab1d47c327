"""Retention: what is older than it may be kept is deleted, in batches, by id ranges.

Invariant: a notification goes only when it has ended, nothing of it is due, held or dead, no lane has it, and nothing
happened to it within its retention: what was scheduled a year ahead is kept from its delivery on. An attempt outlives
its notification. No TTL index could say this.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta

from notification_engine.domain.delivery import NotificationStatus
from notification_engine.domain.notification import MAX_DELIVERIES, base_id
from notification_engine.kit.clock import Clock
from notification_engine.kit.ids import first_ulid
from notification_engine.storage.connection import Database, Document, translated

BATCH = 1000
MAX_DELETED = 100_000  # of one collection in one run; the next goes on
N = NotificationStatus
_ENDED = [str(s) for s in NotificationStatus if s not in (N.SCHEDULED, N.PENDING, N.PROCESSING)]
_QUIET: Document = {name: {"$exists": False} for name in ("due_at", "dead_at", "lease.owner")}


class Retention:
    """Implements `daemon.retention.Store`."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._notifications = database.collection("notifications")
        self._history = database.collection("notification_history")
        self._database = database
        self._clock = clock

    async def notifications(self, days: int, by_type: Mapping[str, int]) -> int:
        """`days` for what no type says, 0: without end; `by_type`: the same for single types."""
        removed = 0
        for name, own in by_type.items():
            if own:
                removed += await self._purge({"notification_type": name}, own)
        if days:
            others = {"notification_type": {"$nin": sorted(by_type)}} if by_type else {}
            removed += await self._purge(others, days)
        return removed

    async def _purge(self, match: Document, days: int) -> int:
        before = self._before(days)
        place, end, removed = "", f"ntfy_{_ulid(before)}", 0
        recent = {"$not": {"$gte": before}}
        ended = match | _QUIET | {"status": {"$in": _ENDED}}
        ended |= {"deliveries.updated_at": recent, "inbox.visible_at": recent}
        with translated():
            while removed < MAX_DELETED:
                chosen = ended | {"_id": {"$gt": place, "$lt": end}}
                found = self._notifications.find(chosen, {"deliveries.id": 1}, sort=[("_id", 1)], limit=BATCH)
                documents = [document async for document in found]
                if not documents:
                    break
                place = documents[-1]["_id"]
                kept = await self._unfinished(documents)
                ids = [d["_id"] for d in documents if base_id(d["_id"]) not in kept]
                result = await self._notifications.delete_many(ended | {"_id": {"$in": ids}})
                removed += result.deleted_count
        return removed

    async def _unfinished(self, documents: list[Document]) -> set[str]:
        """Notifications of several documents that have one which must stay."""
        kept = set()
        split = {base_id(d["_id"]) for d in documents if "~" in d["_id"] or len(d["deliveries"]) >= MAX_DELIVERIES}
        for base in split:
            parts = {"_id": {"$gte": base, "$lt": base + "~~"}}
            stays: Document = {"$or": [{"status": {"$nin": _ENDED}}, *({n: {"$exists": True}} for n in _QUIET)]}
            if await self._notifications.find_one(parts | stays, {"_id": 1}):
                kept.add(base)
        return kept

    async def history(self, days: int) -> int:
        """Attempts whose notification is gone."""
        before = self._before(days)
        place, end, removed = "", f"dlv_{_ulid(before)}", 0
        with translated():
            while days and removed < MAX_DELETED:
                match = {"_id": {"$gt": place, "$lt": end}, "timestamp": {"$lt": before}}
                found = self._history.find(match, {"notification_id": 1}, sort=[("_id", 1)], limit=BATCH)
                rows = [row async for row in found.hint("_id_")]
                if not rows:
                    break
                place = rows[-1]["_id"]
                named = sorted({row["notification_id"] for row in rows})
                there = {d["_id"] async for d in self._notifications.find({"_id": {"$in": named}}, {"_id": 1})}
                ids = [row["_id"] for row in rows if row["notification_id"] not in there]
                removed += (await self._history.delete_many({"_id": {"$in": ids}})).deleted_count
        return removed

    async def provider_events(self, days: int) -> int:
        return await self._older("notification_provider_events", "received_at", days)

    async def suppressions(self, days: int) -> int:
        return await self._older("notification_suppressions", "created_at", days)

    async def _older(self, name: str, moment: str, days: int) -> int:
        if not days:
            return 0
        collection = self._database.collection(name)
        match = {moment: {"$lt": self._before(days)}}
        removed = 0
        with translated():
            while removed < MAX_DELETED:
                ids = [d["_id"] async for d in collection.find(match, {"_id": 1}, limit=BATCH)]
                if not ids:
                    break
                removed += (await collection.delete_many({"_id": {"$in": ids}} | match)).deleted_count
        return removed

    def _before(self, days: int) -> datetime:
        return self._clock.now() - timedelta(days=days)


def _ulid(moment: datetime) -> str:
    return first_ulid(int(moment.timestamp() * 1000))
