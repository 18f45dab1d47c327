"""What a process that was stopped past its leases does when it wakes up."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from tests.unit.builders import a_delivery, a_notification

from notification_engine.daemon.dispatcher import Dispatcher
from notification_engine.domain.delivery import Channel
from notification_engine.domain.notification import Notification
from notification_engine.domain.outcome import Delivered, Message, Outcome
from notification_engine.kit.clock import Clock
from notification_engine.services.departed import Departed
from notification_engine.services.ports import Deadline
from notification_engine.services.send import Send
from notification_engine.services.work import Work

LEASE_SECONDS = 30.0


class Hook:
    name = Channel.WEBHOOK
    repeatable = True
    attempt_seconds = 5.0

    def __init__(self) -> None:
        self.sent: list[str] = []

    async def send(self, message: Message, deadline: Deadline) -> Outcome:
        self.sent.append(message.delivery_id)
        return Delivered("webhook")

    def host(self, message: Message) -> str:
        return ""


class Outcomes:
    def __init__(self) -> None:
        self.settled: list[str] = []

    async def outcome(self, work: Work, outcome: Outcome, latency_ms: float) -> bool:
        self.settled.append(work.delivery.id)
        return True


class Renewals:
    """The store's end of a renewal, which takes so many seconds to answer."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        self._clock = clock
        self._seconds = seconds

    async def renew(self, owner: str, held: Sequence[tuple[str, int]], lease_seconds: float) -> None:
        pass_time(self._clock, self._seconds)


def pass_time(clock: Clock, seconds: float) -> None:
    clock._offset += seconds


def leased(clock: Clock) -> Notification:
    notification = a_notification([a_delivery(claim=1, endpoint="e")])
    notification.lease.fence, notification.lease.expires_at = 1, clock.after(LEASE_SECONDS)
    return notification


@pytest.mark.parametrize(("asleep_seconds", "sends"), [(LEASE_SECONDS - 1, 1), (LEASE_SECONDS + 1, 0)])
async def test_work_whose_lease_lapsed_is_left_to_the_next_claim(asleep_seconds: float, sends: int) -> None:
    clock, hook, settle = Clock(), Hook(), Outcomes()
    nothing: Any = None
    send = Send({Channel.WEBHOOK: hook}, settle, nothing, nothing, Unwatched(), nothing, clock, patience_seconds=1)  # type: ignore[arg-type]
    notification = leased(clock)
    pass_time(clock, asleep_seconds)
    await send.send(Work(notification, notification.deliveries[0], 1))
    assert (len(hook.sent), len(settle.settled)) == (sends, sends)


@pytest.mark.parametrize(("erased", "sends"), [("u1", 0), ("somebody", 1)])
async def test_work_of_a_user_who_was_erased_meanwhile_is_not_begun(erased: str, sends: int) -> None:
    """A webhook has no mark that could fail: what waits in the lane's memory has to be asked for."""
    clock, hook, settle = Clock(), Hook(), Outcomes()
    nothing: Any = None
    here, there = Departed(clock), Departed(clock)
    there.on_change = here.forget  # as the bus between replicas does
    hooks: Any = {Channel.WEBHOOK: hook}
    outcomes: Any = settle
    watch: Any = Unwatched()
    send = Send(hooks, outcomes, nothing, nothing, watch, nothing, clock, patience_seconds=1, departed=here)
    notification = leased(clock)
    notification.created_at = clock.now()
    there.tell(erased)
    await send.send(Work(notification, notification.deliveries[0], 1))
    assert len(hook.sent) == sends
    notification.created_at = clock.after(1)  # who comes back is notified
    await send.send(Work(notification, notification.deliveries[0], 1))
    assert len(hook.sent) == sends + 1


class Unwatched:
    async def observe(self, *_: Any) -> None: ...


@pytest.mark.parametrize(("answer_seconds", "extended"), [(1.0, True), (LEASE_SECONDS + 1, False)])
async def test_a_renewal_answered_after_the_lease_extends_nothing(answer_seconds: float, extended: bool) -> None:
    clock = Clock()
    nothing: Any = None
    store: Any = Renewals(clock, answer_seconds)
    dispatcher = Dispatcher(
        store,
        nothing,
        nothing,
        [],
        clock,
        owner="o",
        lane_bound=1,
        queue_size=10,
        lease_seconds=LEASE_SECONDS,
        processing_timeout=300,
    )
    notification = leased(clock)
    dispatcher._register(notification, [])
    before = notification.lease.expires_at
    pass_time(clock, LEASE_SECONDS - 10)
    await dispatcher.renew()
    assert before is not None
    assert notification.lease.expires_at is not None
    assert (notification.lease.expires_at > before + timedelta(seconds=1)) is extended
