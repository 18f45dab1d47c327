import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta

import pytest
from structlog.testing import capture_logs
from tests.unit.builders import NOW, ULID, FakeHistory, FakeRecorder, a_delivery, a_notification

from notification_engine.domain.delivery import Channel, Delivery, DeliveryStatus, Reason
from notification_engine.domain.errors import Unavailable
from notification_engine.domain.notification import Notification
from notification_engine.domain.outcome import Attempt
from notification_engine.kit.clock import Clock
from notification_engine.services import announce as announce_module
from notification_engine.services.announce import Announce, settled_at_insert

C, S = Channel, DeliveryStatus


class QuarterPast(Clock):
    """A quarter of a second after the notifications were made."""

    def at(self, monotonic: float) -> datetime:
        return NOW + timedelta(milliseconds=250)


class SlowHistory(FakeHistory):
    """Each append waits to be let through."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = asyncio.Semaphore(0)
        self.passes = asyncio.Semaphore(0)

    async def append(self, attempts: Sequence[Attempt]) -> None:
        self.begun.release()
        await self.passes.acquire()
        await super().append(attempts)


def in_app(index: int = 0) -> Delivery:
    return a_delivery(index, C.IN_APP, status=S.DELIVERED, provider="in_app", attempts=1, delivered_at=NOW)


def suppressed(index: int = 0) -> Delivery:
    return a_delivery(index, C.EMAIL, status=S.SUPPRESSED, reason=Reason.NO_ADDRESS)


def numbered(count: int, start: int = 0) -> list[Notification]:
    return [a_notification([in_app(i)], id=f"ntfy_{i}") for i in range(start, start + count)]


class FakeLedger:
    def accepted(self, document_ids: Sequence[str]) -> None: ...


def announcing(history: FakeHistory, recorder: FakeRecorder | None = None) -> Announce:
    return Announce(history, recorder or FakeRecorder(), FakeLedger(), QuarterPast())  # type: ignore[arg-type]


def test_what_ended_with_the_insert_has_a_row_and_nothing_else() -> None:
    later = a_delivery(2, C.IN_APP, status=S.DELIVERED, delivered_at=NOW + timedelta(seconds=1))
    waiting = [a_delivery(3), a_delivery(4, status=S.SENDING), a_delivery(5, status=S.FAILED, attempts=1)]
    rows = settled_at_insert(a_notification([in_app(0), suppressed(1), later, *waiting]))
    assert [(r.delivery_id, r.delivery_status, r.reason) for r in rows] == [
        (f"dlv_{ULID}_0", S.DELIVERED, None),
        (f"dlv_{ULID}_1", S.SUPPRESSED, Reason.NO_ADDRESS),
    ]
    assert [(r.fence, r.attempt, r.provider, r.timestamp) for r in rows] == [(0, 1, "in_app", NOW), (0, 0, None, NOW)]


def test_the_row_of_a_sibling_belongs_to_the_notification() -> None:
    (row,) = settled_at_insert(a_notification([suppressed(32)], id=f"ntfy_{ULID}~01"))
    assert row.notification_id == f"ntfy_{ULID}"


def test_the_janitor_derives_the_very_same_row_again() -> None:
    notification = a_notification([in_app(0), suppressed(1)])
    assert settled_at_insert(notification) == settled_at_insert(notification)
    assert len({r.id for r in settled_at_insert(notification)}) == 2


async def test_the_figures_count_what_was_accepted_and_what_has_ended() -> None:
    recorder, history = FakeRecorder(), FakeHistory()
    announce = announcing(history, recorder)
    announce.accepted([a_notification([in_app(0), suppressed(1), a_delivery(2)]), a_notification([a_delivery(0)])])
    await announce.drain()
    assert recorder.accepted_count == 2
    assert recorder.ended == [
        (C.IN_APP, S.DELIVERED, None, 0.25),
        (C.EMAIL, S.SUPPRESSED, Reason.NO_ADDRESS, 0.25),
    ]


async def test_what_gathers_during_a_write_travels_in_the_next() -> None:
    history = SlowHistory()
    announce = announcing(history)
    announce.accepted(numbered(1))
    await history.begun.acquire()
    for i in range(1, 6):
        announce.accepted(numbered(1, i))
    for _ in range(9):
        history.passes.release()
    await announce.drain()
    assert [len(batch) for batch in history.batches] == [1, 5]
    assert [row.notification_id for row in history.rows] == [f"ntfy_{i}" for i in range(6)]


async def test_rows_that_cannot_be_written_are_left_to_the_janitor_and_the_next_are_written() -> None:
    history = FakeHistory(Unavailable("The database did not answer."))
    announce = announcing(history)
    with capture_logs() as logged:
        announce.accepted(numbered(1))
        await announce.drain()
        announce.accepted(numbered(1, 7))
        await announce.drain()
    assert [row.notification_id for row in history.rows] == ["ntfy_7"]
    assert [line["count"] for line in logged if line["log_level"] == "warning"] == [1]


async def test_what_waits_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond it the janitor writes the rows; the figures still count all."""
    monkeypatch.setattr(announce_module, "MAX_WAITING", 3)
    history, recorder = SlowHistory(), FakeRecorder()
    announce = announcing(history, recorder)
    announce.accepted(numbered(10))
    for _ in range(9):
        history.passes.release()
    await announce.drain()
    assert len(history.rows) == 3
    assert recorder.accepted_count == len(recorder.ended) == 10


async def test_a_batch_ends_at_its_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(announce_module, "MAX_BATCH", 4)
    history = FakeHistory()
    announce = announcing(history)
    announce.accepted(numbered(10))
    await announce.drain()
    assert [len(batch) for batch in history.batches] == [4, 4, 2]


async def test_one_line_a_request_and_no_word_of_its_content() -> None:
    announce = announcing(FakeHistory())
    notification = a_notification([in_app()], email="ada@example.org", data={"run": 7})
    with capture_logs() as logged:
        announce.accepted([notification, *numbered(4)])
        announce.accepted([])
    await announce.drain()
    (line,) = logged
    assert (line["notification_id"], line["user_id"], line["notifications"]) == (notification.id, "u1", 5)
    assert not any(text in repr(line) for text in ("ada@", notification.title, notification.body, "run"))


async def test_a_drain_without_work_ends_at_once() -> None:
    await announcing(FakeHistory()).drain()


async def test_the_line_of_what_the_insert_delivered_is_one_that_the_guides_log_analysis_finds() -> None:
    announce = announcing(FakeHistory())
    with capture_logs() as logged:
        announce.accepted([])
        announce.accepted([a_notification([in_app(0), suppressed(1)]), *numbered(2)])
        announce.accepted([a_notification([suppressed(0)])])
        await announce.drain()
    done, plain = logged
    assert "delivered successfully" in done["event"]
    assert (done["channel"], done["delivery_time_ms"], done["retry_count"]) == ("in_app", 250.0, 0)
    assert (done["notifications"], done["delivered"]) == (3, 3)
    assert plain["event"] == "Notification accepted"
    assert "delivery_time_ms" not in plain
