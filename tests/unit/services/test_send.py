"""The pipe of one attempt, and what becomes of claimed work, with fakes on both sides of it."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs
from tests.unit.builders import NOW, ULID, a_delivery, a_notification

from notification_engine.domain.delivery import Channel, DeliveryStatus, Reason
from notification_engine.domain.errors import Unavailable
from notification_engine.domain.notification import Action, Lease
from notification_engine.domain.outcome import Attempt, Delivered, Message, Outcome, Rejected, Retry, Unknown
from notification_engine.domain.suppression import Suppression, SuppressionReason
from notification_engine.kit.clock import Clock
from notification_engine.services.endpoint_watch import EndpointWatch
from notification_engine.services.ports import Deadline
from notification_engine.services.send import MAX_SOLO_DEATHS, SOLO_AFTER_ABANDONED, Send, message_of
from notification_engine.services.work import Work

C, S = Channel, DeliveryStatus
DELIVERED = Delivered("p")


class Noon(Clock):
    def at(self, monotonic: float) -> Any:
        return NOW


class FakeSender:
    """Answers the outcome or raises; `repeatable` as the channel of the test is."""

    name = C.WEBHOOK
    attempt_seconds = 5.0

    def __init__(self, log: list[str], answer: Outcome | Exception, *, repeatable: bool = True) -> None:
        self._log, self._answer = log, answer
        self.repeatable = repeatable
        self.messages: list[Message] = []
        self.seconds_left: list[float] = []

    async def send(self, message: Message, deadline: Deadline) -> Outcome:
        self._log.append("send")
        self.messages.append(message)
        self.seconds_left.append(deadline.at - time.monotonic())
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer

    def host(self, message: Message) -> str:
        return ""


class Rig:
    """Stands for settle, store, history and endpoints, and writes down who was asked for what."""

    def __init__(self, answer: Outcome | Exception = DELIVERED, *, repeatable: bool = True) -> None:
        self.log: list[str] = []
        self.sender = FakeSender(self.log, answer, repeatable=repeatable)
        self.outcomes: list[Outcome] = []
        self.ends: list[tuple[DeliveryStatus, Reason]] = []
        self.held: list[bool] = []
        self.rolled: list[Attempt] = []
        self.rows: list[Attempt] = []
        self.asked: list[list[str]] = []
        self.holds = True
        self.failure: Exception | None = None
        self.observed: list[tuple[str, bool]] = []
        watch = EndpointWatch(self, Noon(), self.accept)  # type: ignore[arg-type]
        self.listed: list[Suppression | Exception | None] = []
        senders = dict.fromkeys(C, self.sender)
        self.send = Send(senders, self, self, self, watch, self, Noon(), patience_seconds=0.2)  # type: ignore[arg-type]

    async def find(self, channel: Channel, address: str) -> Suppression | None:
        """The suppression list: the answers in their order, the last one for good."""
        self.log.append(f"look up {channel} {address}")
        answer = self.listed.pop(0) if len(self.listed) > 1 else next(iter(self.listed), None)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def mark(self, work: Work) -> bool:
        self.log.append("mark")
        return self.holds

    async def mark_solo(self, document_id: str, fence: int) -> bool:
        self.log.append("mark_solo")
        return self.holds

    async def outcome(self, work: Work, outcome: Outcome, latency_ms: float) -> bool:
        self.log.append("settle")
        assert latency_ms >= 0
        self.outcomes.append(outcome)
        return True

    async def ended(
        self, work: Work, status: DeliveryStatus, reason: Reason, detail: str, *, held: bool = False
    ) -> bool:
        self.log.append("end")
        self.held.append(held)
        self.ends.append((status, reason))
        return True

    async def roll_forward(self, work: Work, row: Attempt) -> bool:
        self.rolled.append(row)
        return True

    async def of_notifications(self, ids: Sequence[str]) -> list[Attempt]:
        if self.failure:
            raise self.failure
        self.asked.append(list(ids))
        return self.rows

    async def disable(self, endpoint_id: str, reason: str) -> None:
        self.log.append(f"disable {endpoint_id} {reason}")

    async def observe(self, endpoint_id: str, *, ok: bool) -> None:
        self.observed.append((endpoint_id, ok))

    async def accept(self, *_: Any) -> Any:
        raise AssertionError("nobody owns the endpoints here")


def work(fence: int = 1, channel: Channel = C.WEBHOOK, lease: Lease | None = None, **fields: Any) -> Work:
    delivery = a_delivery(0, channel, endpoint="whk_1", **fields)
    return Work(a_notification([delivery], lease=lease or Lease(fence=fence)), delivery, fence)


def row(attempt: int, fence: int = 1, status: str = "delivered") -> Attempt:
    return Attempt(f"ntfy_{ULID}", f"dlv_{ULID}_0", "u1", C.WEBHOOK, fence, attempt, status, NOW)


async def test_what_can_be_repeated_is_sent_and_settled_without_a_mark() -> None:
    rig = Rig()
    await rig.send.send(work())
    assert rig.log == ["send", "settle"]
    assert rig.outcomes == [Delivered("p")]


async def test_an_attempt_has_the_time_of_its_channel() -> None:
    rig = Rig()
    await rig.send.send(work())
    assert 0 < rig.sender.seconds_left[0] <= rig.sender.attempt_seconds


async def test_what_cannot_be_repeated_is_marked_first() -> None:
    rig = Rig(repeatable=False)
    await rig.send.send(work())
    assert rig.log == ["mark", "send", "settle"]


async def test_without_the_lease_nobody_is_called() -> None:
    rig = Rig(repeatable=False)
    rig.holds = False
    await rig.send.send(work())
    assert rig.log == ["mark"]


async def test_what_runs_alone_is_marked_as_such_before_anything_else() -> None:
    rig = Rig(repeatable=False)
    await rig.send.send(replace(work(), solo=True))
    assert rig.log == ["mark_solo", "mark", "send", "settle"]
    rig = Rig()
    rig.holds = False
    await rig.send.send(replace(work(), solo=True))
    assert rig.log == ["mark_solo"]


@pytest.mark.parametrize(("seconds", "expired"), [(-1, True), (0, True), (1, False)])
async def test_what_has_expired_is_not_sent(seconds: int, expired: bool) -> None:
    rig = Rig()
    given = work()
    given.notification.expires_at = NOW + timedelta(seconds=seconds)
    await rig.send.send(given)
    assert rig.log == (["end"] if expired else ["send", "settle"])
    assert rig.ends == ([(S.EXPIRED, Reason.EXPIRED)] if expired else [])


async def test_what_was_erased_is_not_sent_and_is_no_failure() -> None:
    rig = Rig()
    given = work(channel=C.EMAIL)
    given.notification.erased = True
    await rig.send.send(given)
    assert (rig.log, rig.ends) == (["end"], [(S.SUPPRESSED, Reason.ERASED)])


LOOK = "look up email whk_1"
BOUNCED = Suppression("whk_1", SuppressionReason.HARD_BOUNCE, "sendgrid", "sendgrid")
STOPPED = replace(BOUNCED, reason=SuppressionReason.UNSUBSCRIBE)


async def test_an_address_is_looked_up_before_the_mark_and_only_for_email() -> None:
    rig = Rig(repeatable=False)
    await rig.send.send(work(channel=C.EMAIL))
    assert rig.log == [LOOK, "mark", "send", "settle"]
    rig = Rig()
    rig.listed = [BOUNCED]
    await rig.send.send(work(channel=C.WEBHOOK))
    assert rig.log == ["send", "settle"]


@pytest.mark.parametrize(
    ("state", "mark", "end"),
    [
        (S.PENDING, None, S.SUPPRESSED),
        (S.PENDING, {"fence": 1, "attempt": 1, "resend": 0}, S.SUPPRESSED),
        (S.UNKNOWN, {"fence": 1, "attempt": 1, "resend": 0}, S.UNKNOWN),
        (S.PENDING, {"fence": 2, "attempt": 2, "resend": 1}, S.UNKNOWN),
    ],
    ids=["fresh", "refused before", "unknown", "unknown, and its resend refused"],
)
@pytest.mark.parametrize("why", [Reason.SUPPRESSED_ADDRESS, Reason.EXPIRED], ids=str)
async def test_what_may_have_arrived_is_held_and_the_rest_ends(
    why: Reason, state: DeliveryStatus, mark: dict[str, int] | None, end: DeliveryStatus
) -> None:
    rig = Rig(repeatable=False)
    given = work(channel=C.EMAIL, status=state, mark=mark)
    if why is Reason.EXPIRED:
        given.notification.expires_at = NOW
    rig.listed = [BOUNCED]
    await rig.send.send(given)
    plain = S.EXPIRED if why is Reason.EXPIRED else S.SUPPRESSED
    assert rig.ends == [(end if end is S.UNKNOWN else plain, why)]
    assert rig.held == [end is S.UNKNOWN]
    assert "mark" not in rig.log


@pytest.mark.parametrize(("listed", "sent"), [(STOPPED, True), (BOUNCED, False)], ids=["unsubscribed", "bounced"])
async def test_what_is_transactional_reaches_who_unsubscribed(listed: Suppression, sent: bool) -> None:
    rig = Rig(repeatable=False)
    rig.listed = [listed]
    given = work(channel=C.EMAIL)
    given.notification.transactional = True
    await rig.send.send(given)
    assert ("send" in rig.log) is sent


async def test_a_list_that_is_away_is_waited_for_and_nothing_is_sent_without_it() -> None:
    rig = Rig(repeatable=False)
    rig.listed = [Unavailable("away"), None]
    await rig.send.send(work(channel=C.EMAIL))
    assert rig.log == [LOOK, LOOK, "mark", "send", "settle"]
    rig = Rig(repeatable=False)
    rig.listed = [Unavailable("away")]
    with pytest.raises(Unavailable):
        await rig.send.send(work(channel=C.EMAIL))
    assert set(rig.log) == {LOOK}


async def test_an_endpoint_that_is_gone_is_disabled_after_the_settlement() -> None:
    rig = Rig(Rejected(Reason.ENDPOINT_GONE, "p", disable_endpoint=True))
    await rig.send.send(work())
    assert rig.log == ["send", "settle", "disable whk_1 endpoint_gone"]


async def test_another_rejection_disables_nothing() -> None:
    rig = Rig(Rejected(Reason.REFUSED, "p"))
    await rig.send.send(work())
    assert rig.log == ["send", "settle"]


@pytest.mark.parametrize(
    ("error", "reason"),
    [(ValueError("ada@example.org"), Reason.INTERNAL), (TimeoutError(), Reason.TIMEOUT), (OSError(), Reason.INTERNAL)],
)
@pytest.mark.parametrize(("repeatable", "kind"), [(True, Retry), (False, Unknown)])
async def test_a_channel_that_raises_all_the_same_has_an_outcome(
    error: Exception, reason: Reason, repeatable: bool, kind: type[Outcome]
) -> None:
    rig = Rig(error, repeatable=repeatable)
    with capture_logs() as logged:
        await rig.send.send(work())
    (outcome,) = rig.outcomes
    assert type(outcome) is kind
    assert outcome.reason is reason
    assert "ada@example.org" not in repr(outcome), "the class is told, not the text"
    assert bool(logged) is (reason is Reason.INTERNAL)


async def test_a_channel_that_forgets_its_deadline_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig()
    rig.sender.attempt_seconds = -1.0  # and the second that is added: now

    async def forgetful(message: Message, deadline: Deadline) -> Outcome:
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr(rig.sender, "send", forgetful)
    await rig.send.send(work())
    assert [(type(o), o.reason) for o in rig.outcomes if isinstance(o, Retry)] == [(Retry, Reason.TIMEOUT)]


def test_a_message_is_the_notification_for_one_endpoint() -> None:
    given = replace(work(attempts=2), solo=True)
    notification = given.notification
    notification.id += "~01"
    notification.data, notification.actions = {"run": 7}, [Action("Open", "https://x.example")]
    notification.email = "ada@example.org"
    message = message_of(given)
    assert message.notification_id == f"ntfy_{ULID}"
    assert (message.delivery_id, message.endpoint, message.attempt) == (given.delivery.id, "whk_1", 3)
    assert (message.data, message.actions) == ({"run": 7}, (Action("Open", "https://x.example"),))
    assert message.solo
    assert "ada@example.org" not in repr(message)


async def test_fresh_work_is_sent_without_a_look_at_the_history() -> None:
    rig = Rig()
    works = [work(), work()]
    assert await rig.send.resume(works) == works
    assert rig.asked == []


async def test_work_that_was_claimed_again_and_left_no_trace_is_sent() -> None:
    rig = Rig()
    given = work(fence=2)
    assert await rig.send.resume([given]) == [given]
    assert rig.asked == [[f"ntfy_{ULID}"]]
    assert not given.solo


async def test_what_the_history_knows_is_rolled_forward_and_not_sent_again() -> None:
    rig = Rig()
    rig.rows = [row(1)]
    assert await rig.send.resume([work(fence=2)]) == []
    assert rig.rolled == [row(1)]


async def test_a_row_that_the_state_shows_already_does_not_stop_the_next_attempt() -> None:
    rig = Rig()
    rig.rows = [row(1), row(2, status="stale")]
    given = work(fence=2, attempts=1)
    assert await rig.send.resume([given]) == [given]
    assert rig.rolled == []


@pytest.mark.parametrize(("marked", "unknown"), [(1, False), (2, True)])
async def test_what_was_marked_and_left_no_row_is_unknown(marked: int, unknown: bool) -> None:
    rig = Rig()
    mark = {"fence": 1, "attempt": marked, "resend": 0}
    given = work(fence=2, channel=C.EMAIL, status=S.SENDING, attempts=1, mark=mark)
    left = await rig.send.resume([given])
    assert left == ([] if unknown else [given])
    assert [type(o) for o in rig.outcomes] == ([Unknown] if unknown else [])
    assert [o.reason for o in rig.outcomes if isinstance(o, Unknown)] == ([Reason.INTERRUPTED] if unknown else [])


@pytest.mark.parametrize("abandoned", range(5))
async def test_after_two_dead_processes_it_runs_alone(abandoned: int) -> None:
    rig = Rig()
    given = work(fence=9, lease=Lease(fence=9, abandoned=abandoned))
    assert await rig.send.resume([given]) == [given]
    assert given.solo is (abandoned >= SOLO_AFTER_ABANDONED)
    assert SOLO_AFTER_ABANDONED == 2


@pytest.mark.parametrize("deaths", range(5))
async def test_the_third_death_alone_makes_it_a_dead_letter(deaths: int) -> None:
    rig = Rig()
    left = await rig.send.resume([work(fence=9, lease=Lease(fence=9, abandoned=5, solo_deaths=deaths))])
    assert rig.ends == ([(S.FAILED, Reason.POISON)] if deaths >= MAX_SOLO_DEATHS else [])
    assert len(left) == (0 if deaths >= MAX_SOLO_DEATHS else 1)
    assert MAX_SOLO_DEATHS == 3


async def test_what_the_history_knows_counts_before_poison_and_mark() -> None:
    rig = Rig()
    rig.rows = [row(1)]
    mark = {"fence": 1, "attempt": 1, "resend": 0}
    await rig.send.resume([work(fence=9, status=S.SENDING, mark=mark, lease=Lease(fence=9, solo_deaths=7))])
    assert (rig.rolled, rig.ends, rig.outcomes) == ([row(1)], [], [])


async def test_a_history_that_is_away_lets_nothing_be_sent() -> None:
    rig = Rig()
    rig.failure = Unavailable("away")
    with pytest.raises(Unavailable):
        await rig.send.resume([work(fence=2), work(fence=1)])
