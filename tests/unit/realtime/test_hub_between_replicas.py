"""The hub with a bus and a poll: each frame once, whichever way it comes first."""

import json
from collections.abc import Sequence
from datetime import datetime, timedelta

import pytest
from tests.unit.builders import NOW, a_notification
from tests.unit.realtime.test_hub import joined, queued
from tests.unit.realtime.test_signals import Exchange, PairBus

from notification_engine.domain.notification import Inbox, Notification
from notification_engine.kit.clock import Clock
from notification_engine.realtime import live_poll as live_poll_module
from notification_engine.realtime.hub import BEFORE, Connection, Hub
from notification_engine.realtime.live_poll import LivePoll
from notification_engine.services.ports import Surfaced


class FakeInbox:
    """Implements `services.ports.SurfacedStore`; what is put in has surfaced."""

    def __init__(self) -> None:
        self.inside: list[Notification] = []
        self.since: list[datetime] = []
        self.read: list[str] = []

    async def surfaced_since(
        self, user_ids: Sequence[str], since: datetime, limit: int, *, newest: bool = False
    ) -> list[Surfaced]:
        self.since.append(since)
        found = [
            Surfaced(n.id, n.user_id, at) for n in self.inside if n.user_id in user_ids and (at := at_of(n)) >= since
        ]
        return sorted(found, key=lambda one: (one.visible_at, one.id), reverse=newest)[:limit]

    async def surfaced(self, ids: Sequence[str]) -> list[Notification]:
        self.read += ids
        return sorted((n for n in self.inside if n.id in ids), key=lambda n: (at_of(n), n.id))


def at_of(notification: Notification) -> datetime:
    assert notification.inbox is not None
    assert notification.inbox.visible_at is not None
    return notification.inbox.visible_at


class FixedClock(Clock):
    def __init__(self) -> None:
        super().__init__()
        self.moment = NOW

    def now(self) -> datetime:
        return self.moment


def a_surfaced(index: int = 0, at: datetime = NOW, user_id: str = "u1") -> Notification:
    return a_notification(id=f"ntfy_{index:026d}", user_id=user_id, inbox=Inbox(visible_at=at))


class Replica:
    def __init__(self, bus: PairBus | None = None) -> None:
        self.inbox, self.clock = FakeInbox(), FixedClock()
        self.hub = Hub(10, bus=bus, inbox=self.inbox, now=self.clock.now)
        self.poll = LivePoll(self.hub, self.inbox, self.clock, 1.0)

    async def connected(self, user_id: str = "u1") -> Connection:
        connection = joined(self.hub, user_id)
        await self.hub.catch_up(connection)
        return connection


async def ids(connection: Connection) -> list[str]:
    frames = [json.loads(f or b"{}") for f in await queued(connection)]
    return [f["notification"]["notification_id"] if f["type"] == "notification" else f["type"] for f in frames]


async def test_what_one_surfaces_the_other_hears_once_by_bus_and_poll() -> None:
    exchange = Exchange()
    one, two = Replica(exchange.bus()), Replica(exchange.bus())
    here, there = await one.connected(), await two.connected()
    notification = a_surfaced()
    one.hub.surfaced(notification)
    for replica in (one, two):
        replica.inbox.inside = [notification]
        await replica.poll.run_once()
    assert await ids(here) == await ids(there) == [notification.id]
    assert one.inbox.read == two.inbox.read == [], "known ids are not read again"


async def test_what_the_poll_brought_the_bus_does_not_bring_again() -> None:
    exchange = Exchange()
    one, two = Replica(exchange.bus()), Replica(exchange.bus())
    there = await two.connected()
    notification = a_surfaced()
    two.inbox.inside = [notification]
    await two.poll.run_once()
    one.hub.surfaced(notification)
    assert await ids(there) == [notification.id]


async def test_marks_and_counts_cross_the_bus() -> None:
    exchange = Exchange()
    one, two = Replica(exchange.bus()), Replica(exchange.bus())
    there = await two.connected()
    one.hub.updated(a_surfaced())
    one.hub.unread("u1", 3)
    one.hub.unread("u2", 3)
    assert await ids(there) == ["updated", "unread_count"]


async def test_only_topics_of_connected_users_are_listened_to() -> None:
    bus = Exchange().bus()
    hub = Hub(10, bus=bus)
    first, second, other = joined(hub), joined(hub), joined(hub, "u2")
    assert set(bus.hears) == {"user:u1", "user:u2"}
    hub.leave(first)
    hub.leave(other)
    assert set(bus.hears) == {"user:u1"}
    hub.leave(second)
    assert bus.hears == {}


@pytest.mark.parametrize("message", [b"", b"x y z\n{}", b"n only\n{}", b"n a soon\n{}", b"{}"])
async def test_what_none_of_ours_said_reaches_nobody(message: bytes) -> None:
    bus = Exchange().bus()
    hub = Hub(10, bus=bus)
    connection = joined(hub)
    with pytest.raises(ValueError, match=r".+"):
        bus.hears["user:u1"](message)
    assert await queued(connection) == []


async def test_what_surfaced_elsewhere_comes_in_order_with_the_poll() -> None:
    replica = Replica()
    connection = await replica.connected()
    late, early = a_surfaced(1, NOW), a_surfaced(2, NOW - timedelta(seconds=1))
    replica.inbox.inside = [late, early, a_surfaced(3, user_id="u2")]
    await replica.poll.run_once()
    assert await ids(connection) == [early.id, late.id]
    await replica.poll.run_once()
    assert await ids(connection) == []


async def test_what_a_connection_began_with_does_not_come_and_an_older_connection_gets_it() -> None:
    replica = Replica()
    first = await replica.connected()
    notification = a_surfaced()
    replica.inbox.inside = [notification]
    second = await replica.connected()
    await replica.poll.run_once()
    assert await ids(first) == [notification.id]
    assert await ids(second) == []


async def test_what_is_older_than_the_connection_does_not_come() -> None:
    replica = Replica()
    connection = await replica.connected()
    replica.inbox.inside = [a_surfaced(at=NOW - BEFORE - timedelta(seconds=1))]
    replica.hub.found(replica.inbox.inside[0])
    assert await ids(connection) == []


async def test_a_connection_that_has_not_begun_waits_for_its_hello() -> None:
    replica = Replica()
    connection = joined(replica.hub)
    replica.inbox.inside = [a_surfaced()]
    await replica.poll.run_once()
    assert await ids(connection) == []


async def test_nothing_is_asked_while_nobody_is_connected() -> None:
    replica = Replica()
    await replica.poll.run_once()
    assert replica.inbox.since == []


async def test_a_look_that_failed_is_made_good(monkeypatch: pytest.MonkeyPatch) -> None:
    replica = Replica()
    connection = await replica.connected()
    await replica.poll.run_once()

    async def away(*args: object, **kwargs: object) -> list[Surfaced]:
        raise OSError("away")

    whole = replica.inbox.surfaced_since
    monkeypatch.setattr(replica.inbox, "surfaced_since", away)
    replica.clock.moment = NOW + timedelta(seconds=100)
    with pytest.raises(OSError, match="away"):
        await replica.poll.run_once()
    monkeypatch.setattr(replica.inbox, "surfaced_since", whole)
    replica.inbox.inside = [a_surfaced(at=NOW + timedelta(seconds=1))]
    await replica.poll.run_once()
    assert await ids(connection) == [replica.inbox.inside[0].id]


async def test_a_commit_that_was_slow_is_found_within_ten_looks() -> None:
    replica = Replica()
    connection = await replica.connected()
    await replica.poll.run_once()
    replica.clock.moment = NOW + timedelta(seconds=10)
    await replica.poll.run_once()
    replica.inbox.inside = [a_surfaced(at=NOW + timedelta(seconds=1))]
    for _ in range(live_poll_module.LATE_EVERY):
        await replica.poll.run_once()
    assert await ids(connection) == [replica.inbox.inside[0].id]


async def test_more_than_can_be_told_is_a_reset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_poll_module, "KEYS", 2)
    monkeypatch.setattr(live_poll_module, "MAX_PAGES", 2)
    replica = Replica()
    connection = await replica.connected()
    replica.inbox.inside = [a_surfaced(i, NOW + timedelta(seconds=i)) for i in range(10)]
    await replica.poll.run_once()
    assert (await ids(connection))[-1] == "reset"


async def test_pages_reach_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_poll_module, "KEYS", 3)
    replica = Replica()
    connection = await replica.connected()
    replica.inbox.inside = [a_surfaced(i, NOW + timedelta(seconds=i)) for i in range(10)]
    await replica.poll.run_once()
    assert await ids(connection) == [n.id for n in replica.inbox.inside]


async def test_a_sensitive_text_does_not_cross_the_bus_and_the_poll_brings_it() -> None:
    exchange = Exchange()
    one, two = Replica(exchange.bus()), Replica(exchange.bus())
    here, there = await one.connected(), await two.connected()
    notification = a_surfaced()
    notification.sensitive = True
    one.hub.surfaced(notification)
    two.inbox.inside = [notification]
    await two.poll.run_once()
    assert two.inbox.read == [notification.id]
    assert await ids(here) == await ids(there) == [notification.id]
