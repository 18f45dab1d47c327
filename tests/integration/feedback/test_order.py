"""Events in any order, twice, and beside a settlement: the same end. The store is real, the rest is left out."""

import asyncio
import itertools
import random
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from notification_engine.domain.delivery import Channel, Delivery, DeliveryStatus, Reason
from notification_engine.domain.feedback import EventKind as K
from notification_engine.domain.feedback import ProviderEvent
from notification_engine.domain.notification import Lease, Notification, Priority
from notification_engine.health.metrics import Metrics
from notification_engine.kit.clock import Clock
from notification_engine.kit.ids import new_ulid
from notification_engine.services.feedback import Feedback
from notification_engine.services.ports import Change
from notification_engine.storage.audit import AuditLog
from notification_engine.storage.connection import Database
from notification_engine.storage.feedback import Feedback as Store
from notification_engine.storage.history import History
from notification_engine.storage.notifications import Notifications
from notification_engine.storage.preferences import Preferences
from notification_engine.storage.suppressions import Suppressions

S = DeliveryStatus
SETTLE = "settle"
NOW = datetime.now(UTC)
Step = K | str


@dataclass
class World:
    database: Database
    notifications: Notifications
    feedback: Feedback

    async def insert(self, status: DeliveryStatus, **fields: Any) -> Delivery:
        """One e-mail in the hands of a lane, or let go of by it."""
        ulid = new_ulid()
        lane = status is S.SENDING
        delivery = Delivery(f"dlv_{ulid}_0", Channel.EMAIL, status, endpoint=f"{ulid}@example.org", **fields)
        delivery.claim = 1 if lane else None
        lease = Lease("somebody", "t", 1, NOW + timedelta(minutes=5)) if lane else Lease(fence=1)
        notification = Notification(
            f"ntfy_{ulid}",
            f"evt_{ulid}",
            "u1",
            "a.b",
            Priority.MEDIUM,
            "t",
            "b",
            [Channel.EMAIL],
            NOW,
            lease=lease,
            due_at=lease.expires_at,
            deliveries=[delivery],
        )
        await self.notifications.insert([(notification.id, self.notifications.encode(notification))])
        return delivery

    async def go(self, delivery: Delivery, steps: list[list[Step]]) -> dict[str, Any]:
        """The steps, those of one list in one request; then what is stored, without what must differ."""
        for batch in steps:
            await self.feedback.apply([event(delivery, kind) for kind in batch if isinstance(kind, K)])
            if SETTLE in batch:
                assert await self.notifications.apply([settlement(delivery)]) == [True]
        ulid = delivery.id[4:30]
        document = await self.database.collection("notifications").find_one({"_id": f"ntfy_{ulid}"})
        suppressions = self.database.collection("notification_suppressions")
        listed = await suppressions.find_one({"address": f"{ulid}@example.org"})
        rows = self.database.collection("notification_history").find({"delivery_id": delivery.id})
        assert document is not None
        stored = document["deliveries"][0]
        names = ("status", "reason", "held", "attempts", "provider", "provider_message_id", "next_attempt_at", "claim")
        return {
            "status": document["status"],
            "due": "due_at" in document,
            "dead": "dead_at" in document,
            "owner": document["lease"].get("owner"),
            "listed": listed and listed["reason"],
            "rows": sorted([row["delivery_status"] async for row in rows]),
        } | {f"delivery {name}": stored.get(name) for name in names}


def event(delivery: Delivery, kind: K) -> ProviderEvent:
    return ProviderEvent(f"test:{delivery.id}:{kind}", "test", kind, NOW, delivery.id, raw="{}")


def settlement(delivery: Delivery) -> Change:
    return Change(
        f"ntfy_{delivery.id[4:30]}",
        delivery.id,
        1,
        S.ACCEPTED,
        attempts=1,
        provider="sendgrid",
        provider_message_id="sg-1",
    )


@pytest.fixture
async def world(database: Database, clock: Clock) -> World:
    audit = AuditLog(database)
    notifications = Notifications(database, clock, max_waiting_bytes=1 << 20)
    feedback = Feedback(
        Store(database, clock),
        notifications,
        History(database),
        Suppressions(database, audit),
        Preferences(database, audit),
        Metrics(),
        clock,
    )
    return World(database, notifications, feedback)


async def every_order(world: World, status: DeliveryStatus, steps: list[Step], **fields: Any) -> list[dict[str, Any]]:
    """The distinct ends of all orders, each step in a request of its own."""

    async def one(order: tuple[Step, ...]) -> dict[str, Any]:
        return await world.go(await world.insert(status, **fields), [[step] for step in order])

    ends = await asyncio.gather(*(one(order) for order in itertools.permutations(steps)))
    return [end for i, end in enumerate(ends) if end not in ends[:i]]


@pytest.mark.parametrize(
    ("steps", "status", "reason", "listed"),
    [
        ([K.ACCEPTED, K.DEFERRED, K.DELIVERED, K.OPENED], S.DELIVERED, None, None),
        ([K.ACCEPTED, K.DEFERRED, K.BOUNCED_HARD, K.COMPLAINED], S.FAILED, Reason.BOUNCED, "complaint"),
        ([K.DROPPED, K.BOUNCED_SOFT, K.BOUNCED_HARD, K.ACCEPTED], S.FAILED, Reason.BOUNCED, "hard_bounce"),
        ([K.DROPPED, K.BOUNCED_SOFT, K.ACCEPTED], S.FAILED, Reason.SOFT_BOUNCED, None),
        ([K.DELIVERED, K.BOUNCED_HARD, K.COMPLAINED, K.CLICKED], S.DELIVERED, None, "complaint"),
    ],
)
@pytest.mark.parametrize("begun", [S.ACCEPTED, S.UNKNOWN], ids=str)
async def test_the_order_of_events_does_not_matter(
    world: World, begun: DeliveryStatus, steps: list[Step], status: DeliveryStatus, reason: Reason | None, listed: str
) -> None:
    (end,) = await every_order(world, begun, steps, held=begun is S.UNKNOWN, attempts=1)
    assert (end["delivery status"], end["delivery reason"], end["listed"]) == (status, reason, listed)
    assert (end["due"], end["dead"], end["delivery held"]) == (False, status is S.FAILED, False)
    assert end["rows"] == sorted(f"event_{kind}" for kind in steps)


@pytest.mark.parametrize(
    ("steps", "status"),
    [
        ([SETTLE, K.ACCEPTED, K.DELIVERED], S.DELIVERED),
        ([SETTLE, K.ACCEPTED, K.BOUNCED_HARD], S.FAILED),
        ([SETTLE, K.DELIVERED, K.BOUNCED_SOFT], S.DELIVERED),
        ([SETTLE, K.DEFERRED, K.COMPLAINED], S.ACCEPTED),
    ],
)
async def test_a_settlement_may_come_before_between_or_after(
    world: World, steps: list[Step], status: DeliveryStatus
) -> None:
    (end,) = await every_order(world, S.SENDING, steps, mark={"fence": 1, "attempt": 1, "resend": 0})
    assert (end["delivery status"], end["delivery attempts"], end["delivery provider"]) == (status, 1, "sendgrid")
    assert (end["due"], end["owner"], end["delivery claim"]) == (False, None, None)


async def test_a_settlement_and_events_at_the_same_moment(world: World) -> None:
    async def race(_: int) -> dict[str, Any]:
        delivery = await world.insert(S.SENDING, mark={"fence": 1, "attempt": 1, "resend": 0})
        await asyncio.gather(*(world.go(delivery, [[step]]) for step in (SETTLE, K.ACCEPTED, K.DELIVERED)))
        return await world.go(delivery, [])

    ends = await asyncio.gather(*map(race, range(25)))
    assert all(end == ends[0] for end in ends)
    assert (ends[0]["delivery status"], ends[0]["delivery attempts"]) == (S.DELIVERED, 1)


async def test_batches_and_repeats_do_not_matter(world: World) -> None:
    """Any cut of a shuffled, doubled list into requests."""
    random.seed(7)
    kinds: list[Step] = [K.ACCEPTED, K.DEFERRED, K.DROPPED, K.BOUNCED_HARD, K.COMPLAINED, K.OPENED]

    async def one(_: int) -> dict[str, Any]:
        steps = random.sample(kinds * 2, len(kinds) * 2)
        cuts = sorted(random.sample(range(1, len(steps)), 3))
        batches = [steps[a:b] for a, b in zip([0, *cuts], [*cuts, len(steps)], strict=True)]
        return await world.go(await world.insert(S.ACCEPTED, attempts=1), batches)

    ends = await asyncio.gather(*map(one, range(60)))
    assert all(end == ends[0] for end in ends)
    assert (ends[0]["delivery reason"], ends[0]["listed"]) == (Reason.BOUNCED, "complaint")
    assert ends[0]["rows"] == sorted(f"event_{kind}" for kind in kinds)


async def test_what_a_callback_ended_is_not_marked_for_a_send(world: World) -> None:
    delivery = await world.insert(S.UNKNOWN, attempts=1)
    document = f"ntfy_{delivery.id[4:30]}"
    mark = {"fence": 1, "attempt": 2, "resend": 1}
    change = Change(document, delivery.id, 1, S.SENDING, mark=mark, release=False)
    await world.feedback.apply([event(delivery, K.DELIVERED)])
    assert await world.notifications.apply([change]) == [False]
    end = await world.go(delivery, [])
    assert (end["delivery status"], end["due"]) == (S.DELIVERED, False)


async def test_a_mark_whose_reply_was_lost_is_found_again(world: World) -> None:
    delivery = await world.insert(S.PENDING)
    mark = {"fence": 1, "attempt": 1, "resend": 0}
    change = Change(f"ntfy_{delivery.id[4:30]}", delivery.id, 1, S.SENDING, mark=mark, release=False)
    assert [await world.notifications.apply([change]) for _ in range(2)] == [[True], [True]]
