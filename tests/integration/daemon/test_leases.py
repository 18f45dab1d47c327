"""Leases: taken with the insert, renewed in one write, ended by the processing timeout, taken over when they expire."""

import asyncio
from typing import Any

from tests.integration.conftest import Running, Start, message
from tests.integration.daemon.daemons import Daemon, a_daemon, never
from tests.integration.storage.stores import Stores
from tests.servers.receiver import Answer, Receiver

from notification_engine.daemon.leases import Leases
from notification_engine.services.ports import Change
from notification_engine.wiring import EngineRole


async def _document(running: Running, notification_id: str) -> dict[str, Any]:
    found = await running.engine.database.majority("notifications").find_one({"_id": notification_id})
    assert found is not None
    return found


async def test_an_accepted_notification_is_leased_to_the_process_and_sent_without_a_claim(
    start: Start, receiver: Receiver
) -> None:
    running = await start(SWEEP_INTERVAL_SECONDS=3600)
    assert running.engine.sweeper is not None
    await running.engine.sweeper.ran.wait()
    await running.register(f"{receiver.address}/a")
    receiver.answers.append(Answer(delay_seconds=0.5))
    notification_id = await running.accept(message(channels=["webhook"]))
    leased = await _document(running, notification_id)
    assert (leased["lease"]["owner"], leased["lease"]["fence"]) == (running.engine.replica, 1)
    assert leased["due_at"] == leased["lease"]["expires_at"]
    assert leased["deliveries"][0]["claim"] == 1
    await running.settled(notification_id)
    settled = await _document(running, notification_id)
    assert settled["lease"]["fence"] == 1
    assert "owner" not in settled["lease"]
    assert "due_at" not in settled


async def test_when_the_queue_is_full_it_is_stored_without_a_lease_and_the_sweeper_takes_it(
    start: Start, receiver: Receiver
) -> None:
    running = await start(NOTIFICATION_QUEUE_SIZE=2)
    await running.register(f"{receiver.address}/a")
    receiver.answers.extend([Answer(delay_seconds=1.0)] * 2)
    ids = [await running.accept(message(f"u{i}", channels=["webhook"])) for i in range(6)]
    assert running.engine.dispatcher is not None
    stored = [await _document(running, notification_id) for notification_id in ids]
    assert [d["lease"]["fence"] for d in stored] == [1, 1, 0, 0, 0, 0]
    assert all("owner" not in d["lease"] for d in stored[2:])
    for notification_id in ids:
        assert (await running.settled(notification_id))["status"] == "delivered"
    assert len({c.headers["webhook-id"] for c in receiver.calls}) == 6
    assert [(await _document(running, i))["lease"]["fence"] for i in ids[2:]] == [1] * 4


async def test_a_process_that_only_serves_the_api_leases_nothing(start: Start, receiver: Receiver) -> None:
    api = await start(EngineRole.API)
    await api.register(f"{receiver.address}/a")
    notification_id = await api.accept(message(channels=["webhook"]))
    assert (await _document(api, notification_id))["lease"]["fence"] == 0
    assert receiver.calls == []
    await start(EngineRole.DAEMON)
    assert (await api.settled(notification_id))["status"] == "delivered"


async def _held(daemon: Daemon, count: int) -> list[str]:
    """So many notifications in flight that never end."""
    ids = await daemon.stores.put(daemon.stores.due() for _ in range(count))
    daemon.webhook.answer = never
    await daemon.sweeper.run_once()
    async with asyncio.timeout(10):
        while True:
            if len(daemon.webhook.calls) >= min(count, 40):
                return ids
            await asyncio.sleep(0.005)  # asked again: the calls come one by one


async def test_everything_held_is_renewed_by_one_update(stores: Stores, daemon: Daemon) -> None:
    ids = await _held(daemon, 30)
    before = {i: (await stores.document(i))["lease"]["expires_at"] for i in ids}
    await stores.database._db.command("profile", 2)
    await Leases(daemon.dispatcher).run_once()
    await stores.database._db.command("profile", 0)
    entries = [entry async for entry in stores.database._db["system.profile"].find({"op": "update"})]
    assert {entry["ns"] for entry in entries} == {f"{stores.database.name}.notifications"}
    assert [entry["nModified"] for entry in entries] == [30]
    for notification_id, expiry in before.items():
        stored = await stores.document(notification_id)
        assert stored["lease"]["expires_at"] > expiry
        assert stored["due_at"] == stored["lease"]["expires_at"]
    await daemon.die()


async def test_a_lease_is_not_renewed_once_another_has_it(stores: Stores, daemon: Daemon) -> None:
    [notification_id] = await _held(daemon, 1)
    await stores.expire()
    await stores.claim("two")
    before = await stores.document(notification_id)
    await daemon.dispatcher.renew()
    assert await stores.document(notification_id) == before
    await daemon.die()


async def test_renewals_end_after_the_processing_timeout_and_another_takes_over(stores: Stores) -> None:
    stuck = a_daemon(stores, "stuck", lease_seconds=0.6, processing_timeout=0.3)
    [notification_id] = await _held(stuck, 1)
    renewing = Leases(stuck.dispatcher)
    await renewing.start()
    heir = a_daemon(stores, "heir")
    async with asyncio.timeout(20):
        while (await stores.document(notification_id))["status"] != "delivered":
            await heir.sweep()
    await renewing.stop()
    assert len(heir.webhook.calls) == 1
    assert [r["fence"] for r in await stores.rows(notification_id)] == [2]
    await stuck.die()


async def test_a_lease_that_is_renewed_is_not_taken_over(stores: Stores) -> None:
    busy = a_daemon(stores, "busy", lease_seconds=0.9)
    [notification_id] = await _held(busy, 1)
    renewing, heir = Leases(busy.dispatcher), a_daemon(stores, "heir")
    await renewing.start()
    first = (await stores.document(notification_id))["lease"]["expires_at"]
    async with asyncio.timeout(20):
        while stores.clock.now() <= first:
            await heir.sweep()
    assert heir.webhook.calls == []
    assert (await stores.document(notification_id))["lease"]["owner"] == "busy"
    await renewing.stop()
    await busy.die()
    async with asyncio.timeout(20):
        while (await stores.document(notification_id))["status"] != "delivered":
            await heir.sweep()
    assert len(heir.webhook.calls) == 1


async def test_a_settlement_ends_the_lease(stores: Stores) -> None:
    [notification_id] = await stores.put([stores.due()])
    claimed = await stores.claim_one()
    change = Change(notification_id, claimed.deliveries[0].id, 1, claimed.deliveries[0].status, next_attempt_seconds=60)
    assert await stores.notifications.apply([change]) == [True]
    lease = (await stores.document(notification_id))["lease"]
    assert lease == {"fence": 1, "abandoned": 0, "solo": False, "solo_deaths": 0}
