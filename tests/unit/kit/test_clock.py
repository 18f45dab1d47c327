import time
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notification_engine.kit import clock as clock_module
from notification_engine.kit.clock import Clock

SERVER = datetime(2026, 3, 1, 12, 0, 0, 250_000, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)


def test_the_clock_begins_with_this_machines_time() -> None:
    before = time.time()
    now = Clock().now().timestamp()
    assert before - 0.002 <= now <= time.time()


def test_the_servers_time_counts_from_the_middle_of_the_question() -> None:
    clock = Clock()
    clock.synchronise(SERVER, asked=1000.0, answered=1000.5)
    assert abs(clock.at(1000.25) - SERVER) <= MILLISECOND
    assert abs(clock.at(1060.25) - SERVER - timedelta(minutes=1)) <= MILLISECOND


def test_a_jump_of_this_machines_time_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    clock.synchronise(SERVER, 1000.0, 1000.0)
    monkeypatch.setattr(clock_module, "time", SimpleNamespace(time=lambda: 0.0, monotonic=lambda: 1007.0))
    assert abs(clock.now() - SERVER - timedelta(seconds=7)) <= MILLISECOND
    assert abs(clock.after(2.5) - SERVER - timedelta(seconds=9.5)) <= MILLISECOND


@pytest.mark.parametrize("ahead", [-5.0, 0.0, 5.0])
def test_the_skew_says_how_far_this_machine_is_ahead_of_the_server(
    monkeypatch: pytest.MonkeyPatch, ahead: float
) -> None:
    clock = Clock()
    machine = SimpleNamespace(time=lambda: SERVER.timestamp() + ahead, monotonic=lambda: 1000.0)
    monkeypatch.setattr(clock_module, "time", machine)
    clock.synchronise(SERVER, 1000.0, 1000.0)
    assert clock.skew_seconds == pytest.approx(ahead, abs=1e-6)


@given(st.floats(0, 4e9))
def test_times_are_whole_milliseconds_of_utc(monotonic: float) -> None:
    clock = Clock()
    clock.synchronise(SERVER, 0.0, 0.0)
    at = clock.at(monotonic)
    assert at.tzinfo is UTC
    assert at.microsecond % 1000 == 0
    assert -MILLISECOND <= SERVER + timedelta(seconds=monotonic) - at <= MILLISECOND


@given(st.lists(st.floats(0, 1e6), min_size=2))
def test_time_does_not_run_backwards(moments: list[float]) -> None:
    clock = Clock()
    times = [clock.at(m) for m in sorted(moments)]
    assert times == sorted(times)
