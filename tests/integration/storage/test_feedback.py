"""Feedback of a provider, which holds no lease, meets a delivery that is in a lane's hands."""

from datetime import UTC, datetime
from typing import Any

import pytest

from notification_engine.domain.delivery import Channel, Delivery, DeliveryStatus, NotificationStatus
from notification_engine.domain.notification import Notification, Priority, delivery_id
from notification_engine.kit.clock import Clock
from notification_engine.kit.ids import new_ulid
from notification_engine.services.ports import Change
from notification_engine.storage.connection import Database
from notification_engine.storage.notifications import Notifications

S = DeliveryStatus
MARK = {"fence": 1, "attempt": 1, "resend": 0}


class Held:
    """A notification with two e-mail deliveries that a lane has claimed under fence 1."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self.store = Notifications(database, clock, max_waiting_bytes=1024 * 1024)
        self._documents = database.majority("notifications")
        self.id = f"ntfy_{new_ulid()}"
        self.first, self.second = (delivery_id(self.id, i) for i in range(2))

    async def begin(self) -> "Held":
        now = datetime(2026, 1, 1, tzinfo=UTC)
        deliveries = [Delivery(i, Channel.EMAIL, next_attempt_at=now) for i in (self.first, self.second)]
        notification = Notification(
            self.id,
            "evt_1",
            "u1",
            "a.b",
            Priority.MEDIUM,
            "t",
            "",
            [Channel.EMAIL],
            now,
            due_at=now,
            deliveries=deliveries,
        )
        await self.store.insert([(self.id, self.store.encode(notification))])
        (claimed,) = await self.store.claim("lane", 1, 60)
        assert claimed.lease.fence == 1
        return self

    async def apply(self, *changes: Change) -> list[bool]:
        return await self.store.apply(changes)

    async def stored(self) -> dict[str, Any]:
        found = await self._documents.find_one({"_id": self.id})
        assert found is not None
        return dict(found)

    def change(self, status: DeliveryStatus, *, fence: int | None = 1, **fields: Any) -> Change:
        return Change(self.id, self.first, fence, status, **fields)

    def mark(self) -> Change:
        return self.change(S.SENDING, mark=MARK, release=False)


@pytest.fixture
async def held(database: Database, clock: Clock) -> Held:
    return await Held(database, clock).begin()


async def test_a_retry_does_not_revive_what_has_bounced(held: Held) -> None:
    await held.apply(held.mark())
    await held.apply(held.change(S.FAILED, fence=None))
    await held.apply(held.change(S.PENDING, attempts=1, next_attempt_seconds=1.0))
    delivery = (await held.stored())["deliveries"][0]
    assert delivery["status"] == S.FAILED
    assert "claim" not in delivery


async def test_a_replay_revives_it(held: Held) -> None:
    await held.apply(held.change(S.FAILED, attempts=1))
    await held.apply(held.change(S.PENDING, fence=None, next_attempt_seconds=0.0))
    stored = await held.stored()
    assert stored["deliveries"][0]["status"] == S.PENDING
    assert stored["status"] == NotificationStatus.PROCESSING


@pytest.mark.parametrize("feedback", [S.DELIVERED, S.FAILED])
async def test_a_send_whose_mark_comes_after_the_feedback_does_not_begin(held: Held, feedback: DeliveryStatus) -> None:
    await held.apply(held.change(feedback, fence=None))
    second = Change(held.id, held.second, 1, S.ACCEPTED, attempts=1)
    assert await held.apply(held.mark(), second) == [False, True]
    stored = await held.stored()
    assert [d["status"] for d in stored["deliveries"]] == [feedback, S.ACCEPTED]
    assert "mark" not in stored["deliveries"][0]


async def test_a_mark_that_is_written_twice_holds(held: Held) -> None:
    """As after a lost reply."""
    assert await held.apply(held.mark()) == [True]
    assert await held.apply(held.mark()) == [True]


async def test_a_mark_of_a_lost_lease_does_not_hold(held: Held) -> None:
    await held.store.give_back([(held.id, 1)])
    await held.store.claim("another", 1, 60)
    assert await held.apply(held.mark()) == [False]
