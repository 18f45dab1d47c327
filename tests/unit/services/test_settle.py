"""Settle with stores that keep what they are given: the table from outcome to row and change, order, fence, log."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs
from tests.unit.builders import NOW, ULID, FakeHistory, FakeRecorder, a_delivery, a_notification

from notification_engine.domain.delivery import Channel, DeliveryStatus, Reason
from notification_engine.domain.errors import Unavailable
from notification_engine.domain.notification import Inbox, Notification, Priority
from notification_engine.domain.outcome import Accepted, Attempt, Delivered, Outcome, Rejected, Retry, Unknown
from notification_engine.domain.retry import UNKNOWN_GRACE_SECONDS, RetryPolicy
from notification_engine.kit.clock import Clock
from notification_engine.services import rows as rows_module
from notification_engine.services.ports import Change
from notification_engine.services.rows import unsettled_rows
from notification_engine.services.settle import Settle, log_attempt
from notification_engine.services.work import Work

C, S, P = Channel, DeliveryStatus, Priority
POLICIES = {C.IN_APP: RetryPolicy(3, 60.0), C.EMAIL: RetryPolicy(3, 60.0), C.WEBHOOK: RetryPolicy(4, 5.0)}


class SecondsLater(Clock):
    def at(self, monotonic: float) -> datetime:
        return NOW + timedelta(seconds=2)


class FakeStore:
    """A `NotificationStore` of one method; `lost` are the deliveries whose fence no longer holds."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.changes: list[Change] = []
        self.lost: set[str] = set()
        self.history: FakeHistory | None = None
        self.rows_before: list[int] = []

    async def apply(self, changes: Sequence[Change]) -> list[bool]:
        if self.failures:
            raise self.failures.pop(0)
        self.rows_before.append(len(self.history.rows) if self.history else 0)
        self.changes += changes
        return [change.delivery_id not in self.lost for change in changes]


class FakeLive:
    def __init__(self) -> None:
        self.shown: list[Notification] = []

    def surfaced(self, notification: Notification) -> None:
        self.shown.append(notification)

    def updated(self, notification: Notification) -> None: ...
    def unread(self, user_id: str, count: int) -> None: ...


class Rig:
    def __init__(self, *, lease_seconds: float = 30.0, store: FakeStore | None = None) -> None:
        self.history, self.recorder, self.live = FakeHistory(), FakeRecorder(), FakeLive()
        self.store = store or FakeStore()
        self.store.history = self.history
        self.settle = Settle(
            self.store,  # type: ignore[arg-type]
            self.history,  # type: ignore[arg-type]
            SecondsLater(),
            self.recorder,
            self.live,
            POLICIES,
            lease_seconds=lease_seconds,
            max_waiting=1000,
        )

    @property
    def row(self) -> Attempt:
        (row,) = self.history.rows
        return row

    @property
    def change(self) -> Change:
        (change,) = self.store.changes
        return change


def work(channel: Channel = C.WEBHOOK, priority: Priority = P.MEDIUM, fence: int = 3, **delivery: Any) -> Work:
    one = a_delivery(0, channel, endpoint="ada@example.org" if channel is C.EMAIL else "whk_1", **delivery)
    inbox = Inbox() if channel is C.IN_APP else None
    return Work(a_notification([one], priority=priority, inbox=inbox), one, fence)


@pytest.fixture
def half(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every draw of the jitter is one half."""
    monkeypatch.setattr(rows_module.random, "random", lambda: 0.5)


TABLE: list[tuple[Outcome, int, DeliveryStatus, Reason | None, float | None]] = [
    (Delivered("p"), 0, S.DELIVERED, None, None),
    (Accepted("p", "m1"), 0, S.ACCEPTED, None, None),
    (Rejected(Reason.REFUSED, "p"), 0, S.FAILED, Reason.REFUSED, None),
    (Rejected(Reason.ENDPOINT_GONE, "p", disable_endpoint=True), 0, S.FAILED, Reason.ENDPOINT_GONE, None),
    (Retry(Reason.TIMEOUT, "p"), 0, S.PENDING, Reason.TIMEOUT, 2.5),
    (Retry(Reason.TIMEOUT, "p"), 1, S.PENDING, Reason.TIMEOUT, 5.0),
    (Retry(Reason.TIMEOUT, "p"), 2, S.PENDING, Reason.TIMEOUT, 10.0),
    (Retry(Reason.TIMEOUT, "p"), 3, S.FAILED, Reason.TIMEOUT, None),
    (Retry(Reason.RATE_LIMITED, "p", after=120.0), 0, S.PENDING, Reason.RATE_LIMITED, 120.0),
    (Retry(Reason.RATE_LIMITED, "p", after=120.0), 3, S.FAILED, Reason.RATE_LIMITED, None),
    (Unknown(Reason.CONNECTION_LOST, "p"), 0, S.UNKNOWN, Reason.CONNECTION_LOST, None),
]


@pytest.mark.usefixtures("half")
@pytest.mark.parametrize(("outcome", "attempts", "status", "reason", "after"), TABLE, ids=lambda v: str(v)[:40])
async def test_an_outcome_becomes_this_row_and_this_change(
    outcome: Outcome, attempts: int, status: DeliveryStatus, reason: Reason | None, after: float | None
) -> None:
    rig = Rig()
    given = work(attempts=attempts)
    assert await rig.settle.outcome(given, replace(outcome, detail="said so"), 12.5)
    row, change = rig.row, rig.change
    assert (row.delivery_status, row.reason, row.next_attempt_seconds) == (status, reason, after)
    assert (row.attempt, row.fence, row.latency_ms, row.detail) == (attempts + 1, 3, 12.5, "said so")
    assert (row.timestamp, row.provider, row.user_id) == (NOW + timedelta(seconds=2), "p", "u1")
    assert (change.status, change.reason, change.next_attempt_seconds) == (status, reason, after)
    assert (change.document_id, change.delivery_id) == (given.notification.id, given.delivery.id)
    assert (change.fence, change.attempts, change.provider, change.release) == (3, attempts + 1, "p", True)


@pytest.mark.usefixtures("half")
async def test_the_other_channels_have_a_policy_of_their_own() -> None:
    rig = Rig()
    await rig.settle.outcome(work(C.EMAIL), Retry(Reason.SERVER_ERROR, "p"), 1.0)
    await rig.settle.outcome(work(C.EMAIL, attempts=2), Retry(Reason.SERVER_ERROR, "p"), 1.0)
    assert [c.next_attempt_seconds for c in rig.store.changes] == [30.0, None]


async def test_the_backoff_is_drawn_anew_each_time() -> None:
    rig = Rig()
    for _ in range(50):
        await rig.settle.outcome(work(attempts=2), Retry(Reason.TIMEOUT, "p"), 1.0)
    delays = [c.next_attempt_seconds or 0.0 for c in rig.store.changes]
    assert len(set(delays)) > 40
    assert all(0 <= d <= 20 for d in delays)
    assert max(delays) - min(delays) > 5


async def test_a_providers_message_id_is_kept() -> None:
    rig = Rig()
    await rig.settle.outcome(work(C.EMAIL), Accepted("smtp", "m1"), 1.0)
    assert rig.row.provider_message_id == rig.change.provider_message_id == "m1"


UNKNOWN = Unknown(Reason.CONNECTION_LOST, "smtp")


@pytest.mark.parametrize("priority", P)
@pytest.mark.parametrize(
    ("delivery", "resent"),
    [({}, False), ({"mark": {"resend": 0}}, False), ({"mark": {"resend": 1}}, True), ({"status": S.UNKNOWN}, True)],
)
async def test_an_unknown_outcome_waits_for_its_one_resend_or_is_held(
    priority: Priority, delivery: dict[str, Any], resent: bool
) -> None:
    rig = Rig()
    await rig.settle.outcome(work(C.EMAIL, priority, **delivery), UNKNOWN, 1.0)
    resends = priority in {P.HIGH, P.URGENT, P.CRITICAL} and not resent
    assert rig.change.status is S.UNKNOWN
    assert (rig.change.next_attempt_seconds, rig.change.held) == (
        UNKNOWN_GRACE_SECONDS if resends else None,
        not resends,
    )
    assert rig.row.held is rig.change.held
    assert len(rig.recorder.ended) == (0 if resends else 1), "ended only when nothing more will be tried"


async def test_only_a_delivered_in_app_surfaces() -> None:
    rig = Rig()
    given = work(C.IN_APP)
    await rig.settle.outcome(given, Delivered("in_app"), 1.0)
    assert rig.change.surface
    assert rig.live.shown == [given.notification]
    assert given.notification.inbox == Inbox(visible_at=NOW + timedelta(seconds=2))
    other = Rig()
    await other.settle.outcome(work(C.IN_APP), Retry(Reason.INTERNAL, "in_app"), 1.0)
    await other.settle.outcome(work(C.WEBHOOK), Delivered("webhook"), 1.0)
    assert [c.surface for c in other.store.changes] == [False, False]
    assert other.live.shown == []


async def test_what_comes_without_its_lease_is_recorded_as_stale_and_shown_to_nobody() -> None:
    rig = Rig()
    rig.store.lost = {f"dlv_{ULID}_0"}
    assert not await rig.settle.outcome(work(C.IN_APP), Delivered("in_app"), 1.0)
    first, stale = rig.history.rows
    assert (stale.delivery_status, stale.id) == ("stale", f"{first.id}:stale")
    assert rig.live.shown == []
    assert (rig.recorder.ended, rig.recorder.stale_count, len(rig.recorder.attempts)) == ([], 1, 1)


async def test_the_figures_count_every_attempt_and_only_the_end_as_an_end() -> None:
    rig = Rig()
    await rig.settle.outcome(work(), Retry(Reason.TIMEOUT, "webhook"), 12.5)
    await rig.settle.outcome(work(attempts=1), Delivered("webhook"), 7.5)
    await rig.settle.ended(work(), S.EXPIRED, Reason.EXPIRED, "in words")
    assert rig.recorder.attempts == [
        (C.WEBHOOK, "webhook", S.PENDING, Reason.TIMEOUT, 12.5),
        (C.WEBHOOK, "webhook", S.DELIVERED, None, 7.5),
        (C.WEBHOOK, "engine", S.EXPIRED, Reason.EXPIRED, 0.0),
    ]
    assert [status for _, status, _, _ in rig.recorder.ended] == [S.DELIVERED, S.EXPIRED]
    assert rig.recorder.stale_count == 0


async def test_the_history_is_written_before_the_state() -> None:
    rig = Rig()
    await rig.settle.outcome(work(), Delivered("p"), 1.0)
    assert rig.store.rows_before == [1]


async def test_a_mark_is_written_ahead_and_kept_with_the_work() -> None:
    rig = Rig()
    given = work(C.EMAIL, attempts=1)
    assert await rig.settle.mark(given)
    assert rig.change.mark == given.delivery.mark == {"fence": 3, "attempt": 2, "resend": 0}
    assert (rig.change.status, rig.change.release, rig.change.attempts) == (S.SENDING, False, None)
    assert rig.history.rows == []


async def test_the_mark_of_a_resend_says_so_and_its_unknown_is_held() -> None:
    rig = Rig()
    given = work(C.EMAIL, P.CRITICAL, status=S.UNKNOWN, attempts=1)
    await rig.settle.mark(given)
    given.delivery.status = S.SENDING
    await rig.settle.outcome(given, UNKNOWN, 1.0)
    assert [c.mark and c.mark["resend"] for c in rig.store.changes] == [1, None]
    assert rig.store.changes[-1].held


async def test_a_mark_without_the_lease_is_refused_and_marks_nothing() -> None:
    rig = Rig()
    rig.store.lost = {f"dlv_{ULID}_0"}
    given = work(C.EMAIL)
    assert not await rig.settle.mark(given)
    assert given.delivery.mark is None


@pytest.mark.parametrize(
    ("status", "reason"), [(S.EXPIRED, Reason.EXPIRED), (S.FAILED, Reason.POISON)], ids=["expired", "poison"]
)
async def test_an_end_without_an_attempt_is_the_engines_own(status: DeliveryStatus, reason: Reason) -> None:
    rig = Rig()
    await rig.settle.ended(work(), status, reason, "in words")
    assert (rig.row.delivery_status, rig.row.reason, rig.row.provider) == (status, reason, "engine")
    assert (rig.row.latency_ms, rig.row.detail, rig.change.status) == (None, "in words", status)


async def test_what_the_history_knows_is_rolled_forward_without_a_second_row() -> None:
    rig = Rig()
    known = replace(attempt(2, 5), delivery_status="pending", reason=Reason.TIMEOUT, next_attempt_seconds=7.0)
    assert await rig.settle.roll_forward(work(attempts=1, fence=6), known)
    assert rig.history.rows == []
    assert (rig.change.status, rig.change.attempts, rig.change.fence) == (S.PENDING, 2, 6)
    assert (rig.change.next_attempt_seconds, rig.change.reason) == (7.0, Reason.TIMEOUT)


async def test_a_snooze_that_ended_surfaces() -> None:
    rig = Rig()
    given = work(C.IN_APP)
    given.notification.inbox = Inbox(visible_at=NOW, snoozed_until=NOW)
    await rig.settle.surfaced(given)
    assert (rig.change.surface, rig.change.status) == (True, S.DELIVERED)
    assert given.notification.inbox == Inbox(visible_at=NOW + timedelta(seconds=2))
    assert rig.live.shown == [given.notification]


async def test_a_store_that_is_away_delays_a_settlement_and_repeats_the_same_row() -> None:
    rig = Rig(store=FakeStore(Unavailable("away"), Unavailable("away")))
    assert await rig.settle.outcome(work(), Delivered("p"), 1.0)
    assert len({row.id for row in rig.history.rows}) == 1
    assert len(rig.store.changes) == 1


async def test_a_history_that_is_away_keeps_the_state_waiting() -> None:
    rig = Rig()
    rig.history.failures = [Unavailable("away")]
    await rig.settle.outcome(work(), Delivered("p"), 1.0)
    assert rig.store.rows_before == [1]


async def test_after_the_lease_a_settlement_is_given_up_and_told() -> None:
    rig = Rig(lease_seconds=0.0, store=FakeStore(Unavailable("away")))
    with capture_logs() as logged, pytest.raises(Unavailable):
        await rig.settle.outcome(work(), Delivered("p"), 1.0)
    assert [line["log_level"] for line in logged] == ["error"]
    assert rig.recorder.ended == []


@pytest.mark.parametrize(
    ("created", "scheduled", "seconds"),
    [
        (NOW, None, 2.0),
        (NOW, NOW + timedelta(seconds=1), 1.0),
        (NOW, NOW - timedelta(hours=1), 2.0),
        (NOW + timedelta(seconds=5), None, 0.0),
    ],
    ids=["from accept", "from the schedule", "a schedule in the past counts from accept", "never negative"],
)
async def test_the_delivery_time_counts_from_accept_or_schedule(
    created: datetime, scheduled: datetime | None, seconds: float
) -> None:
    rig = Rig()
    given = work()
    given.notification.created_at, given.notification.scheduled_at = created, scheduled
    await rig.settle.outcome(given, Delivered("p"), 1.0)
    assert rig.recorder.ended == [(C.WEBHOOK, S.DELIVERED, None, seconds)]


async def test_an_e_mail_address_stands_in_no_row_and_no_line() -> None:
    rig = Rig()
    with capture_logs() as logged:
        for outcome in (
            Delivered("p"),
            Accepted("p"),
            UNKNOWN,
            Rejected(Reason.REFUSED, "p"),
            Retry(Reason.TIMEOUT, "p"),
        ):
            await rig.settle.outcome(work(C.EMAIL), outcome, 1.0)
    assert len(logged) == 5
    shown = repr(logged) + repr(rig.history.rows)
    assert not any(text in shown for text in ("ada@example.org", "Run 7", "41 tests"))
    assert rig.history.rows[0].endpoint is None


async def test_a_webhooks_row_names_its_endpoint() -> None:
    rig = Rig()
    await rig.settle.outcome(work(), Delivered("p"), 1.0)
    assert rig.row.endpoint == "whk_1"


def test_the_line_of_an_attempt_is_the_guides() -> None:
    """With the figures that the guide's examples of log analysis look for."""
    with capture_logs() as logged:
        log_attempt(work(attempts=2), replace(attempt(3, 1), delivery_status="delivered"), 2.5)
        log_attempt(work(), replace(attempt(1, 1), delivery_status="failed", reason=Reason.TIMEOUT), 2.5)
    good, bad = logged
    assert good["event"] == "Notification delivered successfully"
    assert (good["channel"], good["delivery_time_ms"], good["retry_count"]) == ("webhook", 2500.0, 2)
    assert (good["user_id"], good["notification_id"], good["log_level"]) == ("u1", f"ntfy_{ULID}", "info")
    assert (bad["event"], bad["reason"], bad["log_level"]) == ("Notification delivery failed", "timeout", "warning")


def attempt(number: int, fence: int, status: str = "delivered") -> Attempt:
    return Attempt(f"ntfy_{ULID}", f"dlv_{ULID}_0", "u1", C.WEBHOOK, fence, number, status, NOW)


@pytest.mark.parametrize(
    ("attempts", "rows", "newest"),
    [
        (0, [], None),
        (0, [(1, 1)], (1, 1)),
        (1, [(1, 1)], None),
        (1, [(1, 1), (2, 2)], (2, 2)),
        (0, [(2, 2), (1, 1)], (2, 2)),
        (0, [(1, 1), (1, 3), (1, 2)], (1, 3)),
    ],
)
def test_the_newest_row_that_the_state_does_not_show_is_to_be_settled(
    attempts: int, rows: list[tuple[int, int]], newest: tuple[int, int] | None
) -> None:
    found = unsettled_rows([work(attempts=attempts)], [attempt(*row) for row in rows]).get(f"dlv_{ULID}_0")
    assert (found and (found.attempt, found.fence)) == newest


def test_stale_rows_and_rows_of_others_settle_nothing() -> None:
    other = replace(attempt(1, 1), delivery_id="dlv_other_0")
    assert unsettled_rows([work()], [attempt(1, 1, "stale"), other]) == {}
