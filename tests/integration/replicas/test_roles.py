"""Roles beside each other without any signal between them: the poll alone spreads the work over the daemons."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.integration.conftest import API, message
from tests.integration.replicas.fleet import (
    LEASE_SECONDS,
    Fleet,
    Replica,
    accept,
    bearer,
    endpoint,
    lost_share,
    open_ones,
    until,
)
from tests.servers.receiver import Answer, Receiver

pytestmark = pytest.mark.timeout(240)  # four processes each, on a machine that may be busy
DELIVERIES = 10_000
USERS = 1000  # recipients of a request
ON_THE_WIRE = 5 * 50 // 2  # workers × batch size are the slots of a lane, half of them a host's share


def in_seconds(seconds: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()


async def scheduled(fleet: Fleet, api: Replica, count: int, **fields: Any) -> list[str]:
    """So many notifications, accepted at once."""
    users = [f"u{i}" for i in range(count)]
    bodies = [message(*users[at : at + USERS], **fields) for at in range(0, count, USERS)]
    return [i for body in bodies for i in await accept(fleet.session, api, body)]


async def test_work_spreads_evenly_over_three_daemons(fleet: Fleet, receiver: Receiver) -> None:
    """None does more than 1.5 times the mean of 10,000; of what they try to claim they lose under a fifth."""
    [api, *daemons] = await fleet.start("api", "daemon", "daemon", "daemon")
    await endpoint(fleet, api, receiver, "test.hook")
    due = in_seconds(15)
    half = DELIVERIES // 2
    await scheduled(fleet, api, half, scheduled_at=due)
    await scheduled(fleet, api, half, scheduled_at=due, notification_type="test.hook", channels=["webhook"])
    assert datetime.now(UTC) < datetime.fromisoformat(due), "the schedule was too short for this machine"

    async def counts() -> list[float]:
        return [await d.ended("webhook", fleet.session) + await d.ended("in_app", fleet.session) for d in daemons]

    async def done() -> bool:
        return sum(await counts()) >= DELIVERIES

    took = await until(done, 100, "10,000 deliveries")
    shares = await counts()
    figures = [await d.figures(fleet.session) for d in daemons]
    print("seconds", round(took, 1), "deliveries", shares, "lost", round(lost_share(figures), 3))
    assert sum(shares) == DELIVERIES, "each by one daemon alone"
    assert len(receiver.calls) == half
    assert max(shares) <= 1.5 * DELIVERIES / 3, shares
    assert lost_share(figures) < 0.2


async def held(fleet: Fleet, daemon: Replica) -> int:
    async with fleet.session.get(f"{daemon.address}{API}/health/daemon") as answer:
        return int((await answer.json())["leases_held"])


def order(receiver: Receiver) -> list[str]:
    """The priorities of the calls, in their order."""
    return [call.event["data"]["priority"] for call in receiver.calls]


async def test_critical_goes_before_low_on_all_daemons(fleet: Fleet, receiver: Receiver) -> None:
    """All is due when the daemons come. No daemon begins a low one before its last critical one; it may arrive before
    those that are on the wire with it. (What is settled first tells less: that goes in batches.) How many critical ones
    a daemon has is another matter: who comes first may claim most of them, and the others find low ones only."""
    [api] = await fleet.start("api")
    await endpoint(fleet, api, receiver)
    low = await scheduled(fleet, api, 3000, priority="low", channels=["webhook"])
    critical = set(await scheduled(fleet, api, 600, priority="critical", channels=["webhook"]))
    daemons = await fleet.start("daemon", "daemon", "daemon")
    await receiver.received(3600, 200)

    async def settled() -> bool:
        return await open_ones(fleet) == 0

    await until(settled, 60, "all settled")
    assert order(receiver)[:100].count("critical") > 90
    begun = [call.event["data"]["notification_id"] for call in receiver.calls]
    shares = [set(daemon.delivered()) for daemon in daemons]
    orders = [[i in critical for i in begun if i in share] for share in shares]
    assert sum(map(len, orders)) == len(low) + len(critical)
    for own in orders:
        last = len(own) - own[::-1].index(True) if any(own) else 0
        slipped = own[:last].count(False)
        print("critical", sum(own), "low", own.count(False), "low before the last critical", slipped)
        assert slipped < ON_THE_WIRE, "no more than the sends of one host at once"


async def test_critical_overtakes_a_backlog_that_is_claimed_already(fleet: Fleet, receiver: Receiver) -> None:
    [api, *_] = await fleet.start("api", "daemon", "daemon", "daemon")
    await endpoint(fleet, api, receiver)
    receiver.answers.extend([Answer(delay_seconds=0.3)] * 10_000)
    await scheduled(fleet, api, 4000, priority="low", channels=["webhook"])
    await receiver.received(200, 60)
    late = await scheduled(fleet, api, 100, priority="critical", channels=["webhook"])
    before = len(receiver.calls)
    await receiver.received(4100, 200)
    ids = [call.event["data"]["notification_id"] for call in receiver.calls]
    last = max(ids.index(i) for i in late)
    print("calls before the critical ones were accepted:", before, "the last of these:", last)
    assert order(receiver)[last:].count("low") > 1000, "most of the backlog comes after them"


async def test_a_dead_daemon_is_covered_when_its_leases_end(fleet: Fleet, receiver: Receiver) -> None:
    [api, victim, *others] = await fleet.start("api", "daemon", "daemon", "daemon")
    await endpoint(fleet, api, receiver)
    receiver.answers.extend([Answer(delay_seconds=0.5)] * 10_000)
    ids = await scheduled(fleet, api, 600, channels=["webhook"])

    async def holds() -> bool:
        return await held(fleet, victim) > 20

    await until(holds, 20, "leases of the daemon that is to die")
    await victim.kill()

    async def all_ended() -> bool:
        return await open_ones(fleet) == 0

    await until(all_ended, LEASE_SECONDS + 10, "everything delivered after a daemon's death")
    arrived = {call.headers["webhook-id"] for call in receiver.calls}
    assert len(arrived) == len(ids), "none is lost"
    stale = [(await d.figures(fleet.session))[("notification_stale_total",)] for d in others]
    assert stale == [0, 0], "nobody who lives has lost a lease"


async def test_a_new_daemon_takes_work_at_once(fleet: Fleet, receiver: Receiver) -> None:
    [api, *_] = await fleet.start("api", "daemon", "daemon", NOTIFICATION_QUEUE_SIZE="50")
    await endpoint(fleet, api, receiver)
    receiver.answers.extend([Answer(delay_seconds=0.5)] * 10_000)
    await scheduled(fleet, api, 5000, channels=["webhook"])
    await receiver.received(100, 30)
    [new] = await fleet.start("daemon", NOTIFICATION_QUEUE_SIZE="50")

    async def works() -> bool:
        return await held(fleet, new) > 0

    await until(works, 2, "work for the new daemon")


async def test_roles_need_each_other_and_all_is_both(fleet: Fleet, receiver: Receiver) -> None:
    """An API alone stores; a daemon alone answers nothing but health; together they deliver."""
    [api] = await fleet.start("api")
    await endpoint(fleet, api, receiver)
    [waiting] = await accept(fleet.session, api, message(channels=["webhook"]))
    [daemon] = await fleet.start("daemon")
    async with fleet.session.post(f"{daemon.address}{API}", json=message(), headers=bearer()) as answer:
        assert answer.status == 404
    await receiver.received(1)
    assert receiver.calls[0].event["data"]["notification_id"] == waiting
    assert await daemon.terminate() == 0
    [both] = await fleet.start("all")
    await accept(fleet.session, both, message(channels=["webhook"]))
    await receiver.received(2)
