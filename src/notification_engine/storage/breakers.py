"""The breakers of all providers: one document each, in which every replica's counts meet on the server's clock."""

from typing import Any

from pymongo import ReturnDocument

from notification_engine.domain.breaker import BreakerPolicy, BreakerState, BreakerView
from notification_engine.storage.connection import Database, Document, translated


class Breakers:
    """Implements `services.ports.BreakerStore`."""

    def __init__(self, database: Database) -> None:
        self._collection = database.collection("notification_breakers")

    async def exchange(self, provider: str, policy: BreakerPolicy, ok: int, failed: int) -> BreakerView:
        """Adds this replica's calls since its last exchange; answers what the fleet knows now."""
        with translated():
            document = await self._collection.find_one_and_update(
                {"_id": provider},
                _pipeline(policy, ok, failed),
                upsert=True,
                return_document=ReturnDocument.AFTER,
            )
        return _view(document or {"ok": ok, "failed": failed})

    async def view(self, provider: str) -> BreakerView:
        """Without anything to add: one read."""
        left = {"$ifNull": [{"$subtract": ["$open_until", "$$NOW"]}, None]}
        with translated():
            found = await self._collection.aggregate([{"$match": {"_id": provider}}, {"$set": {"left": left}}])
            documents = [document async for document in found]
        return _view(documents[0]) if documents else BreakerView()


def _pipeline(policy: BreakerPolicy, ok: int, failed: int) -> list[dict[str, Any]]:
    """Forgets what left the window, adds, and decides; the same rule as `BreakerPolicy.trips`."""
    begin = {"$subtract": ["$$NOW", round(policy.window_seconds * 1000)]}
    kept = {
        "$filter": {"input": {"$ifNull": ["$slots", []]}, "as": "s", "cond": {"$gt": ["$$s.at", begin]}},
    }
    ours = [{"at": "$$NOW", "ok": ok, "failed": failed}] if ok or failed else []
    total = {"$add": ["$ok", "$failed"]}
    trips = {
        "$and": [
            {"$gte": [total, policy.minimum]},
            {"$gte": [{"$multiply": ["$failed", 100]}, {"$multiply": [total, policy.failure_percent]}]},
        ]
    }
    until = {"$add": ["$$NOW", round(policy.open_seconds * 1000)]}
    was_open, rests = {"$gt": ["$open_until", None]}, {"$gt": ["$open_until", "$$NOW"]}
    probed_well, probed_badly = {"$literal": ok > 0 and not failed}, {"$literal": failed > 0}
    decided = {
        "$switch": {
            "branches": [
                {"case": rests, "then": "$open_until"},
                {"case": {"$and": [was_open, probed_well]}, "then": None},
                {"case": {"$and": [was_open, probed_badly]}, "then": until},
                {"case": was_open, "then": "$open_until"},
                {"case": trips, "then": until},
            ],
            "default": None,
        }
    }
    return [
        {"$set": {"slots": {"$concatArrays": [kept, ours]}}},
        {"$set": {"ok": {"$sum": "$slots.ok"}, "failed": {"$sum": "$slots.failed"}}},
        {"$set": {"was_open": was_open, "open_until": decided}},
        {"$set": {"slots": {"$cond": [{"$and": ["$was_open", {"$eq": ["$open_until", None]}]}, [], "$slots"]}}},
        {"$set": {"left": {"$ifNull": [{"$subtract": ["$open_until", "$$NOW"]}, None]}}},
        {"$unset": "was_open"},
    ]


def _view(document: Document) -> BreakerView:
    left = document.get("left")
    if left is None:
        return BreakerView(BreakerState.CLOSED, document["ok"], document["failed"])
    state = BreakerState.OPEN if left > 0 else BreakerState.HALF_OPEN
    return BreakerView(state, document["ok"], document["failed"], max(0.0, left / 1000))
