import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.builders import a_notification

from notification_engine.domain.delivery import Channel
from notification_engine.domain.notification import (
    MAX_DELIVERIES,
    RANK,
    Priority,
    base_id,
    delivery_id,
    document_id_of_delivery,
    sibling_id,
)
from notification_engine.domain.outcome import Attempt
from notification_engine.kit.ids import new_id

indexes = st.integers(0, 99 * MAX_DELIVERIES)


def test_ranks_rise_with_the_priorities() -> None:
    by_rank = sorted(Priority, key=lambda p: RANK[p])
    assert by_rank == [Priority.LOW, Priority.MEDIUM, Priority.HIGH, Priority.URGENT, Priority.CRITICAL]
    assert a_notification(priority=Priority.URGENT).rank == RANK[Priority.URGENT]


@given(indexes)
def test_a_delivery_leads_back_to_the_document_that_holds_it(index: int) -> None:
    notification_id = new_id("ntfy")
    document_id = document_id_of_delivery(delivery_id(notification_id, index))
    assert document_id == sibling_id(notification_id, index // MAX_DELIVERIES)
    assert base_id(document_id) == notification_id


def test_the_first_document_is_the_notification_itself() -> None:
    assert sibling_id("ntfy_1", 0) == "ntfy_1"
    assert document_id_of_delivery("dlv_1_31") == "ntfy_1"
    assert document_id_of_delivery("dlv_1_32") == "ntfy_1~01"


def test_siblings_sort_behind_their_notification_and_before_the_next() -> None:
    first, second = new_id("ntfy", 1), new_id("ntfy", 2)
    ids = [sibling_id(first, part) for part in range(40)] + [second]
    assert ids == sorted(ids)


@pytest.mark.parametrize("junk", ["", "dlv", "dlv_1", "ntfy_1", "ntfy_1_0", "dlv_1_x", "dlv_1_2_3", "dlv__"])
def test_what_is_no_delivery_id_is_refused(junk: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        document_id_of_delivery(junk)


def test_notifications_do_not_share_what_can_change() -> None:
    first, second = a_notification(), a_notification()
    first.lease.fence = 7
    first.data["run"] = 7
    assert (second.lease.fence, second.data) == (0, {})


def attempt(fence: int, number: int, suffix: str = "") -> Attempt:
    when = a_notification().created_at
    return Attempt("ntfy_1", "dlv_1_0", "u1", Channel.EMAIL, fence, number, "pending", when, suffix=suffix)


def test_history_rows_differ_by_fence_attempt_and_suffix() -> None:
    rows = [attempt(1, 1), attempt(1, 2), attempt(2, 1), attempt(1, 1, ":stale")]
    assert len({row.id for row in rows}) == len(rows)
    assert rows[0].id == "dlv_1_0:1:1"
