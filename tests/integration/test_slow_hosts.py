"""Receivers that do not answer: their backlog does not take the room of the process from healthy ones."""

import asyncio

from tests.integration.conftest import Running, Start, message
from tests.servers.receiver import Answer, Receiver

from notification_engine.domain.delivery import Channel, DeliveryStatus
from notification_engine.services.ports import Deferral

ROOM = 40


async def hooked(running: Running, receiver: Receiver, type_: str) -> None:
    await running.register(f"{receiver.address}/{type_}", f"{type_}.*")


def call(type_: str) -> dict[str, object]:
    return message(notification_type=f"{type_}.call", channels=["webhook"])


async def test_a_backlog_of_a_stuck_host_leaves_room_for_others(start: Start, receiver: Receiver) -> None:
    running = await start(NOTIFICATION_QUEUE_SIZE=ROOM, WEBHOOK_TIMEOUT_SECONDS=8, WEBHOOK_MAX_RETRIES=0)
    await hooked(running, receiver, "stuck")
    receiver.answers.extend([Answer(delay_seconds=3600)] * 2 * ROOM)
    for _ in range(2 * ROOM):
        await running.accept(call("stuck"))
    dispatcher = running.engine.dispatcher
    assert dispatcher is not None
    async with asyncio.timeout(7):
        while True:
            if dispatcher.room >= ROOM // 2:
                break
            await asyncio.sleep(0.02)  # asked again: what was shed is on its way to the database
    # One under the endpoint's name and one under its host's, which is known from the first send on.
    assert 1 <= dispatcher.lanes[Channel.WEBHOOK].in_flight <= 2


async def test_what_was_shed_is_delivered_once_its_host_answers(start: Start, receiver: Receiver) -> None:
    running = await start(NOTIFICATION_QUEUE_SIZE=ROOM, WEBHOOK_TIMEOUT_SECONDS=1.5, WEBHOOK_MAX_RETRIES=1)
    await hooked(running, receiver, "late")
    receiver.answers.append(Answer(delay_seconds=1))
    ids = [await running.accept(call("late")) for _ in range(2 * ROOM)]
    for notification_id in ids:
        shown = await running.settled(notification_id, seconds=60)
        assert [(d["status"], d["attempts"]) for d in shown["deliveries"]] == [("delivered", 1)]
    assert sorted(c.event["data"]["notification_id"] if c.event else "" for c in receiver.calls) == [""] * len(ids)


async def test_a_postponed_delivery_keeps_its_state_and_moves_its_moment(start: Start, receiver: Receiver) -> None:
    running = await start(NOTIFICATION_DAEMON_ENABLED=False)
    await hooked(running, receiver, "one")
    notification_id = await running.accept(message(notification_type="one.call", channels=["in_app", "webhook"]))
    store = running.engine.notifications
    (claimed,) = await store.claim("somebody", 10, 30)
    held = claimed.deliveries[1]
    stale = Deferral(claimed.id, held.id, claimed.lease.fence - 1, 60)
    await store.postpone([stale])
    assert (await document(running, notification_id))["lease"]["owner"] == "somebody"
    await store.postpone([Deferral(claimed.id, held.id, claimed.lease.fence, 60)])
    stored = await document(running, notification_id)
    delivery = stored["deliveries"][1]
    assert (delivery["status"], delivery["attempts"]) == (DeliveryStatus.PENDING, 0)
    assert "claim" not in delivery
    assert "owner" not in stored["lease"]
    assert stored["due_at"] == delivery["next_attempt_at"]
    assert (stored["due_at"] - stored["created_at"]).total_seconds() > 50
    assert await store.claim("another", 10, 30) == [], "not before its moment"


async def document(running: Running, notification_id: str) -> dict[str, object]:
    found = await running.engine.database.majority("notifications").find_one({"_id": notification_id})
    assert found is not None
    return dict(found)
