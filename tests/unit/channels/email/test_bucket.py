import time

import pytest

from notification_engine.channels.email.bucket import TokenBucket


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The monotonic clock; the test moves it."""
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_a_burst_passes_and_then_the_rate_holds(clock: list[float]) -> None:
    bucket = TokenBucket(10, burst=5)
    assert [bucket.take(60) for _ in range(5)] == [0.0] * 5
    assert [round(bucket.take(60), 3) for _ in range(3)] == [0.1, 0.2, 0.3]


@pytest.mark.parametrize("per_second", [1, 14, 1000])
def test_over_a_while_no_more_than_the_rate_passes(clock: list[float], per_second: float) -> None:
    bucket = TokenBucket(per_second)
    passed = 0
    for _ in range(1000):
        clock[0] += 0.01
        while bucket.take(0) == 0:
            passed += 1
    assert passed <= per_second * 10 + per_second + 1
    assert passed >= per_second * 10


def test_who_is_not_patient_takes_no_token(clock: list[float]) -> None:
    bucket = TokenBucket(1, burst=1)
    assert bucket.take(0) == 0
    assert [bucket.take(0.5) for _ in range(3)] == [1.0] * 3
    clock[0] += 1
    assert bucket.take(0) == 0


def test_a_rest_that_was_asked_for_is_kept_by_everybody(clock: list[float]) -> None:
    bucket = TokenBucket(0)
    assert bucket.take(0) == 0
    bucket.rest(30)
    bucket.rest(5)
    assert bucket.take(0) == 30
    clock[0] += 30
    assert bucket.take(0) == 0
