"""The window against the library `limits`, whose sliding window counter it is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from limits import parse
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter

from notification_engine.domain.rate_limit import RateLimit, Window, parse_rate


@pytest.mark.parametrize("text", ["100/second", "6000/minute", "10 per 5 minutes", "1/hour", "3 / 2 days", "7 per day"])
def test_the_notation_is_that_of_the_library(text: str) -> None:
    theirs, ours = parse(text), parse_rate(text.replace(" / ", "/"))
    assert ours == RateLimit(theirs.amount, theirs.get_expiry())


@pytest.mark.parametrize("text", ["0", "", " 0 "])
def test_nought_is_no_limit(text: str) -> None:
    assert parse_rate(text) is None


@pytest.mark.parametrize(
    "text", ["many", "100", "-1/second", "0/second", "5/0 seconds", "1e3/second", "5/fortnight", "٣/day"]
)
def test_another_notation_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="100/second"):
        parse_rate(text)


@given(
    amount=st.integers(1, 20),
    seconds=st.sampled_from([1, 10, 60]),
    steps=st.lists(st.floats(0, 30, allow_nan=False), max_size=80),
)
def test_it_takes_what_the_library_takes(amount: int, seconds: int, steps: list[float]) -> None:
    now = 1_000_000_000.0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("time.time", lambda: now)
        storage = MemoryStorage()
        theirs, item = SlidingWindowCounterRateLimiter(storage), parse(f"{amount} per {seconds} seconds")
        ours = Window(RateLimit(amount, seconds))
        for step in steps:
            now += round(step, 3)
            assert ours.take(ours.turn(now)) == theirs.hit(item, "u1")
        if storage.timer:
            storage.timer.cancel()


@given(
    amount=st.integers(1, 50),
    seconds=st.sampled_from([1, 10, 60, 3600]),
    before=st.integers(0, 200),
    start=st.floats(0, 0.999),
)
def test_who_waits_as_long_as_told_is_taken(amount: int, seconds: int, before: int, start: float) -> None:
    window = Window(RateLimit(amount, seconds))
    now = 1000.0 * seconds
    window.turn(now)
    window.count = before
    now += (1 + start) * seconds
    while window.take(passed := window.turn(now)):
        assert window.remaining(passed) >= 0
    assert window.remaining(window.turn(now)) == 0
    wait = window.retry_after(window.turn(now))
    assert 1 <= wait <= 2 * seconds + 1
    assert window.take(window.turn(now + wait))


@given(amount=st.integers(1, 9), steps=st.lists(st.floats(0, 5), min_size=1, max_size=100))
def test_never_more_than_twice_the_amount_within_one_window(amount: int, steps: list[float]) -> None:
    """However the requests come; evenly coming ones get the amount."""
    window, now, taken = Window(RateLimit(amount, 10)), 1e9, []
    for step in steps:
        now += step
        if window.take(window.turn(now)):
            taken.append(now)
    assert all(sum(1 for t in taken if start <= t < start + 10) <= 2 * amount for start in taken)


def test_a_clock_that_steps_back_neither_opens_nor_breaks_anything() -> None:
    window = Window(RateLimit(2, 60))
    assert window.take(window.turn(6000.0))
    assert window.take(window.turn(5000.0))
    assert not window.take(window.turn(5000.0))
