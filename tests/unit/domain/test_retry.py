import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from notification_engine.domain.notification import OnUnknown, Priority
from notification_engine.domain.retry import MAX_DELAY_SECONDS, RetryPolicy, clamp_retry_after, resends_unknown

bases = st.floats(0.01, 86_400)
rounds = st.integers(1, 10_000)
draws = st.floats(0, 1, exclude_max=True)
wishes = st.none() | st.floats()


@given(bases, rounds, rounds, draws)
def test_full_jitter_stays_within_the_doubled_base_and_an_hour(
    base: float, max_rounds: int, attempts: int, draw: float
) -> None:
    assume(attempts < max_rounds)
    delay = RetryPolicy(max_rounds, base).delay(attempts, None, draw)
    assert delay is not None
    bound = MAX_DELAY_SECONDS if attempts > 40 else min(base * 2 ** (attempts - 1), MAX_DELAY_SECONDS)
    assert 0 <= delay <= bound


@given(bases, rounds, wishes, draws, st.integers(0, 10))
def test_the_last_round_is_never_followed_by_another(
    base: float, max_rounds: int, wish: float | None, draw: float, more: int
) -> None:
    assert RetryPolicy(max_rounds, base).delay(max_rounds + more, wish, draw) is None


@given(bases, rounds, wishes, draws)
def test_a_delay_honours_the_wish_and_ends_at_an_hour(
    base: float, attempts: int, wish: float | None, draw: float
) -> None:
    delay = RetryPolicy(attempts + 1, base).delay(attempts, wish, draw)
    assert delay is not None
    assert clamp_retry_after(wish) <= delay <= MAX_DELAY_SECONDS


@given(bases, st.integers(1, 40), draws)
def test_the_span_never_shrinks_from_round_to_round(base: float, attempts: int, draw: float) -> None:
    policy = RetryPolicy(100, base)
    earlier, later = policy.delay(attempts, None, draw), policy.delay(attempts + 1, None, draw)
    assert earlier is not None
    assert later is not None
    assert earlier <= later


@pytest.mark.parametrize(
    ("attempts", "span"), [(1, 5), (2, 10), (3, 20), (10, 2560), (11, 3600), (12, 3600), (9_998, 3600)]
)
def test_the_draw_spreads_over_the_whole_span(attempts: int, span: float) -> None:
    policy = RetryPolicy(10_000, 5)
    assert [policy.delay(attempts, None, draw) for draw in (0.0, 0.5, 0.999)] == pytest.approx(
        [0.0, span * 0.5, span * 0.999]
    )


def test_one_round_means_no_retry() -> None:
    assert RetryPolicy(1, 5).delay(1, None, 0.5) is None
    assert RetryPolicy(1, 5).delay(1, 30.0, 0.5) is None


def test_the_longer_of_wish_and_backoff_counts() -> None:
    policy = RetryPolicy(5, 60)
    assert policy.delay(1, 10.0, 0.5) == 30.0
    assert policy.delay(1, 50.0, 0.5) == 50.0


@pytest.mark.parametrize(
    ("wish", "clamped"),
    [
        (None, 0.0),
        (0.0, 0.0),
        (-1.0, 0.0),
        (-math.inf, 0.0),
        (math.nan, 0.0),
        (12.5, 12.5),
        (3600.0, 3600.0),
        (3601.0, 3600.0),
        (1e300, 3600.0),
        (math.inf, 3600.0),
    ],
)
def test_a_wish_is_clamped_to_an_hour(wish: float | None, clamped: float) -> None:
    assert clamp_retry_after(wish) == clamped


@pytest.mark.parametrize("priority", Priority)
def test_an_unknown_outcome_is_resent_once_for_high_and_above(priority: Priority) -> None:
    high = priority in {Priority.HIGH, Priority.URGENT, Priority.CRITICAL}
    assert resends_unknown(priority, resent=False) is high
    assert not resends_unknown(priority, resent=True)


@pytest.mark.parametrize("priority", Priority)
def test_the_types_word_wins_over_the_priority(priority: Priority) -> None:
    assert resends_unknown(priority, resent=False, on_unknown=OnUnknown.RESEND)
    assert not resends_unknown(priority, resent=True, on_unknown=OnUnknown.RESEND)
    assert not resends_unknown(priority, resent=False, on_unknown=OnUnknown.HOLD)
