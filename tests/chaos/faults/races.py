"""Races: a provider's feedback, a sender's cancel and an operator's replay against the settlement of a lane.

Feedback has no route yet: it is applied as the storage applies it, a change without a fence.
"""

import asyncio
import random
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from tests.chaos.cluster import Cluster, cluster
from tests.chaos.faults import fault
from tests.chaos.ledger import Row

from notification_engine.domain.delivery import (
    ALLOWED_FROM,
    Channel,
    Delivery,
    DeliveryStatus,
    NotificationStatus,
    derive_status,
)
from notification_engine.domain.notification import Notification, Priority, delivery_id
from notification_engine.kit.clock import Clock
from notification_engine.kit.ids import new_ulid
from notification_engine.services.ports import Change
from notification_engine.storage.connection import Database
from notification_engine.storage.migrations import migrate
from notification_engine.storage.notifications import Notifications

S = DeliveryStatus
BATCH = 100
SETTLEMENTS = (S.ACCEPTED, S.DELIVERED, S.UNKNOWN, S.FAILED, S.PENDING)
RETRY_SECONDS = 3600.0


@dataclass(frozen=True)
class Race:
    """One e-mail delivery in a lane's hands, with a webhook beside it that settles too; feedback comes meanwhile."""

    notification_id: str
    settled: DeliveryStatus
    feedback: DeliveryStatus

    def results(self) -> set[DeliveryStatus]:
        """What the published table makes of the two, one after the other."""
        return {_after(self.settled, self.feedback), _after(self.feedback, self.settled)}


def _after(*steps: DeliveryStatus) -> DeliveryStatus:
    """From `sending`. Feedback is final for a lane: only an operator's replay makes a failed delivery pending again."""
    state = S.SENDING
    for step in steps:
        revived = state is S.FAILED and step is S.PENDING
        state = step if state in ALLOWED_FROM[step] and not revived else state
    return state


@fault("bounce racing a settlement", full=2_000, short=200)
async def bounce(count: int, seed: int, shared: Cluster | None, broken: str | None) -> Row:
    """`count` deliveries that a lane settles, in every way it can, while the provider says that they have bounced."""
    return await feedback("bounce racing a settlement", S.FAILED, count, seed, shared)


@fault("complaint racing a settlement", full=2_000, short=200)
async def complaint(count: int, seed: int, shared: Cluster | None, broken: str | None) -> Row:
    """Who complains has received it: the feedback says `delivered`."""
    return await feedback("complaint racing a settlement", S.DELIVERED, count, seed, shared)


async def feedback(name: str, status: DeliveryStatus, count: int, seed: int, shared: Cluster | None) -> Row:
    draw = random.Random(seed)
    problems: Counter[str] = Counter()
    async with _store(shared) as (store, database):
        for begin in range(0, count, BATCH):
            size = min(BATCH, count - begin)
            races = await _begin(store, [Race(_id(), SETTLEMENTS[i % len(SETTLEMENTS)], status) for i in range(size)])
            await asyncio.gather(*(act for race in races for act in _both(store, race, draw)))
            ids = [race.notification_id for race in races]
            stored = {d["_id"]: d async for d in database.majority("notifications").find({"_id": {"$in": ids}})}
            for race in races:
                problems.update(_judge(race, stored.get(race.notification_id)))
    lost = problems.pop("lost", 0)
    texts = tuple(f"{text} ({times})" for text, times in problems.most_common(10))
    return Row(name, runs=count, accepted=count, lost=lost, problems=texts)


async def _begin(store: Notifications, races: Sequence[Race]) -> Sequence[Race]:
    """Inserts them, claims them and writes the mark, as a lane does before it calls the provider."""
    await store.insert([(r.notification_id, store.encode(_notification(r.notification_id))) for r in races])
    claimed = await store.claim("lane", len(races), 60)
    assert len(claimed) == len(races)
    marks = [
        Change(n.id, n.deliveries[0].id, n.lease.fence, S.SENDING, mark={"fence": 1, "attempt": 1}, release=False)
        for n in claimed
    ]
    assert all(await store.apply(marks))
    return races


def _both(store: Notifications, race: Race, draw: random.Random) -> list[asyncio.Task[None]]:
    """The settlement of both lanes and the feedback, each at a moment of its own."""
    retry = RETRY_SECONDS if race.settled is S.PENDING else None
    held = race.settled is S.UNKNOWN
    email, webhook = (delivery_id(race.notification_id, i) for i in range(2))
    changes = [
        Change(race.notification_id, email, 1, race.settled, attempts=1, next_attempt_seconds=retry, held=held),
        Change(race.notification_id, webhook, 1, S.DELIVERED, attempts=1),
        Change(race.notification_id, email, None, race.feedback),
    ]

    async def at(seconds: float, change: Change) -> None:
        await asyncio.sleep(seconds)
        await store.apply([change])

    return [asyncio.create_task(at(draw.random() * 0.02, change)) for change in changes]


def _judge(race: Race, stored: dict[str, object] | None) -> list[str]:
    if stored is None:
        return ["lost"]
    email, webhook = stored["deliveries"]  # type: ignore[misc]
    name = f"{race.settled} and {race.feedback}"
    problems = []
    if email["status"] not in race.results():
        problems.append(f"{name}: {email['status']}")
    if webhook["status"] != S.DELIVERED:
        problems.append(f"{name}: the delivery beside it is {webhook['status']}")
    deliveries = [
        Delivery(d["id"], Channel(d["channel"]), S(d["status"]), attempts=d["attempts"]) for d in (email, webhook)
    ]
    if stored["status"] != derive_status(deliveries):
        problems.append(f"{name}: the notification is {stored['status']}")
    if "claim" in email or "claim" in webhook or "owner" in stored["lease"]:  # type: ignore[operator]
        problems.append(f"{name}: still held")
    if ("due_at" in stored) is not (email["status"] == S.PENDING):
        problems.append(f"{name}: {email['status']}, due {stored.get('due_at')}")
    return problems


def _id() -> str:
    return f"ntfy_{new_ulid()}"


def _notification(notification_id: str) -> Notification:
    now = datetime.now(UTC)
    channels = (Channel.EMAIL, Channel.WEBHOOK)
    return Notification(
        id=notification_id,
        event_id=notification_id.replace("ntfy", "evt"),
        user_id="u1",
        notification_type="chaos.race",
        priority=Priority.MEDIUM,
        title=notification_id,
        body="",
        channels=list(channels),
        created_at=now,
        due_at=now,
        status=NotificationStatus.PENDING,
        deliveries=[
            Delivery(delivery_id(notification_id, i), channel, next_attempt_at=now, created_at=now, updated_at=now)
            for i, channel in enumerate(channels)
        ],
    )


@asynccontextmanager
async def _store(shared: Cluster | None) -> AsyncIterator[tuple[Notifications, Database]]:
    """A store of its own on the replica set, without an engine."""
    async with _given(shared) as replica_set:
        database = Database(replica_set.url, f"chaos_{uuid.uuid4().hex[:12]}", pool_size=50)
        clock = Clock()
        await database.synchronise(clock)
        await migrate(database)
        yield Notifications(database, clock, max_waiting_bytes=10_000_000), database
        await database.drop()
        await database.close()


@asynccontextmanager
async def _given(shared: Cluster | None) -> AsyncIterator[Cluster]:
    if shared is not None:
        yield shared
        return
    async with cluster() as own:
        yield own
