"""Erasures under way and of late: which notifications they removed, so that what was in flight is removed as well.

Invariant: no user id stands here. A lane that was sending when its notification went writes its history row after it; a
provider reports on it days later. Both are found by the ids that stand here, for `KEPT`.
"""

from collections.abc import AsyncIterator
from datetime import datetime, timedelta

from notification_engine.domain.notification import base_id
from notification_engine.kit.clock import Clock
from notification_engine.storage.attachments import Attachments
from notification_engine.storage.backup import is_ours
from notification_engine.storage.connection import Database, Document, translated
from notification_engine.storage.personal import BATCH

KEPT = timedelta(days=30)
FRESH = timedelta(hours=1)
_NAMES = ("user_id", "source", "subject", "sub", "created_by", "updated_by", "published_by", "owner")


class Erasures:
    """Implements `services.data_protection.ErasureStore`."""

    def __init__(self, database: Database, attachments: Attachments, clock: Clock) -> None:
        self._database = database
        self._erasures = database.collection("notification_erasures")
        self._notifications = database.majority("notifications")
        self._history = database.collection("notification_history")
        self._events = database.collection("notification_provider_events")
        self._attachments = attachments
        self._clock = clock

    async def begin(self, receipt: str, subject: str, user_id: str) -> None:
        """Keeps the ids of the user's notifications and of what was attached to them."""
        now, part, ids = self._clock.now(), 0, list[str]()
        with translated():
            contents = await self._attachments.of_user(user_id)
            await self._keep(f"{receipt}:contents", subject, {"contents": contents}, now)
            async for document in self._notifications.find({"user_id": user_id}, {"_id": 1}, batch_size=BATCH):
                ids.append(document["_id"])
                if len(ids) == BATCH:
                    await self._keep(f"{receipt}:{part}", subject, {"ids": ids}, now)
                    part, ids = part + 1, []
            await self._keep(f"{receipt}:{part}", subject, {"ids": ids}, now)

    async def _keep(self, key: str, subject: str, what: Document, now: datetime) -> None:
        values = {"pseudonym": subject, "at": now, "expires_at": now + KEPT, **what}
        await self._erasures.update_one({"_id": key}, {"$set": values}, upsert=True)

    async def sweep(self, *, fresh: bool) -> int:
        """Removes what came after its notification was erased; `fresh`: only for erasures of the last hour."""
        match = {"at": {"$gt": self._clock.now() - FRESH}} if fresh else {}
        removed = 0
        with translated():
            async for erasure in self._erasures.find(match):
                removed += await self._sweep(sorted({base_id(i) for i in erasure.get("ids", [])}))
                removed += await self._attachments.erase_unused(erasure.get("contents", []))
        return removed

    async def _sweep(self, ids: list[str]) -> int:
        if not ids:
            return 0
        there = {d["_id"] async for d in self._notifications.find({"_id": {"$in": ids}}, {"_id": 1})}
        gone = [i for i in ids if i not in there]  # an erasure that was broken off: not before its notifications
        rows = await self._history.delete_many({"notification_id": {"$in": gone}})
        ranges = [{"delivery_id": {"$gte": f"dlv_{i[5:]}_", "$lt": f"dlv_{i[5:]}`"}} for i in gone]
        events = 0
        for start in range(0, len(ranges), 100):
            events += (await self._events.delete_many({"$or": ranges[start : start + 100]})).deleted_count
        return rows.deleted_count + events

    async def user_ids(self) -> AsyncIterator[str]:
        """Everybody who is named in any collection; one may come more than once."""
        for collection in await self._database.collection_names():
            if is_ours(collection):
                for name in _NAMES:
                    stages: list[Document] = [
                        {"$match": {name: {"$type": "string"}}},
                        {"$group": {"_id": f"${name}"}},
                    ]
                    with translated():
                        async for row in await self._database.collection(collection).aggregate(
                            stages, allowDiskUse=True
                        ):
                            yield row["_id"]
