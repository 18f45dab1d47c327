import pytest
from tests.unit.builders import an_endpoint

TYPE = "test_execution.completed"


@pytest.mark.parametrize(
    ("patterns", "wanted"),
    [
        (("*",), True),
        ((TYPE,), True),
        (("test_execution.*",), True),
        (("quality.*", "test_execution.*"), True),
        (("quality.*",), False),
        (("test_execution",), False),
        ((), False),
    ],
)
def test_an_endpoint_wants_what_one_of_its_patterns_matches(patterns: tuple[str, ...], wanted: bool) -> None:
    assert an_endpoint(notification_types=patterns).wants(TYPE) is wanted


def test_a_disabled_endpoint_wants_nothing() -> None:
    assert not an_endpoint(enabled=False, disabled_reason="endpoint_gone").wants(TYPE)
