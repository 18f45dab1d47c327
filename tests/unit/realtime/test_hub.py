import asyncio
import json
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.builders import NOW, a_notification

from notification_engine.domain.cursor import decode_cursor
from notification_engine.domain.notification import Inbox
from notification_engine.realtime import hub as hub_module
from notification_engine.realtime.hub import (
    MAX_QUEUED_BYTES,
    RECONNECTS_PER_SECOND,
    Connection,
    Hub,
    cursor_of,
    spread_ms,
)


def joined(hub: Hub, user_id: str = "u1") -> Connection:
    connection = hub.join(user_id)
    assert connection is not None
    return connection


async def queued(connection: Connection) -> list[bytes | None]:
    """Everything that can be read without waiting."""
    frames: list[bytes | None] = []
    while True:
        reading = asyncio.create_task(connection.next())
        await asyncio.sleep(0)
        if not reading.done():
            reading.cancel()
            return frames
        frames.append(reading.result())
        if frames[-1] is None:
            return frames


async def test_a_notification_reaches_every_connection_of_its_user_and_no_other() -> None:
    hub = Hub(10)
    own = [joined(hub), joined(hub)]
    other = joined(hub, "u2")
    notification = a_notification(inbox=Inbox(visible_at=NOW))
    hub.surfaced(notification)
    for connection in own:
        (frame,) = await queued(connection)
        told = json.loads(frame or b"")
        assert (told["type"], told["notification"]["notification_id"]) == ("notification", notification.id)
        assert decode_cursor(told["cursor"]) == (NOW, notification.id)
    assert await queued(other) == []


async def test_frames_come_in_the_order_in_which_they_were_pushed() -> None:
    hub = Hub(10)
    connection = joined(hub)
    hub.unread("u1", 1)
    hub.updated(a_notification())
    hub.unread("u1", 2)
    assert [json.loads(f or b"")["type"] for f in await queued(connection)] == [
        "unread_count",
        "updated",
        "unread_count",
    ]


def test_a_frame_shows_no_address() -> None:
    notification = a_notification(email="ada@example.org", inbox=Inbox(visible_at=NOW))
    assert b"ada@" not in hub_module.notification_frame(notification)


def test_what_has_not_surfaced_has_no_cursor() -> None:
    assert cursor_of(a_notification()) is None
    assert cursor_of(a_notification(inbox=Inbox())) is None


async def test_whoever_waits_is_woken() -> None:
    hub = Hub(10)
    reading = asyncio.create_task(joined(hub).next())
    await asyncio.sleep(0)
    hub.unread("u1", 7)
    assert json.loads(await asyncio.wait_for(reading, 5) or b"") == {"type": "unread_count", "unread_count": 7}


async def test_a_client_that_does_not_read_is_closed_at_its_bound_and_costs_no_more() -> None:
    connection = Connection("u1")
    half = b"x" * (MAX_QUEUED_BYTES // 2)
    connection.push(half)
    connection.push(half)
    assert connection.closed_with is None
    connection.push(b"x")
    assert connection.closed_with == 1008
    connection.push(half)
    assert await queued(connection) == [None]


async def test_a_client_that_reads_is_never_at_its_bound() -> None:
    connection = Connection("u1")
    for _ in range(10):
        connection.push(b"x" * (MAX_QUEUED_BYTES - 1))
        assert await connection.next() is not None
    assert connection.closed_with is None


async def test_a_write_that_is_not_taken_in_time_closes_the_client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_module, "WRITE_SECONDS", 0.05)
    stalled = Connection("u1")
    with pytest.raises(TimeoutError):
        await stalled.write(asyncio.Event().wait())  # type: ignore[arg-type]
    assert stalled.closed_with == 1008


async def test_a_last_word_is_still_sent() -> None:
    connection = Connection("u1")
    connection.push(b"dropped")
    connection.close(4401, b"why")
    connection.close(1012, b"too late")
    assert await queued(connection) == [b"why", None]
    assert connection.closed_with == 4401


async def test_a_close_wakes_whoever_waits() -> None:
    connection = Connection("u1")
    reading = asyncio.create_task(connection.next())
    await asyncio.sleep(0)
    connection.close(1012)
    assert await asyncio.wait_for(reading, 5) is None


def test_places_are_bounded_for_the_process_and_for_a_user() -> None:
    hub = Hub(5, per_user=2)
    first, second = joined(hub), joined(hub)
    assert hub.join("u1") is None
    others = [joined(hub, f"u{i}") for i in (2, 3, 4)]
    assert hub.join("u5") is None
    hub.leave(first)
    hub.leave(first)
    assert hub.counts() == {"connections": 4, "users": 4, "max": 5}
    joined(hub)
    for connection in (second, *others):
        hub.leave(connection)
    assert hub.counts() == {"connections": 1, "users": 1, "max": 5}


async def test_a_drain_closes_all_and_lets_nobody_in() -> None:
    hub = Hub(5)
    connections = [joined(hub, f"u{i}") for i in range(3)]
    hub.close_all(1012)
    assert [c.closed_with for c in connections] == [1012] * 3
    assert hub.join("u9") is None
    for connection in connections:
        hub.leave(connection)
    assert hub.counts()["connections"] == 0


async def told_after(hub: Hub, count: int) -> list[int]:
    """The delays that so many clients are told when the process drains."""
    connections = [joined(hub, f"u{i}") for i in range(count)]
    hub.close_all(1012)
    frames = [json.loads(await connection.next() or b"{}") for connection in connections]
    assert {told["type"] for told in frames} == {"reconnect"}
    assert [await connection.next() for connection in connections] == [None] * count
    return [told["after_ms"] for told in frames]


async def test_a_drain_spreads_the_clients_over_their_way_back() -> None:
    """2,000 clients over ten seconds: no second brings twice its share (a chance of 10^-20), and none stays empty."""
    after = await told_after(Hub(2000), 2000)
    seconds = Counter(ms // 1000 for ms in after if ms < 10_000)
    assert max(after) <= 10_000
    assert sorted(seconds) == list(range(10))
    assert max(seconds.values()) < 2 * RECONNECTS_PER_SECOND


@pytest.mark.parametrize(
    ("connections", "expected"), [(0, 1000), (1, 1000), (1000, 5000), (2000, 10_000), (10**6, 30_000)]
)
def test_the_spread_follows_from_the_connections(connections: int, expected: int) -> None:
    assert spread_ms(connections) == expected


@given(st.lists(st.tuples(st.sampled_from(["join", "leave"]), st.sampled_from("abc"), st.integers(0, 9)), max_size=60))
def test_the_count_is_that_of_the_connections(steps: list[tuple[str, str, int]]) -> None:
    hub, present = Hub(6, per_user=3), []
    for step, user, index in steps:
        if step == "join":
            connection = hub.join(user)
            if connection:
                present.append(connection)
        elif present:
            hub.leave(present.pop(index % len(present)))
        assert hub.counts() == {"connections": len(present), "users": len({c.user_id for c in present}), "max": 6}
        assert all(sum(c.user_id == u for c in present) <= 3 for u in "abc")
