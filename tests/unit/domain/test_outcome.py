from typing import get_args

import pytest

from notification_engine.domain.delivery import Reason
from notification_engine.domain.outcome import Accepted, Delivered, Outcome, Postponed, Rejected, Retry, Unknown


def test_the_outcomes_are_closed() -> None:
    """`settle` has a case for each; a new one needs its row there."""
    assert set(get_args(Outcome)) == {Accepted, Delivered, Retry, Rejected, Unknown, Postponed}


@pytest.mark.parametrize("reason", Reason)
def test_a_reason_can_label_a_metric(reason: Reason) -> None:
    assert reason.value == reason.name.lower()
    assert reason.value.replace("_", "").isalpha()


def test_only_a_refusal_can_disable_an_endpoint_and_says_so() -> None:
    assert not Rejected(Reason.REFUSED, "webhook").disable_endpoint
    assert [k for k in get_args(Outcome) if hasattr(k, "disable_endpoint")] == [Rejected]
