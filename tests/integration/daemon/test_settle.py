"""Settlements: fenced, history first, rolled forward after a death, and honest about what nobody knows."""

import asyncio
from datetime import timedelta

import pytest
from tests.integration.daemon.daemons import Daemon, a_daemon, never
from tests.integration.storage.stores import Stores, fail_command

from notification_engine.domain.delivery import Channel, DeliveryStatus, Reason
from notification_engine.domain.errors import Unavailable
from notification_engine.domain.notification import Priority
from notification_engine.domain.outcome import Message, Outcome, Unknown
from notification_engine.services.ports import Change


async def _statuses(stores: Stores, notification_id: str) -> list[str]:
    return [d["status"] for d in (await stores.document(notification_id))["deliveries"]]


async def test_an_old_fence_changes_nothing_and_is_recorded_as_stale(stores: Stores, daemon: Daemon) -> None:
    [notification_id] = await stores.put([stores.due()])
    answered = asyncio.Event()

    async def slow(message: Message) -> Outcome:
        await answered.wait()
        return await daemon.webhook._taken(message)

    daemon.webhook.answer = slow
    await daemon.sweeper.run_once()
    await daemon.webhook.began.wait()
    await stores.expire()
    await stores.claim_one("two")
    before = await stores.document(notification_id)
    answered.set()
    await daemon.idle()
    assert await stores.document(notification_id) == before
    rows = await stores.rows(notification_id)
    assert [(r["delivery_status"], r["fence"]) for r in rows] == [("delivered", 1), ("stale", 1)]
    assert "notification_stale_total 1.0" in daemon.metrics.text({})


async def test_an_outcome_in_the_history_is_rolled_forward_and_nothing_is_sent_again(
    stores: Stores, daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process dies between the row and the settlement."""
    [notification_id] = await stores.put([stores.due()])
    reached = asyncio.Event()

    async def dies(changes: list[Change]) -> list[bool]:
        reached.set()
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr(daemon.settle._store, "apply", dies)
    await daemon.sweeper.run_once()
    await reached.wait()
    await daemon.die()
    assert [r["delivery_status"] for r in await stores.rows(notification_id)] == ["delivered"]
    assert await _statuses(stores, notification_id) == ["pending"]
    await stores.expire()
    heir = a_daemon(stores, "two")
    await heir.sweep()
    assert heir.webhook.calls == []
    assert await _statuses(stores, notification_id) == ["delivered"]
    assert len(await stores.rows(notification_id)) == 1


async def test_what_died_before_its_row_is_sent_again_under_the_same_id(stores: Stores, daemon: Daemon) -> None:
    [notification_id] = await stores.put([stores.due()])
    daemon.webhook.answer = never
    await daemon.sweeper.run_once()
    await daemon.webhook.began.wait()
    await daemon.die()
    await stores.expire()
    heir = a_daemon(stores, "two")
    await heir.sweep()
    assert [m.delivery_id for m in heir.webhook.calls] == [m.delivery_id for m in daemon.webhook.calls]
    assert await _statuses(stores, notification_id) == ["delivered"]


async def test_an_email_marked_and_without_a_row_becomes_unknown(stores: Stores, daemon: Daemon) -> None:
    [notification_id] = await stores.put([stores.due(Channel.EMAIL)])
    daemon.email.answer = never
    await daemon.sweeper.run_once()
    await daemon.email.began.wait()
    assert await _statuses(stores, notification_id) == ["sending"]
    await daemon.die()
    await stores.expire()
    heir = a_daemon(stores, "two")
    await heir.sweep()
    assert heir.email.calls == []
    stored = await stores.document(notification_id)
    assert (stored["status"], stored["deliveries"][0]["reason"]) == ("unknown", "interrupted")
    assert stored["deliveries"][0]["held"]
    assert "due_at" not in stored


async def test_an_email_claimed_and_not_marked_is_sent(stores: Stores) -> None:
    [notification_id] = await stores.put([stores.due(Channel.EMAIL)])
    await stores.claim("dead")
    await stores.expire()
    heir = a_daemon(stores, "two")
    await heir.sweep()
    assert len(heir.email.calls) == 1
    assert await _statuses(stores, notification_id) == ["accepted"]


async def test_an_email_whose_claim_was_lost_is_not_sent(stores: Stores, daemon: Daemon) -> None:
    """The mark is fenced: between claim and mark another took it."""
    await stores.put([stores.due(Channel.EMAIL)])
    claimed = await stores.claim("one")
    await stores.expire()
    await stores.claim("two")
    daemon.dispatcher.claimed(claimed)
    await daemon.idle()
    assert daemon.email.calls == []


async def _resend_is_due(stores: Stores) -> None:
    """As if the grace period of an unknown outcome were over."""
    past = stores.clock.now() - timedelta(seconds=1)
    change = {"$set": {"deliveries.0.next_attempt_at": past, "due_at": past}}
    await stores.database.collection("notifications").update_many({"due_at": {"$exists": True}}, change)


async def _not_known(message: Message) -> Outcome:
    return Unknown(Reason.TIMEOUT, "scripted")


async def test_an_unknown_email_of_high_priority_is_resent_once_and_then_held(stores: Stores, daemon: Daemon) -> None:
    [notification_id] = await stores.put([stores.due(Channel.EMAIL, priority=Priority.HIGH)])
    daemon.email.answer = _not_known
    await daemon.sweep()
    first = await stores.document(notification_id)
    assert (first["status"], first["deliveries"][0]["held"]) == ("unknown", False)
    assert first["due_at"] > stores.clock.now()
    await _resend_is_due(stores)
    await daemon.sweep()
    assert len(daemon.email.calls) == 2
    second = await stores.document(notification_id)
    assert (second["status"], second["deliveries"][0]["held"]) == ("unknown", True)
    assert "due_at" not in second


async def test_an_unknown_email_that_expired_before_its_resend_stays_unknown(stores: Stores, daemon: Daemon) -> None:
    """Nobody knows whether it arrived, so `expired` would be a lie; and it must not be claimed for ever."""
    fields = {"priority": Priority.HIGH, "expires_at": stores.clock.after(3600)}
    [notification_id] = await stores.put([stores.due(Channel.EMAIL, **fields)])
    daemon.email.answer = _not_known
    await daemon.sweep()
    expired = {"$set": {"expires_at": stores.clock.now() - timedelta(seconds=1)}}
    await stores.database.collection("notifications").update_one({"_id": notification_id}, expired)
    await _resend_is_due(stores)
    await daemon.sweep()
    stored = await stores.document(notification_id)
    assert len(daemon.email.calls) == 1
    assert (stored["status"], stored["deliveries"][0]["held"]) == ("unknown", True)
    assert "due_at" not in stored


async def test_a_settlement_waits_for_the_store_while_the_lease_may_be_ours(
    mongod: str, stores: Stores, daemon: Daemon
) -> None:
    [notification_id] = await stores.put([stores.due()])
    data = {"failCommands": ["update"], "closeConnection": True}

    async def answers(message: Message) -> Outcome:
        return await daemon.webhook._taken(message)

    daemon.webhook.answer = answers
    claimed = await stores.claim("one")
    async with fail_command(mongod, stores.database, "notifications", {"times": 6}, **data):
        daemon.dispatcher.claimed(claimed)
        await daemon.idle()
    assert len(daemon.webhook.calls) == 1
    assert await _statuses(stores, notification_id) == ["delivered"]


async def test_an_outcome_that_could_not_be_settled_is_rolled_forward_later(mongod: str, stores: Stores) -> None:
    daemon = a_daemon(stores, lease_seconds=0.5)
    [notification_id] = await stores.put([stores.due()])
    claimed = await stores.claim("one", lease_seconds=0.5)
    data = {"failCommands": ["update"], "errorCode": 96}
    async with fail_command(mongod, stores.database, "notifications", "alwaysOn", **data):
        daemon.dispatcher.claimed(claimed)
        await daemon.idle()
    assert await _statuses(stores, notification_id) == ["pending"]
    heir = a_daemon(stores, "two")
    async with asyncio.timeout(10):
        while await _statuses(stores, notification_id) != ["delivered"]:
            await heir.sweep()
    assert heir.webhook.calls == []


async def test_a_claim_that_cannot_be_resumed_sends_nothing(mongod: str, stores: Stores, daemon: Daemon) -> None:
    """Without the history nobody knows what was sent: the lease expires, and the next claim asks again."""
    [notification_id] = await stores.put([stores.due()])
    await stores.claim("dead")
    await stores.expire()
    data = {"failCommands": ["find"], "errorCode": 96}
    async with fail_command(mongod, stores.database, "notification_history", "alwaysOn", **data):
        await daemon.sweep()
        with pytest.raises(Unavailable):
            await stores.history.of_notifications([notification_id])
    assert daemon.webhook.calls == []
    await stores.expire()
    await daemon.sweep()
    assert await _statuses(stores, notification_id) == [DeliveryStatus.DELIVERED]
