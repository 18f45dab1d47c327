import pytest

from notification_engine.domain.breaker import BreakerPolicy

POLICY = BreakerPolicy(minimum=10, failure_percent=50)


@pytest.mark.parametrize(
    ("ok", "failed", "trips"),
    [(0, 9, False), (0, 10, True), (5, 5, True), (6, 5, False), (100, 99, False), (100, 100, True), (10, 0, False)],
)
def test_it_trips_at_its_share_and_not_before_its_minimum(ok: int, failed: int, trips: bool) -> None:
    assert POLICY.trips(ok, failed) is trips
