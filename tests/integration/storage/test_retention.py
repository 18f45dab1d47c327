"""Retention: what ended long ago goes, and nothing else does."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from tests.integration.storage.stores import Stores

from notification_engine.daemon.retention import Periods
from notification_engine.daemon.retention import Retention as RetentionLoop
from notification_engine.domain.delivery import DeliveryStatus, derive_status
from notification_engine.domain.notification import MAX_DELIVERIES, Inbox, Notification, delivery_id, sibling_id
from notification_engine.domain.outcome import Attempt
from notification_engine.kit.ids import new_id
from notification_engine.storage.retention import BATCH, Retention

S = DeliveryStatus


@pytest.fixture
def retention(stores: Stores) -> Retention:
    return Retention(stores.database, stores.clock)


def aged(stores: Stores, days: float, status: DeliveryStatus = S.DELIVERED, **fields: Any) -> Notification:
    """Accepted and ended so many days ago."""
    at = stores.clock.now() - timedelta(days=days)
    notification_id = new_id("ntfy", int(at.timestamp() * 1000))
    made = stores.due(id=notification_id, created_at=at, due_at=None, **fields)
    for index, delivery in enumerate(made.deliveries):
        delivery.id = delivery_id(notification_id, index)
        delivery.status, delivery.next_attempt_at, delivery.updated_at, delivery.created_at = status, None, at, at
    made.status = derive_status(made.deliveries)
    return made


async def ids(stores: Stores) -> set[str]:
    return {d["_id"] async for d in stores.database.majority("notifications").find({}, {"_id": 1})}


async def test_what_ended_long_ago_goes(stores: Stores, retention: Retention) -> None:
    young, old = aged(stores, 29), [aged(stores, 31, s) for s in (S.DELIVERED, S.ACCEPTED, S.CANCELLED, S.SUPPRESSED)]
    await stores.put([young, *old])
    assert await retention.notifications(30, {}) == 4
    assert await ids(stores) == {young.id}


async def test_nothing_goes_without_an_end(stores: Stores, retention: Retention) -> None:
    await stores.put([aged(stores, 9000)])
    assert await retention.notifications(0, {}) == 0


Change = Callable[[Notification, datetime], None]


def due(n: Notification, now: datetime) -> None:
    n.due_at = now + timedelta(days=100)


def leased(n: Notification, now: datetime) -> None:
    n.lease.owner = "a replica"


def ended_lately(n: Notification, now: datetime) -> None:
    n.deliveries[0].updated_at = now


def surfaced_lately(n: Notification, now: datetime) -> None:
    n.inbox = Inbox(visible_at=now)


@pytest.mark.parametrize("change", [due, leased, ended_lately, surfaced_lately])
async def test_what_is_not_over_stays_however_old_it_is(stores: Stores, retention: Retention, change: Change) -> None:
    kept = aged(stores, 400)
    change(kept, stores.clock.now())
    await stores.put([kept])
    assert await retention.notifications(30, {"test.message": 1}) == 0
    assert await ids(stores) == {kept.id}


@pytest.mark.parametrize("status", [S.PENDING, S.SENDING])
async def test_what_is_open_stays(stores: Stores, retention: Retention, status: DeliveryStatus) -> None:
    await stores.put([aged(stores, 400, status)])
    assert await retention.notifications(30, {}) == 0


async def test_dead_letters_stay_until_they_are_discarded(stores: Stores, retention: Retention) -> None:
    letter = aged(stores, 400, S.FAILED)
    await stores.put([letter])
    await stores.database.collection("notifications").update_one({"_id": letter.id}, [{"$set": {"dead_at": "$$NOW"}}])
    assert await retention.notifications(30, {}) == 0
    await stores.database.collection("notifications").update_one({"_id": letter.id}, {"$unset": {"dead_at": ""}})
    assert await retention.notifications(30, {}) == 1


async def test_a_type_has_days_of_its_own(stores: Stores, retention: Retention) -> None:
    ages, names = (5, 50, 500), ("a.a", "b.b", "c.c")
    kinds = {name: [aged(stores, days, notification_type=name) for days in ages] for name in names}
    await stores.put([n for made in kinds.values() for n in made])
    assert await retention.notifications(100, {"a.a": 10, "b.b": 0}) == 3
    kept = await ids(stores)
    assert [sum(n.id in kept for n in made) for made in kinds.values()] == [1, 3, 2]


async def test_the_parts_of_one_notification_go_together(stores: Stores, retention: Retention) -> None:
    whole = aged(stores, 400)
    whole.deliveries *= MAX_DELIVERIES
    sibling = aged(stores, 400, S.PENDING)
    sibling.id = sibling_id(whole.id, 1)
    await stores.put([whole, sibling])
    assert await retention.notifications(30, {}) == 0
    match = {"_id": sibling.id}
    await stores.database.collection("notifications").update_one(match, {"$set": {"status": "delivered"}})
    assert await retention.notifications(30, {}) == 2


async def test_more_than_a_batch_goes_in_one_run(stores: Stores, retention: Retention) -> None:
    await stores.put([aged(stores, 40) for _ in range(BATCH + 5)])
    assert await retention.notifications(30, {}) == BATCH + 5


async def test_history_outlives_its_notification(stores: Stores, retention: Retention) -> None:
    kept, gone = aged(stores, 500), aged(stores, 500)
    await stores.put([kept])
    rows = [
        Attempt(
            notification_id=n.id,
            delivery_id=n.deliveries[0].id,
            user_id="u1",
            channel=n.deliveries[0].channel,
            fence=1,
            attempt=1,
            delivery_status="delivered",
            timestamp=n.created_at,
        )
        for n in (kept, gone)
    ]
    await stores.history.append(rows)
    assert await retention.history(600) == 0
    assert await retention.history(0) == 0
    assert await retention.history(400) == 1
    assert len(await stores.history.timeline(kept.id)) == 1


async def test_raw_events_and_suppressions_have_their_days(stores: Stores, retention: Retention) -> None:
    now = stores.clock.now()
    for name, moment in (("notification_provider_events", "received_at"), ("notification_suppressions", "created_at")):
        rows = [{"_id": str(days), moment: now - timedelta(days=days)} for days in (1, 10)]
        await stores.database.collection(name).insert_many(rows)
    for remove in (retention.provider_events, retention.suppressions):
        assert [await remove(days) for days in (0, 20, 5, 5)] == [0, 0, 1, 0]


async def test_the_loop_purges_once_an_hour_and_sweeps_each_time(stores: Stores, retention: Retention) -> None:
    calls: list[str] = []

    async def by_type() -> dict[str, int]:
        calls.append("purge")
        return {}

    async def sweep(*, fresh: bool) -> int:
        calls.append(f"sweep {fresh}")
        return 0

    async def close_day() -> None:
        calls.append("day")

    loop = RetentionLoop(retention, Periods(30, 40, 90, 0), by_type, sweep, close_day)
    await stores.put([aged(stores, 31)])
    await loop.run_once()
    await loop.run_once()
    assert calls == ["day", "sweep False", "purge", "day", "sweep True"]
    assert await ids(stores) == set()
