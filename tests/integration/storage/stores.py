"""The repositories on a database of the test's own, and the smallest notifications that they take."""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from pymongo import AsyncMongoClient

from notification_engine.domain.delivery import Channel, Delivery, derive_status
from notification_engine.domain.notification import Notification, Priority, delivery_id
from notification_engine.kit.clock import Clock
from notification_engine.kit.ids import new_id
from notification_engine.services.ports import Inserted
from notification_engine.storage.connection import Database
from notification_engine.storage.history import History
from notification_engine.storage.notifications import Notifications

LEASE = 60.0


def notifications_of(database: Database, clock: Clock, *, several_daemons: bool = False) -> Notifications:
    return Notifications(database, clock, max_waiting_bytes=64 * 1024 * 1024, several_daemons=several_daemons)


@dataclass
class Stores:
    database: Database
    clock: Clock
    notifications: Notifications
    history: History

    def due(self, *channels: Channel, **fields: Any) -> Notification:
        """Due since a second ago, one delivery a channel; webhook when none is named."""
        notification_id, now = new_id("ntfy"), self.clock.now() - timedelta(seconds=1)
        deliveries = [
            Delivery(delivery_id(notification_id, i), channel, created_at=now, updated_at=now, next_attempt_at=now)
            for i, channel in enumerate(channels or (Channel.WEBHOOK,))
        ]
        plain: dict[str, Any] = {
            "id": notification_id,
            "event_id": new_id("evt"),
            "user_id": "u1",
            "notification_type": "test.message",
            "priority": Priority.MEDIUM,
            "title": "Hello",
            "body": "",
            "channels": list(channels or (Channel.WEBHOOK,)),
            "created_at": now,
            "deliveries": deliveries,
            "due_at": now,
            "email": "u1@example.org",
        }
        notification = Notification(**plain | fields)
        notification.status = derive_status(notification.deliveries)
        return notification

    async def put(self, notifications: Iterable[Notification]) -> list[str]:
        rows = [(n.id, self.notifications.encode(n)) for n in notifications]
        assert await self.notifications.insert(rows) == [Inserted()] * len(rows)
        return [row[0] for row in rows]

    async def document(self, notification_id: str) -> dict[str, Any]:
        found = await self.database.majority("notifications").find_one({"_id": notification_id})
        assert found is not None
        return found

    async def count(self, **match: Any) -> int:
        return await self.database.majority("notifications").count_documents(match)

    async def rows(self, notification_id: str) -> list[dict[str, Any]]:
        """The history, raw, in the order of writing."""
        found = self.database.majority("notification_history").find({"notification_id": notification_id})
        return [row async for row in found.sort([("timestamp", 1), ("_id", 1)])]

    async def expire(self, *ids: str) -> None:
        """As if the lease's time had passed."""
        past = {"due_at": {"$subtract": ["$$NOW", 1000]}, "lease.expires_at": {"$subtract": ["$$NOW", 1000]}}
        match: dict[str, Any] = {"due_at": {"$exists": True}, "lease.owner": {"$exists": True}}
        if ids:
            match["_id"] = {"$in": list(ids)}
        await self.database.collection("notifications").update_many(match, [{"$set": past}])

    async def claim(self, owner: str = "one", limit: int = 100, lease_seconds: float = LEASE) -> list[Notification]:
        return await self.notifications.claim(owner, limit, lease_seconds)

    async def claim_one(self, owner: str = "one") -> Notification:
        [claimed] = await self.claim(owner)
        return claimed


@asynccontextmanager
async def fail_command(url: str, database: Database, collection: str, mode: Any, **data: Any) -> AsyncIterator[None]:
    """The server's own fault injection, for one collection only."""
    data["namespace"] = f"{database.name}.{collection}"
    client: AsyncMongoClient[dict[str, Any]]
    async with AsyncMongoClient(url) as client:
        await client.admin.command("configureFailPoint", "failCommand", mode=mode, data=data)
        try:
            yield
        finally:
            await client.admin.command("configureFailPoint", "failCommand", mode="off")
