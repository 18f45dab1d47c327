import pytest
from hypothesis import given
from hypothesis import strategies as st

from notification_engine.domain.delivery import Channel
from notification_engine.domain.preference import Preference, matches

EMAIL, IN_APP = Channel.EMAIL, Channel.IN_APP
words = st.from_regex(r"[a-z][a-z0-9_-]{0,8}", fullmatch=True)
types = st.lists(words, min_size=2, max_size=4).map(".".join)


@pytest.mark.parametrize(
    ("pattern", "notification_type"),
    [
        ("*", "test_execution.completed"),
        ("test_execution.completed", "test_execution.completed"),
        ("test_execution.*", "test_execution.completed"),
        ("test_execution.*", "test_execution.suite.completed"),
        ("test_execution.suite.*", "test_execution.suite.completed"),
    ],
)
def test_a_pattern_that_matches(pattern: str, notification_type: str) -> None:
    assert matches(pattern, notification_type)


@pytest.mark.parametrize(
    ("pattern", "notification_type"),
    [
        ("", "test_execution.completed"),
        ("test_execution", "test_execution.completed"),
        ("test_execution.completed", "test_execution.completed.late"),
        ("test_execution.*", "test_execution"),
        ("test_execution.*", "test_executions.completed"),
        ("test_execution.*", "quality.test_execution.completed"),
        ("test_exec*", "test_execution.completed"),
        ("*.completed", "test_execution.completed"),
        ("test_execution.c*", "test_execution.completed"),
        ("Test_execution.*", "test_execution.completed"),
        ("test_execution?completed", "test_execution.completed"),
    ],
)
def test_a_pattern_that_does_not_match(pattern: str, notification_type: str) -> None:
    assert not matches(pattern, notification_type)


@given(types)
def test_a_type_is_matched_by_itself_by_all_and_by_each_of_its_stems(notification_type: str) -> None:
    parts = notification_type.split(".")
    stems = [".".join(parts[:n]) + ".*" for n in range(1, len(parts))]
    assert all(matches(p, notification_type) for p in (notification_type, "*", *stems))


@given(types, types)
def test_an_exact_pattern_matches_nothing_else(pattern: str, notification_type: str) -> None:
    assert matches(pattern, notification_type) is (pattern == notification_type)


def allows(types: dict[str, dict[Channel, bool]], channel: Channel = EMAIL) -> tuple[bool, str | None]:
    return Preference("u1", types=types).allows("test_execution.completed", channel)


def test_a_channel_is_on_when_nothing_was_said() -> None:
    assert allows({}) == (True, None)
    assert allows({"quality.*": {EMAIL: False}}) == (True, None)
    assert allows({"*": {EMAIL: False}}, IN_APP) == (True, None)


@pytest.mark.parametrize("pattern", ["*", "test_execution.*", "test_execution.completed"])
def test_a_channel_is_switched_off_by_all_by_a_pattern_and_by_the_type(pattern: str) -> None:
    assert allows({pattern: {EMAIL: False}}) == (False, pattern)


@pytest.mark.parametrize("on", [True, False])
@pytest.mark.parametrize(
    ("wide", "narrow"),
    [
        ("*", "test_execution.*"),
        ("*", "test_execution.completed"),
        ("test_execution.*", "test_execution.completed"),
    ],
)
@pytest.mark.parametrize("turned", [True, False])
def test_the_most_specific_rule_wins_in_any_order(wide: str, narrow: str, on: bool, turned: bool) -> None:
    rules = [(wide, {EMAIL: not on}), (narrow, {EMAIL: on})]
    assert allows(dict(reversed(rules) if turned else rules)) == (on, narrow)


def test_a_longer_stem_is_more_specific() -> None:
    preference = Preference("u1", types={"a.*": {EMAIL: False}, "a.b.*": {EMAIL: True}})
    assert preference.allows("a.b.c", EMAIL) == (True, "a.b.*")
    assert preference.allows("a.c.c", EMAIL) == (False, "a.*")


def test_a_rule_that_is_silent_on_a_channel_leaves_it_to_the_wider_one() -> None:
    rules = {"*": {EMAIL: False}, "test_execution.completed": {IN_APP: False}}
    assert allows(rules, EMAIL) == (False, "*")
    assert allows(rules, IN_APP) == (False, "test_execution.completed")
