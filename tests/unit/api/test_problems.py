import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from notification_engine.api.problems import PROBLEMS, defect, problem_of, problem_of_validation, respond
from notification_engine.domain import errors
from notification_engine.domain.errors import EngineError, InvalidRequest, RequestError, Unavailable

API = Path(__file__).parents[3] / "docs" / "api.md"


def descendants(root: type) -> Iterator[type]:
    for child in root.__subclasses__():
        yield child
        yield from descendants(child)


TREE = sorted(
    {e for e in descendants(EngineError) if e.__module__ == errors.__name__ and e is not RequestError},
    key=lambda e: e.__name__,
)


@pytest.mark.parametrize("kind", TREE, ids=lambda e: e.__name__)
def test_every_error_of_the_tree_is_a_documented_problem(kind: type[EngineError]) -> None:
    body = problem_of(kind("what is wrong"))
    assert body["type"] == f"urn:notification-engine:problem:{getattr(kind, 'kind', 'unavailable')}"
    assert body["status"] == getattr(kind, "status", 503)
    assert body["detail"] == "what is wrong"
    assert body["title"]
    assert body["status"] in PROBLEMS
    assert re.search(rf"\b{body['status']}\b", API.read_text())


def test_no_status_is_documented_that_no_error_has() -> None:
    assert set(PROBLEMS) == {problem_of(kind("x"))["status"] for kind in TREE}


def test_an_error_of_the_engine_without_a_problem_of_its_own_says_nothing() -> None:
    body = problem_of(EngineError("ada@example.org at mongo-1"))
    assert (body["status"], body["title"]) == (503, "Unavailable")
    assert "ada" not in json.dumps(body)


def test_a_field_is_named_alone_and_in_the_list() -> None:
    body = problem_of(InvalidRequest("must be a text", field="title"))
    assert body["field"] == "title"
    assert body["errors"] == [{"field": "title", "detail": "must be a text"}]
    assert "field" not in problem_of(InvalidRequest("must be a text"))


def test_a_validation_names_each_field_as_a_path_and_repeats_no_value() -> None:
    found: list[dict[str, Any]] = [
        {"loc": ("body", "recipients", 1, "email"), "msg": "Value error, must be an address", "input": "hunter2"},
        {"loc": ("body", "title"), "msg": "Field required", "input": {"password": "hunter2"}},
        {"loc": ("body",), "msg": "Value error, expires_at: must be later", "input": "hunter2"},
    ]
    body = problem_of_validation(found, ("body", "query"))
    assert body["status"] == 422
    assert body["errors"] == [
        {"field": "recipients.1.email", "detail": "must be an address"},
        {"field": "title", "detail": "Field required"},
        {"field": "expires_at", "detail": "must be later"},
    ]
    assert body["detail"] == "recipients.1.email: must be an address"
    assert "hunter2" not in json.dumps(body)


def test_a_defect_says_nothing_of_itself() -> None:
    assert defect()["status"] == 500
    assert "Error" not in defect()["detail"]


def test_an_answer_is_a_problem_document_of_its_own_status() -> None:
    answer = respond(problem_of(Unavailable("the store is away")), **{"Retry-After": "2"})
    assert (answer.status_code, answer.media_type) == (503, "application/problem+json")
    assert answer.headers["retry-after"] == "2"
    assert json.loads(bytes(answer.body))["status"] == 503
