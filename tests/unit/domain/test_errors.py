import re
from collections.abc import Iterator

import pytest

from notification_engine.domain import errors
from notification_engine.domain.errors import ConfigurationError, EngineError, RequestError, Unavailable


def descendants(root: type) -> Iterator[type]:
    for child in root.__subclasses__():
        yield child
        yield from descendants(child)


# What a module keeps for itself looks like its parent to a caller.
PUBLIC = {e for e in descendants(RequestError) if e.__module__ == errors.__name__}
REQUEST_ERRORS = sorted({RequestError, *PUBLIC}, key=lambda e: e.__name__)


@pytest.mark.parametrize("error", REQUEST_ERRORS, ids=lambda e: e.__name__)
def test_a_request_error_knows_its_problem(error: type[RequestError]) -> None:
    assert 400 <= error.status < 500
    assert error.title.strip()
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", error.kind)


@pytest.mark.parametrize("attribute", ["kind", "title", "status"])
def test_no_two_request_errors_look_alike(attribute: str) -> None:
    values = [getattr(error, attribute) for error in REQUEST_ERRORS]
    assert len(set(values)) == len(values)


@pytest.mark.parametrize("error", REQUEST_ERRORS, ids=lambda e: e.__name__)
def test_a_request_error_carries_its_detail_and_field(error: type[RequestError]) -> None:
    raised = error("what is wrong", field="title")
    assert (str(raised), raised.detail, raised.field) == ("what is wrong", "what is wrong", "title")
    assert error("what is wrong").field is None


def test_unavailable_says_when_to_come_back() -> None:
    assert Unavailable("the store is away").retry_after == 1
    assert Unavailable("the store is away", retry_after=7).retry_after == 7


def test_a_wrong_setting_passes_through_what_catches_engine_errors() -> None:
    assert not issubclass(ConfigurationError, EngineError)
    assert not issubclass(ConfigurationError, (OSError, ValueError))


def test_the_tree_drawn_at_the_top_is_the_tree() -> None:
    drawn = dict(re.findall(r"[├└]── ([A-Z]\w+)\s+(\d{3})?", errors.__doc__ or ""))
    own = {e for e in descendants(EngineError) if e.__module__ == errors.__name__}
    assert set(drawn) == {e.__name__ for e in own}
    assert {name: int(status) for name, status in drawn.items() if status} == {
        e.__name__: getattr(e, "status", 503) for e in own if e is not RequestError
    }
