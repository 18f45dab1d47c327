"""Fills a database with finished notifications and their history, as the engine's own codec writes them.

`python -m bench.fill URL DATABASE FIRST COUNT TOTAL`. Written without journal: the speed of later work is what counts.
"""

import asyncio
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

from pymongo import MongoClient

from bench.messages import TYPES, message
from notification_engine.domain.delivery import Channel, Delivery, DeliveryStatus, NotificationStatus
from notification_engine.domain.notification import Decision, Inbox, Notification, Priority, delivery_id
from notification_engine.kit.ids import new_ulid
from notification_engine.services.announce import settled_at_insert
from notification_engine.storage.codec import to_document
from notification_engine.storage.history import row_document

USERS = 20_000
BATCH = 2000
SPAN = timedelta(days=30)


def _finished(index: int, created_at: datetime) -> Notification:
    asked, ulid = message(index, "in_app"), new_ulid(int(created_at.timestamp() * 1000))
    delivery = Delivery(
        delivery_id(f"ntfy_{ulid}", 0),
        Channel.IN_APP,
        DeliveryStatus.DELIVERED,
        provider="in_app",
        attempts=1,
        created_at=created_at,
        updated_at=created_at,
        delivered_at=created_at,
    )
    return Notification(
        id=f"ntfy_{ulid}",
        event_id=f"evt_{ulid}",
        user_id=f"user-{index * 7919 % USERS:06d}",
        notification_type=TYPES[index % len(TYPES)],
        priority=Priority.MEDIUM,
        title=asked["title"],
        body=asked["body"],
        channels=[Channel.IN_APP],
        created_at=created_at,
        status=NotificationStatus.DELIVERED,
        data=asked["data"],
        decisions=[Decision("planned", "Planned for in_app.", Channel.IN_APP, created_at)],
        deliveries=[delivery],
        inbox=Inbox(visible_at=created_at, read_at=created_at if index % 5 else None),
        correlation_id=asked["correlation_id"],
        source="bench",
    )


def fill(url: str, name: str, first: int, count: int, total: int) -> None:
    begun = datetime.now(UTC) - SPAN - timedelta(minutes=5)
    with MongoClient[dict[str, Any]](url) as client:
        db = client[name]
        for start in range(first, first + count, BATCH):
            indexes = range(start, min(start + BATCH, first + count))
            batch = [_finished(i, begun + SPAN * (i / total)) for i in indexes]
            rows = [row_document(row) for n in batch for row in settled_at_insert(n)]
            db["notifications"].insert_many([to_document(n) for n in batch], ordered=False)
            db["notification_history"].insert_many(rows, ordered=False)


async def filled(url: str, name: str, count: int) -> None:
    """By two processes; then the janitor's watermark, as an engine that had written all this would have left it."""
    half = count // 2
    shares = ((0, half), (half, count - half))
    commands = [[sys.executable, "-m", "bench.fill", url, name, *map(str, share), str(count)] for share in shares]
    processes = [await asyncio.create_subprocess_exec(*command) for command in commands]
    if any([await process.wait() for process in processes]):
        raise RuntimeError("The database could not be filled")
    after = f"ntfy_{new_ulid(int((datetime.now(UTC) - timedelta(minutes=4)).timestamp() * 1000))}"
    await asyncio.to_thread(_watermark, url, name, after)


def _watermark(url: str, name: str, after: str) -> None:
    with MongoClient[dict[str, Any]](url) as client:
        client[name]["notification_watermarks"].insert_one({"_id": "history", "after": after})


if __name__ == "__main__":
    fill(sys.argv[1], sys.argv[2], *(int(word) for word in sys.argv[3:6]))
