import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.builders import a_delivery

from notification_engine.domain.delivery import (
    ALLOWED_FROM,
    OPEN,
    STATUS_RULES,
    Delivery,
    DeliveryStatus,
    NotificationStatus,
    derive_status,
)

S = DeliveryStatus
N = NotificationStatus
ENDED = [s for s in S if s not in OPEN]
delivery_lists = st.lists(
    st.builds(a_delivery, status=st.sampled_from(list(S)), attempts=st.integers(0, 3)), min_size=1, max_size=32
)


def of(*statuses: DeliveryStatus, attempts: int = 0) -> list[Delivery]:
    return [a_delivery(i, status=s, attempts=attempts) for i, s in enumerate(statuses)]


def worst_of(present: set[DeliveryStatus]) -> NotificationStatus:
    """The published table in other words: success beside failure is partial, else the worst news wins."""
    if S.FAILED in present and present & {S.ACCEPTED, S.DELIVERED}:
        return N.PARTIALLY_DELIVERED
    order = (S.UNKNOWN, S.FAILED, S.ACCEPTED, S.DELIVERED, S.CANCELLED, S.EXPIRED, S.SUPPRESSED)
    return N(next(s for s in order if s in present))


@pytest.mark.parametrize("size", [1, 2, 3])
def test_ended_deliveries_give_the_published_status(size: int) -> None:
    wrong = {
        statuses: derived
        for statuses in itertools.product(ENDED, repeat=size)
        if (derived := derive_status(of(*statuses))) is not worst_of(set(statuses))
    }
    assert not wrong


def test_every_set_of_ended_states_gives_the_published_status() -> None:
    sets = [c for size in range(1, len(ENDED) + 1) for c in itertools.combinations(ENDED, size)]
    assert len(sets) == 2 ** len(ENDED) - 1
    assert all(derive_status(of(*states)) is worst_of(set(states)) for states in sets)


@pytest.mark.parametrize("ended", [(), *((s,) for s in ENDED)])
@pytest.mark.parametrize(
    ("state", "attempts", "ahead", "expected"),
    [
        (S.PENDING, 0, False, N.PENDING),
        (S.PENDING, 0, True, N.SCHEDULED),
        (S.PENDING, 1, False, N.PROCESSING),
        (S.PENDING, 1, True, N.PROCESSING),
        (S.SENDING, 0, False, N.PROCESSING),
        (S.SENDING, 0, True, N.PROCESSING),
        (S.SENDING, 2, False, N.PROCESSING),
    ],
)
def test_an_open_delivery_decides(
    ended: tuple[DeliveryStatus, ...],
    state: DeliveryStatus,
    attempts: int,
    ahead: bool,
    expected: NotificationStatus,
) -> None:
    deliveries = [a_delivery(0, status=state, attempts=attempts), *of(*ended)]
    if ended and expected is N.SCHEDULED:
        expected = N.PENDING  # not all are open
    assert derive_status(deliveries, scheduled_ahead=ahead) is expected


def test_attempts_of_ended_deliveries_do_not_make_an_untried_one_processing() -> None:
    assert derive_status([a_delivery(0), a_delivery(1, status=S.DELIVERED, attempts=1)]) is N.PENDING


@given(delivery_lists, st.booleans())
def test_the_status_is_open_exactly_while_a_delivery_is(deliveries: list[Delivery], ahead: bool) -> None:
    status = derive_status(deliveries, scheduled_ahead=ahead)
    still_open = any(d.status in OPEN for d in deliveries)
    assert (status in {N.SCHEDULED, N.PENDING, N.PROCESSING}) is still_open


@given(delivery_lists, st.booleans(), st.randoms())
def test_the_order_of_deliveries_changes_nothing(deliveries: list[Delivery], ahead: bool, random: object) -> None:
    shuffled = list(deliveries)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert derive_status(shuffled, scheduled_ahead=ahead) is derive_status(deliveries, scheduled_ahead=ahead)


@given(delivery_lists)
def test_a_delivery_twice_is_a_delivery_once(deliveries: list[Delivery]) -> None:
    assert derive_status(deliveries * 2) is derive_status(deliveries)


def test_no_delivery_at_all_is_suppressed() -> None:
    assert derive_status([]) is N.SUPPRESSED


def test_every_ended_state_is_named_by_a_rule() -> None:
    named = {state for _, groups in STATUS_RULES for group in groups for state in group}
    assert named == set(ENDED)


def test_every_state_has_a_row_in_the_transition_table() -> None:
    assert set(ALLOWED_FROM) == set(S)


@pytest.mark.parametrize("final", [S.DELIVERED, S.SUPPRESSED, S.EXPIRED, S.CANCELLED])
def test_nothing_leads_out_of_a_final_state(final: DeliveryStatus) -> None:
    assert [to for to, sources in ALLOWED_FROM.items() if final in sources] == []


@pytest.mark.parametrize("to", [S.SUPPRESSED, S.EXPIRED, S.CANCELLED])
def test_what_has_begun_cannot_be_taken_back(to: DeliveryStatus) -> None:
    assert ALLOWED_FROM[to] == (S.PENDING,)


@pytest.mark.parametrize("late", [S.ACCEPTED, S.UNKNOWN, S.FAILED])
def test_a_provider_may_still_report_delivery(late: DeliveryStatus) -> None:
    assert late in ALLOWED_FROM[S.DELIVERED]


def test_a_provider_that_took_it_is_never_asked_again() -> None:
    assert S.ACCEPTED not in ALLOWED_FROM[S.PENDING] + ALLOWED_FROM[S.SENDING]


def test_the_ends_of_an_attempt_are_reached_from_pending_and_from_sending() -> None:
    ends = [S.ACCEPTED, S.DELIVERED, S.UNKNOWN, S.FAILED]
    assert all({S.PENDING, S.SENDING} <= set(ALLOWED_FROM[end]) for end in ends)
