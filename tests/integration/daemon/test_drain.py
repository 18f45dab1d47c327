"""The drain: no more claims, what is in flight is settled, what has not begun is given back as nobody's death."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from tests.integration.conftest import Running, Start, message
from tests.integration.daemon.daemons import Daemon, a_daemon, never
from tests.integration.storage.stores import Stores
from tests.servers.receiver import Answer, Receiver

from notification_engine.domain.notification import Notification
from notification_engine.domain.outcome import Message, Outcome
from notification_engine.storage.connection import Database


async def _one_in_flight(stores: Stores, count: int) -> tuple[Daemon, list[str], asyncio.Event]:
    """A lane of one slot; its send answers once the event is set."""
    daemon, answered = a_daemon(stores, lane_bound=1), asyncio.Event()

    async def slow(message: Message) -> Outcome:
        await answered.wait()
        return await daemon.webhook._taken(message)

    daemon.webhook.answer = slow
    ids = await stores.put(stores.due() for _ in range(count))
    await daemon.sweeper.run_once()
    await daemon.webhook.began.wait()
    return daemon, ids, answered


async def test_what_is_in_flight_is_settled_and_the_rest_is_given_back(stores: Stores) -> None:
    daemon, ids, answered = await _one_in_flight(stores, 10)
    draining = asyncio.create_task(daemon.dispatcher.drain(20))
    await asyncio.sleep(0)  # the drain has begun
    answered.set()
    await draining
    assert len(daemon.webhook.calls) == 1
    sent = daemon.webhook.calls[0].notification_id
    for notification_id in ids:
        stored = await stores.document(notification_id)
        assert stored["status"] == ("delivered" if notification_id == sent else "pending")
        assert stored["lease"] == {"fence": 1, "abandoned": 0, "solo": False, "solo_deaths": 0}
        assert "claim" not in stored["deliveries"][0]


async def test_what_was_given_back_is_due_at_once_and_never_counts_as_a_death(stores: Stores) -> None:
    ids = await stores.put(stores.due() for _ in range(5))
    for _ in range(5):  # more often than the poison rule allows deaths
        daemon = a_daemon(stores, lane_bound=1)
        daemon.webhook.answer = never
        await daemon.sweeper.run_once()
        await daemon.webhook.began.wait()
        begun = daemon.webhook.calls[0].notification_id
        await daemon.dispatcher.drain(0.05)
        await daemon.die()
        await stores.database.collection("notifications").delete_one({"_id": begun})
        ids.remove(begun)
        for notification_id in ids:
            assert (await stores.document(notification_id))["lease"]["abandoned"] == 0
    assert ids == []


async def test_a_send_that_never_ends_does_not_hold_the_drain(stores: Stores) -> None:
    daemon, [notification_id], _ = await _one_in_flight(stores, 1)
    async with asyncio.timeout(10):
        await daemon.dispatcher.drain(0.2)
    stored = await stores.document(notification_id)
    assert stored["lease"]["owner"] == "one"
    await daemon.die()


async def test_a_draining_process_claims_and_leases_nothing(stores: Stores, daemon: Daemon) -> None:
    await daemon.dispatcher.drain(5)
    await stores.put([stores.due()])
    await daemon.sweeper.run_once()
    assert daemon.webhook.calls == []
    assert daemon.dispatcher.reserve(10) == 0
    assert await stores.count(**{"lease.owner": {"$exists": True}}) == 0


async def test_what_was_claimed_as_the_drain_began_is_given_back(stores: Stores, daemon: Daemon) -> None:
    """Its history is read meanwhile: the drain waits for that, and nothing of it is sent."""
    await stores.put([stores.due()])
    await stores.claim("dead")
    await stores.expire()
    await daemon.sweeper.run_once()
    await daemon.dispatcher.drain(10)
    assert daemon.webhook.calls == []
    assert await stores.count(**{"lease.owner": {"$exists": True}}) == 0
    assert await stores.count(due_at={"$exists": True}) == 1


async def test_a_claim_under_way_as_the_drain_begins_is_given_back(
    start: Start, database: Database, stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = await start(MONGODB_DATABASE=database.name)
    claim, made, answered = running.engine.notifications.claim, asyncio.Event(), asyncio.Event()

    async def slow(owner: str, limit: int, lease_seconds: float) -> list[Notification]:
        claimed = await claim(owner, limit, lease_seconds)
        if claimed:
            made.set()
            await answered.wait()
        return claimed

    monkeypatch.setattr(running.engine.notifications, "claim", slow)
    await stores.put(stores.due() for _ in range(5))
    await made.wait()
    assert await stores.count(**{"lease.owner": running.engine.replica}) == 5
    draining = asyncio.create_task(running.engine.drain())
    await asyncio.sleep(0)  # the drain has begun
    answered.set()
    await draining
    assert await stores.count(**{"lease.owner": {"$exists": True}}) == 0
    assert await stores.count(status="pending", due_at={"$exists": True}, **{"lease.abandoned": 0}) == 5


async def test_what_was_being_accepted_as_the_drain_began_is_given_back(
    running: Running, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Inserted under our lease, and its lanes are closed by then."""
    await running.register(f"{receiver.address}/a")
    insert, made, answered = running.engine.notifications.insert_each, asyncio.Event(), asyncio.Event()

    async def slow(documents: Sequence[tuple[str, bytes]]) -> list[Any]:
        results = await insert(documents)
        made.set()
        await answered.wait()
        return results

    monkeypatch.setattr(running.engine.notifications, "insert_each", slow)
    accepting = asyncio.create_task(running.accept(message(channels=["webhook"])))
    await made.wait()
    draining = asyncio.create_task(running.engine.drain())
    assert running.engine.dispatcher is not None
    async with asyncio.timeout(10):
        while True:
            if running.engine.dispatcher.draining:
                break
            await asyncio.sleep(0)
    answered.set()
    notification_id = await accepting
    await draining
    stored = await running.engine.database.majority("notifications").find_one({"_id": notification_id})
    assert stored is not None
    assert (stored["status"], stored["lease"]["abandoned"], "owner" in stored["lease"]) == ("pending", 0, False)
    assert "due_at" in stored
    assert receiver.calls == []


async def test_an_engine_that_drains_hands_over_to_the_next(start: Start, receiver: Receiver) -> None:
    """What is accepted while it drains is stored all the same, and nothing is sent twice."""
    first = await start(NOTIFICATION_DAEMON_WORKERS=1, NOTIFICATION_DAEMON_BATCH_SIZE=2, SWEEP_INTERVAL_SECONDS=3600)
    await first.register(f"{receiver.address}/a")
    receiver.answers.extend([Answer(delay_seconds=0.5)] * 5)
    ids = list(await asyncio.gather(*(first.accept(message(f"u{i}", channels=["webhook"])) for i in range(20))))
    await receiver.received(1)
    await first.engine.drain()
    assert len(receiver.calls) < 20
    ids.append(await first.accept(message("late", channels=["webhook"])))
    second = await start()
    for notification_id in ids:
        assert (await second.settled(notification_id))["status"] == "delivered"
    assert len(receiver.calls) == len({c.headers["webhook-id"] for c in receiver.calls}) == 21
