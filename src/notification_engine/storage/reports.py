"""What a replica tells about itself: its heartbeats and, once a minute, its figures. Both end by their TTL."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from notification_engine.services.ports import Beat
from notification_engine.storage.connection import Database, translated

MAX_REPLICAS = 1000


class Reports:
    """Implements `health.background.Reports` for one replica."""

    def __init__(self, database: Database, replica: str) -> None:
        self._replicas = database.collection("notification_replicas")
        self._metrics = database.collection("notification_metrics")
        self._replica = replica

    async def beat(self, state: Mapping[str, Any], life: timedelta) -> None:
        """Kept until `life` passes without another one."""
        now = datetime.now(UTC)
        document = {"beat_at": now, "expires_at": now + life, **state}
        with translated():
            await self._replicas.update_one({"_id": self._replica}, {"$set": document}, upsert=True)

    async def alive(self) -> list[Beat]:
        """Of all replicas, this one too; bounded, for an answer and not for a fleet of thousands."""
        now = datetime.now(UTC)
        shown = {"beat_at": 1, "connections": 1}
        with translated():
            found = self._replicas.find({"expires_at": {"$gt": now}}, shown, sort=[("_id", 1)], limit=MAX_REPLICAS)
            return [
                Beat(d["_id"], max(0.0, (now - d["beat_at"]).total_seconds()), d.get("connections", {}))
                async for d in found
            ]

    async def gone(self) -> None:
        with translated():
            await self._replicas.delete_one({"_id": self._replica})

    async def sample(self, figures: Mapping[str, Any], life: timedelta) -> None:
        """One document a minute: the minute is part of its id, so a later one of the same minute takes its place."""
        now = datetime.now(UTC)
        minute = now.replace(second=0, microsecond=0)
        document = {"replica": self._replica, "timestamp": minute, "expires_at": minute + life, **figures}
        with translated():
            await self._metrics.replace_one({"_id": f"{self._replica}:{minute:%Y%m%d%H%M}"}, document, upsert=True)
