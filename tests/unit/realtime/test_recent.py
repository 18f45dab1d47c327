from datetime import timedelta

import pytest
from tests.unit.builders import NOW

from notification_engine.realtime import recent as recent_module
from notification_engine.realtime.recent import Recent


def test_what_came_is_known_also_by_the_servers_own_stamp() -> None:
    recent = Recent()
    assert not recent.has("a", NOW)
    recent.add("a", NOW)
    assert recent.has("a", NOW)
    assert recent.has("a", NOW + timedelta(milliseconds=40))
    assert not recent.has("b", NOW)


def test_what_comes_back_from_a_snooze_is_new() -> None:
    recent = Recent()
    recent.add("a", NOW)
    assert not recent.has("a", NOW + timedelta(seconds=3))


def test_it_forgets_by_age_and_by_number(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(recent_module.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(recent_module, "BOUND", 3)
    recent = Recent()
    for name in "abcd":
        recent.add(name, NOW)
    assert [recent.has(name, NOW) for name in "abcd"] == [False, True, True, True]
    now[0] += recent_module.SECONDS + 1
    recent.add("e", NOW)
    assert (len(recent), recent.has("e", NOW)) == (1, True)
