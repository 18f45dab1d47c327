"""The server applies the domain's tables to the stored state: whoever writes last, status and due time are right."""

import asyncio
import random
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.integration.storage.stores import Stores

from notification_engine.domain.delivery import OPEN, Channel, DeliveryStatus, derive_status
from notification_engine.domain.notification import Notification
from notification_engine.services.ports import Change
from notification_engine.storage.codec import to_notification
from notification_engine.storage.pipelines import allowed_from

S = DeliveryStatus
WAITING = {*OPEN, S.UNKNOWN}


async def _settle_all(stores: Stores, claimed: list[Notification], index: int, seed: int) -> None:
    """As one lane does: its own delivery of each, in batches, in an order of its own."""
    order = random.Random(seed).sample(claimed, len(claimed))
    changes = [Change(n.id, n.deliveries[index].id, n.lease.fence, S.DELIVERED, attempts=1) for n in order]
    for start in range(0, len(changes), 100):
        assert all(await stores.notifications.apply(changes[start : start + 100]))


async def test_two_lanes_of_two_thousand_notifications_leave_none_unfinished(stores: Stores) -> None:
    await stores.put(stores.due(Channel.WEBHOOK, Channel.EMAIL) for _ in range(2000))
    claimed = await stores.claim(limit=2000)
    assert len(claimed) == 2000
    await asyncio.gather(*(_settle_all(stores, claimed, index, seed=index) for index in (0, 1)))
    assert await stores.count(status="delivered") == 2000
    assert await stores.count(due_at={"$exists": True}) == 0
    assert await stores.count(**{"lease.owner": {"$exists": True}}) == 0
    assert await stores.count(**{"deliveries.status": {"$ne": "delivered"}}) == 0


async def test_while_a_lane_holds_one_the_due_time_is_the_leases_end(stores: Stores) -> None:
    await stores.put([stores.due(Channel.WEBHOOK, Channel.EMAIL)])
    claimed = await stores.claim_one()
    await stores.notifications.apply([Change(claimed.id, claimed.deliveries[0].id, 1, S.DELIVERED, attempts=1)])
    stored = await stores.document(claimed.id)
    assert stored["status"] == "pending"
    assert stored["due_at"] == stored["lease"]["expires_at"]
    assert stored["lease"]["owner"] == "one"


@pytest.mark.parametrize("start", list(S))
async def test_the_server_enforces_the_transition_table(stores: Stores, start: DeliveryStatus) -> None:
    """Every target from this state: taken exactly where the table allows it, and what is refused still lets go."""
    made = [stores.due() for _ in S]
    await stores.put(made)
    await stores.claim()
    await stores.database.collection("notifications").update_many({}, {"$set": {"deliveries.0.status": str(start)}})
    changes = [
        Change(n.id, n.deliveries[0].id, 1, to, attempts=7, next_attempt_seconds=60.0)
        for n, to in zip(made, S, strict=True)
    ]
    assert all(await stores.notifications.apply(changes))
    for notification, to in zip(made, S, strict=True):
        [stored] = (await stores.document(notification.id))["deliveries"]
        allowed = start in allowed_from(Change(notification.id, stored["id"], 1, to))
        assert stored["status"] == (to if allowed else start), (start, to)
        assert stored["attempts"] == 7, "what a lane alone knows is kept, though feedback was faster"
        assert "claim" not in stored


_STEP = st.tuples(
    st.integers(0, 3),  # which delivery
    st.sampled_from(sorted(S)),
    st.sampled_from(["current", "old", "none"]),  # the fence
    st.booleans(),  # held for an operator
    st.booleans(),  # a claim comes first
)


def _change(document: dict[str, Any], step: tuple[int, str, str, bool, bool]) -> Change:
    """One that the services could make: what is open or unknown has a next attempt or is held."""
    index, status, fence, held, _ = step
    delivery = document["deliveries"][index % len(document["deliveries"])]
    held = held and status == S.UNKNOWN
    waits = status in WAITING and not held
    stored = document["lease"]["fence"]
    return Change(
        document["_id"],
        delivery["id"],
        {"current": stored, "old": stored - 1, "none": None}[fence],
        S(status),
        attempts=delivery["attempts"] + 1,
        next_attempt_seconds=0.0 if waits else None,
        held=held,
    )


def _check(document: dict[str, Any]) -> None:
    """The published table, computed here, against what the server computed; and nothing waits without a time."""
    stored = to_notification(document)
    ahead = stored.scheduled_at is not None and stored.scheduled_at > datetime.now(UTC)
    assert document["status"] == derive_status(stored.deliveries, scheduled_ahead=ahead)
    waits = any(d.status in WAITING and not d.held for d in stored.deliveries)
    held_by_lane = stored.lease.owner is not None and any(d.claim == stored.lease.fence for d in stored.deliveries)
    assert ("due_at" in document) == (waits or held_by_lane)
    assert ("owner" in document["lease"]) == held_by_lane


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(count=st.integers(1, 4), scheduled=st.booleans(), steps=st.lists(_STEP, min_size=1, max_size=8))
async def test_any_sequence_of_changes_gives_the_status_of_the_table(
    stores: Stores, count: int, scheduled: bool, steps: list[tuple[int, str, str, bool, bool]]
) -> None:
    await stores.database.collection("notifications").delete_many({})  # the last example's
    fields = {"scheduled_at": stores.clock.after(3600)} if scheduled else {}
    [notification_id] = await stores.put([stores.due(*[Channel.WEBHOOK] * count, **fields)])
    for step in steps:
        if step[4]:
            await stores.expire(notification_id)
            await stores.claim()
        before = await stores.document(notification_id)
        change = _change(before, step)
        [held] = await stores.notifications.apply([change])
        after = await stores.document(notification_id)
        if change.fence == before["lease"]["fence"] - 1:
            assert not held
            assert after == before
        else:
            assert held
            _check(after)
