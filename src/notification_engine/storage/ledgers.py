"""The ledger of the 202s, minute by minute and apart from the notifications, and what conservation asks of both.

A minute is that of the notifications' ids. Totals are written with `$max`, so a repeated write counts once.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from notification_engine.domain.delivery import OPEN, DeliveryStatus, NotificationStatus
from notification_engine.kit.clock import Clock
from notification_engine.kit.ids import first_ulid
from notification_engine.storage.claims import QUEUE_INDEX
from notification_engine.storage.connection import Database, Document, translated

KEPT = timedelta(days=7)
QUERY_MILLISECONDS = 5000
SHOWN = 10  # ids of a breach that are named
MAX_CHECKED = 2000  # ended notifications whose history is looked at in one run
_OPEN_STATUSES = [
    str(s) for s in (NotificationStatus.SCHEDULED, NotificationStatus.PENDING, NotificationStatus.PROCESSING)
]
_STATUS_INDEX = "status_1_created_at_-1"
_ENDED = [str(s) for s in DeliveryStatus if s not in OPEN]


class Ledgers:
    """Implements `health.conservation.Books` and `health.ledger.LedgerStore` for one replica."""

    def __init__(self, database: Database, replica: str, clock: Clock) -> None:
        self._ledgers = database.collection("notification_ledgers")
        self._notifications = database.majority("notifications")
        self._replica = replica
        self._clock = clock

    async def write(self, totals: Mapping[datetime, int]) -> None:
        """Documents answered with 202, by minute, since this process began."""
        with translated():
            for minute, total in totals.items():
                values = {"replica": self._replica, "minute": minute, "expires_at": minute + KEPT}
                await self._ledgers.update_one(
                    {"_id": f"{self._replica}:{minute:%Y%m%d%H%M}"},
                    {"$max": {"accepted": total}, "$setOnInsert": values},
                    upsert=True,
                )

    async def minute(self, minute: datetime) -> tuple[int, int]:
        """Accepted by the ledgers of all replicas, read first, and stored, within that minute."""
        begin = int(minute.timestamp() * 1000)
        ids = {"$gte": f"ntfy_{first_ulid(begin)}", "$lt": f"ntfy_{first_ulid(begin + 60_000)}"}
        with translated():
            accepted = 0
            async for row in self._ledgers.find({"minute": minute}, {"accepted": 1}):
                accepted += row["accepted"]
            stored = await self._notifications.count_documents({"_id": ids}, maxTimeMS=QUERY_MILLISECONDS)
        return accepted, stored

    async def open_without_due(self) -> list[str]:
        """What would never be done: an open status, and no moment at which anything is due."""
        match = {"status": {"$in": _OPEN_STATUSES}, "due_at": {"$exists": False}}
        return await self._ids(match, _STATUS_INDEX)

    async def overdue(self, seconds: float) -> list[str]:
        """Due for so long, and no lease holds it."""
        before = self._clock.now() - timedelta(seconds=seconds)
        return await self._ids({"due_at": {"$exists": True, "$lt": before}}, QUEUE_INDEX)

    async def ended_without_history(self, since: datetime, until: datetime) -> list[str]:
        """Accepted in that time, ended, and a delivery of it has no row."""
        begin, end = (int(at.timestamp() * 1000) for at in (since, until))
        ids = {"$gte": f"ntfy_{first_ulid(begin)}", "$lt": f"ntfy_{first_ulid(end)}"}
        ended = {"$filter": {"input": "$deliveries", "as": "d", "cond": {"$in": ["$$d.status", _ENDED]}}}
        rows: Sequence[Document] = [
            {"$match": {"_id": ids, "due_at": {"$exists": False}}},
            {"$limit": MAX_CHECKED},
            {
                "$project": {
                    "base": {"$substrCP": ["$_id", 0, 31]},
                    "ended": {"$map": {"input": ended, "in": "$$this.id"}},
                }
            },
            {
                "$lookup": {
                    "from": "notification_history",
                    "localField": "base",
                    "foreignField": "notification_id",
                    "as": "rows",
                    "pipeline": [{"$project": {"_id": 0, "delivery_id": 1}}],
                }
            },
            {"$match": {"$expr": {"$not": {"$setIsSubset": ["$ended", "$rows.delivery_id"]}}}},
            {"$limit": SHOWN},
            {"$project": {"_id": 1}},
        ]
        with translated():
            found = await self._notifications.aggregate(list(rows), maxTimeMS=QUERY_MILLISECONDS)
            return [document["_id"] async for document in found]

    async def dead(self) -> int:
        with translated():
            return await self._notifications.count_documents({"dead_at": {"$exists": True}}, hint="dead_letters")

    async def held(self) -> int:
        """Those among the dead whose outcome nobody knows, kept for an operator by their type's policy."""
        element = {"status": str(DeliveryStatus.UNKNOWN), "held": True}
        match = {"dead_at": {"$exists": True}, "deliveries": {"$elemMatch": element}}
        with translated():
            return await self._notifications.count_documents(match, hint="dead_letters", maxTimeMS=QUERY_MILLISECONDS)

    async def _ids(self, match: dict[str, Any], hint: str) -> list[str]:
        with translated():
            found = self._notifications.find(match, {"_id": 1}, limit=SHOWN, hint=hint, max_time_ms=QUERY_MILLISECONDS)
            return [document["_id"] async for document in found]
