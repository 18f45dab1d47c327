from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.builders import NOW, ULID, an_endpoint

from notification_engine.domain.delivery import Channel, Delivery, DeliveryStatus, Reason
from notification_engine.domain.notification import Inbox
from notification_engine.domain.preference import Preference
from notification_engine.domain.webhook import WebhookEndpoint
from notification_engine.services.plan import Plan, PlanInput, plan

C, S = Channel, DeliveryStatus
TYPE = "test_execution.completed"
LATER = NOW + timedelta(hours=1)
ENDPOINTS = tuple(an_endpoint(id=f"whk_{i}") for i in range(3))
PLAIN = PlanInput(
    notification_id=f"ntfy_{ULID}",
    notification_type=TYPE,
    channels=tuple(C),
    email="ada@example.org",
    preference=Preference("u1"),
    endpoints=ENDPOINTS,
    email_available=True,
    now=NOW,
    due_at=NOW,
)


def planned(**changes: Any) -> Plan:
    return plan(replace(PLAIN, **changes))


def of(given: Plan, channel: Channel) -> list[Delivery]:
    return [d for d in given.deliveries if d.channel is channel]


def refused(given: Plan, channel: Channel) -> Reason | None:
    """The reason of the one suppressed delivery of a channel; None when it is planned."""
    deliveries = of(given, channel)
    if any(d.status is not S.SUPPRESSED for d in deliveries):
        return None
    (delivery,) = deliveries
    assert (delivery.next_attempt_at, delivery.endpoint, delivery.attempts) == (None, None, 0)
    (decision,) = [d for d in given.decisions if d.channel is channel]
    assert decision.code == f"suppressed_{delivery.reason}"
    assert decision.text.endswith(".")
    return delivery.reason


def test_every_channel_gets_its_deliveries_in_the_order_of_the_request() -> None:
    given = planned(channels=(C.WEBHOOK, C.EMAIL, C.IN_APP))
    assert [(d.channel, d.endpoint) for d in given.deliveries] == [
        (C.WEBHOOK, "whk_0"),
        (C.WEBHOOK, "whk_1"),
        (C.WEBHOOK, "whk_2"),
        (C.EMAIL, "ada@example.org"),
        (C.IN_APP, None),
    ]
    assert [d.id for d in given.deliveries] == [f"dlv_{ULID}_{i}" for i in range(5)]
    assert [d.code for d in given.decisions] == ["planned"] * 3


def test_what_is_due_now_is_in_the_inbox_with_the_insert_and_to_be_sent_at_once() -> None:
    given = planned()
    (in_app,) = of(given, C.IN_APP)
    assert (in_app.status, in_app.provider, in_app.attempts) == (S.DELIVERED, "in_app", 1)
    assert in_app.delivered_at == in_app.created_at == NOW
    assert in_app.next_attempt_at is None
    assert given.inbox == Inbox(visible_at=NOW)
    assert {(d.status, d.next_attempt_at, d.attempts) for d in given.deliveries if d is not in_app} == {
        (S.PENDING, NOW, 0)
    }


def test_what_is_scheduled_waits_on_every_channel_and_has_not_surfaced() -> None:
    given = planned(due_at=LATER)
    assert {(d.status, d.next_attempt_at, d.attempts) for d in given.deliveries} == {(S.PENDING, LATER, 0)}
    assert given.inbox == Inbox()


def test_a_muted_recipient_gets_nothing_and_is_told_so_for_each_channel() -> None:
    given = planned(preference=Preference("u1", mute=True))
    assert [refused(given, c) for c in C] == [Reason.MUTED] * 3
    assert given.inbox is None


@pytest.mark.parametrize("channel", C)
def test_a_channel_that_was_switched_off_is_left_out_alone(channel: Channel) -> None:
    given = planned(preference=Preference("u1", types={"test_execution.*": {channel: False}}))
    assert {c: refused(given, c) for c in C} == {c: Reason.PREFERENCE_OFF if c is channel else None for c in C}
    assert (given.inbox is None) is (channel is C.IN_APP)
    (text,) = [d.text for d in given.decisions if d.channel is channel]
    assert "test_execution.*" in text


def test_a_preference_for_another_type_changes_nothing() -> None:
    assert planned(preference=Preference("u1", types={"quality.*": dict.fromkeys(C, False)})) == planned()


@pytest.mark.parametrize("email", [None, ""])
def test_without_an_address_there_is_no_e_mail(email: str | None) -> None:
    given = planned(email=email)
    assert {c: refused(given, c) for c in C} == {C.EMAIL: Reason.NO_ADDRESS, C.IN_APP: None, C.WEBHOOK: None}


def test_without_a_provider_there_is_no_e_mail() -> None:
    given = planned(email_available=False)
    assert {c: refused(given, c) for c in C} == {C.EMAIL: Reason.NO_PROVIDER, C.IN_APP: None, C.WEBHOOK: None}


@pytest.mark.parametrize(
    "endpoints",
    [(), (an_endpoint(enabled=False),), (an_endpoint(notification_types=("quality.*",)),)],
    ids=["none", "disabled", "for another type"],
)
def test_without_an_endpoint_that_wants_it_there_is_no_webhook(endpoints: tuple[WebhookEndpoint, ...]) -> None:
    assert refused(planned(endpoints=endpoints), C.WEBHOOK) is Reason.NO_ENDPOINT


def test_only_the_endpoints_that_want_the_type_are_called() -> None:
    wanting = an_endpoint(id="whk_9", notification_types=("test_execution.*",))
    others = (an_endpoint(id="whk_1", enabled=False), an_endpoint(id="whk_2", notification_types=("quality.*",)))
    assert [d.endpoint for d in of(planned(endpoints=(*others, wanting)), C.WEBHOOK)] == ["whk_9"]


def test_the_recipients_word_is_told_before_what_is_missing() -> None:
    """A recipient who switched e-mail off is not told that an address is missing."""
    off = Preference("u1", types={"*": {C.EMAIL: False}})
    assert refused(planned(preference=off, email=None), C.EMAIL) is Reason.PREFERENCE_OFF
    assert refused(planned(email=None, email_available=False), C.EMAIL) is Reason.NO_ADDRESS


def test_no_sentence_holds_an_address() -> None:
    assert "ada@example.org" not in repr(planned().decisions)


def test_without_a_channel_there_is_nothing() -> None:
    assert planned(channels=()) == Plan([], [], None)


inputs = st.builds(
    PlanInput,
    notification_id=st.just(f"ntfy_{ULID}"),
    notification_type=st.just(TYPE),
    channels=st.permutations(list(C)).flatmap(lambda p: st.integers(0, 3).map(lambda n: tuple(p[:n]))),
    email=st.sampled_from([None, "ada@example.org"]),
    preference=st.builds(
        Preference,
        user_id=st.just("u1"),
        mute=st.booleans(),
        types=st.dictionaries(
            st.sampled_from(["*", "test_execution.*", TYPE, "quality.*"]),
            st.dictionaries(st.sampled_from(list(C)), st.booleans()),
        ),
    ),
    endpoints=st.lists(st.integers(0, 60), unique=True).map(lambda ids: [an_endpoint(id=f"whk_{i}") for i in ids]),
    email_available=st.booleans(),
    now=st.just(NOW),
    due_at=st.sampled_from([NOW, LATER]),
)


@given(inputs)
def test_every_channel_is_decided_once_and_every_delivery_is_open_ended_or_explained(given: PlanInput) -> None:
    result = plan(given)
    assert [d.channel for d in result.decisions] == list(given.channels)
    assert list(dict.fromkeys(d.channel for d in result.deliveries)) == list(given.channels)
    assert len({d.id for d in result.deliveries}) == len(result.deliveries)
    for delivery in result.deliveries:
        assert (delivery.status is S.PENDING) is (delivery.next_attempt_at is not None)
        assert (delivery.status is S.SUPPRESSED) is (delivery.reason is not None)
        assert delivery.claim is None
    in_app = of(result, C.IN_APP)
    assert (result.inbox is not None) is (bool(in_app) and in_app[0].status is not S.SUPPRESSED)


@given(inputs)
def test_the_same_values_give_the_same_plan(given: PlanInput) -> None:
    assert plan(given) == plan(given)


@pytest.mark.parametrize(
    ("preference", "reason"),
    [
        (Preference("u1", mute=True), Reason.MUTED),
        (Preference("u1", types={"*": dict.fromkeys(C, False)}), Reason.PREFERENCE_OFF),
    ],
    ids=["mute", "off"],
)
def test_a_choice_against_what_is_transactional_is_told_and_ignored(preference: Preference, reason: Reason) -> None:
    assert refused(planned(preference=preference), C.EMAIL) is reason
    given = planned(preference=preference, transactional=True)
    assert [d.status is S.SUPPRESSED for d in of(given, C.EMAIL)] == [False]
    told = [d for d in given.decisions if d.channel is C.EMAIL]
    assert [d.code for d in told] == ["preference_ignored", "planned"]
    assert told[0].text.endswith(f"It is sent all the same: {TYPE} is transactional.")


def test_what_cannot_be_sent_is_not_sent_for_being_transactional() -> None:
    given = planned(preference=Preference("u1", mute=True), transactional=True, channels=(C.EMAIL,), email=None)
    assert refused(given, C.EMAIL) is Reason.NO_ADDRESS
