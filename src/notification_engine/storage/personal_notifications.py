"""A user's notifications as personal data: told, halted, erased.

Invariant: what is open is halted under a raised fence before it is erased, so no lane begins it; the ledger of the 202s
learns of an erased document before it goes, so that nothing seems lost.
"""

from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from notification_engine.domain.delivery import OPEN, DeliveryStatus
from notification_engine.kit.clock import Clock
from notification_engine.kit.ids import new_id, ulid_milliseconds
from notification_engine.storage.connection import Database, Document, translated
from notification_engine.storage.ledgers import KEPT
from notification_engine.storage.personal import BATCH, shown
from notification_engine.storage.pipelines import recompute
from notification_engine.storage.sealing import Sealing

_INTERNAL = {"lease": 0, "idempotency": 0, "rank": 0}


class PersonalNotifications:
    """Implements `services.ports.PersonalData` and `services.data_protection.OpenWork`."""

    collection = "notifications"

    def __init__(
        self, database: Database, clock: Clock, pseudonym: Callable[[str], str], sealing: Sealing | None = None
    ) -> None:
        self._sealing = sealing
        self._notifications = database.collection(self.collection)
        self._ledgers = database.collection("notification_ledgers")
        self._clock = clock
        self._pseudonym = pseudonym

    async def export(self, user_id: str) -> list[Document]:
        """Those for the user; of those that the user sent to others only the ids."""
        with translated():
            own = self._notifications.find({"user_id": user_id}, _INTERNAL, sort=[("_id", 1)])
            documents = [document async for document in own]
            found = [shown(d) for d in (await self._sealing.plain(documents) if self._sealing else documents)]
            sent = self._notifications.find({"source": user_id, "user_id": {"$ne": user_id}}, {"_id": 1, "source": 1})
            return found + [document async for document in sent]

    async def halt(self, user_id: str) -> int:
        """How many documents were in a lane's hands."""
        held = {"user_id": user_id, "lease.owner": {"$exists": True}}
        with translated():
            in_flight = await self._notifications.count_documents(held)
            open_ones = {"user_id": user_id, "$or": [{"due_at": {"$exists": True}}, {"lease.owner": {"$exists": True}}]}
            await self._notifications.update_many(open_ones, _halted())
        return in_flight

    async def erase(self, user_id: str) -> int:
        removed = 0
        with translated():
            while True:
                found = self._notifications.find({"user_id": user_id}, {"_id": 1}, limit=BATCH)
                ids = [document["_id"] async for document in found]
                if not ids:
                    break
                await self._correct_ledger(ids)
                removed += (await self._notifications.delete_many({"_id": {"$in": ids}})).deleted_count
            sent = {"$set": {"source": self._pseudonym(user_id)}, "$unset": {"idempotency": ""}}
            return removed + (await self._notifications.update_many({"source": user_id}, sent)).modified_count

    async def _correct_ledger(self, ids: list[str]) -> None:
        now = self._clock.now()
        minutes = Counter(_minute(document_id) for document_id in ids)
        rows: list[Document] = [
            {
                "_id": new_id("erased"),
                "minute": minute,
                "accepted": -n,
                "expires_at": minute + KEPT,
            }
            for minute, n in minutes.items()
            if minute + KEPT > now - timedelta(minutes=1)
        ]
        if rows:
            await self._ledgers.insert_many(rows)


def _minute(document_id: str) -> datetime:
    milliseconds = ulid_milliseconds(document_id.removeprefix("ntfy_"))
    return datetime.fromtimestamp(milliseconds // 60_000 * 60, UTC)


def _halted() -> list[dict[str, Any]]:
    """What is not sent is cancelled; what waits for a resend, or may be on the wire, is given up."""
    ended = {"status": str(DeliveryStatus.CANCELLED), "updated_at": "$$NOW", "held": False}
    is_open = {"$in": ["$$d.status", sorted([*OPEN, DeliveryStatus.UNKNOWN])]}
    deliveries = {"$map": {"input": "$deliveries", "as": "d", "in": {"$cond": [is_open, _ended(ended), "$$d"]}}}
    return [
        {"$set": {"lease.fence": {"$add": [{"$ifNull": ["$lease.fence", 0]}, 1]}, "deliveries": deliveries}},
        {"$unset": "inbox.snoozed_until"},
        *recompute(reset_deaths=True),
    ]


def _ended(values: dict[str, Any]) -> dict[str, Any]:
    without: Any = "$$d"
    for name in ("claim", "next_attempt_at"):
        without = {"$unsetField": {"field": name, "input": without}}
    return {"$mergeObjects": [without, values]}
