import itertools

import pytest

from notification_engine.domain.delivery import ALLOWED_FROM, DeliveryStatus, Reason
from notification_engine.domain.feedback import STATE_AFTER, WEIGHT, EventKind, weaker_reasons

S = DeliveryStatus
State = tuple[DeliveryStatus, Reason | None]


def after(state: State, kind: EventKind) -> State:
    """What the table makes of a stored state, in other words than the pipeline's."""
    status, reason = STATE_AFTER[kind]
    if state[0] in ALLOWED_FROM[status]:
        return status, reason
    return (status, reason) if state[0] is status and state[1] in weaker_reasons(reason) else state


@pytest.mark.parametrize("begun", [S.PENDING, S.SENDING, S.ACCEPTED, S.UNKNOWN], ids=str)
def test_every_order_of_every_set_of_kinds_has_one_end(begun: DeliveryStatus) -> None:
    for size in range(1, len(STATE_AFTER) + 1):
        for kinds in itertools.combinations(STATE_AFTER, size):
            ends = set()
            for order in itertools.permutations(kinds):
                state: State = (begun, None)
                for kind in order:
                    state = after(state, kind)
                ends.add(state)
            furthest = STATE_AFTER[max(kinds, key=lambda kind: WEIGHT[kind])]
            assert ends == {furthest}, kinds


def test_a_repeated_event_changes_nothing() -> None:
    for kind in STATE_AFTER:
        once = after((S.ACCEPTED, None), kind)
        assert after(once, kind) == once


def test_reasons_take_the_place_of_weaker_ones_only() -> None:
    assert weaker_reasons(Reason.BOUNCED) == (Reason.DROPPED, Reason.SOFT_BOUNCED)
    assert weaker_reasons(Reason.DROPPED) == weaker_reasons(None) == weaker_reasons(Reason.TIMEOUT) == ()
