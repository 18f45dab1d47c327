"""No exception over a caller's input repeats that input: its text may reach a log or an answer."""

import traceback
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError
from tests.canaries import canary, found_in

from notification_engine.api.models.send import SendIn
from notification_engine.api.models.suppressions import SuppressionIn, parse_csv
from notification_engine.api.models.template import DraftIn, PreviewIn, TypeIn
from notification_engine.api.preferences import PreferencesIn
from notification_engine.api.problems import problem_of, problem_of_validation
from notification_engine.api.webhooks import WebhookIn
from notification_engine.domain import errors
from notification_engine.domain.cursor import decode_cursor, decode_place
from notification_engine.domain.errors import EngineError
from notification_engine.net.guard import Guard
from notification_engine.realtime.redis_address import parse_redis_url
from notification_engine.security.field_encryption import FieldCipher
from notification_engine.security.sendgrid import SendGridSignature
from notification_engine.security.tokens import Tokens

MARK = canary("input")
MODELS: list[type[BaseModel]] = [SendIn, SuppressionIn, DraftIn, PreviewIn, TypeIn, PreferencesIn, WebhookIn]
TOKENS = Tokens("0123456789abcdefghijklmnopqrstuvwxyz", "HS256")
CALLS: dict[str, Callable[[], Any]] = {
    "a cursor": lambda: decode_cursor(MARK),
    "a place": lambda: decode_place(MARK),
    "a token": lambda: TOKENS.verify(MARK),
    "a token of three parts": lambda: TOKENS.verify(f"{MARK}.{MARK}.{MARK}"),
    "an address that is no URL": lambda: Guard().check_url(MARK),
    "an address with a password": lambda: Guard().check_url(f"https://{MARK}:{MARK}@example.invalid/"),
    "an address of another scheme": lambda: Guard().check_url(f"ftp://{MARK}/"),
    "an address of a closed network": lambda: Guard().check_url(f"https://127.0.0.1/{MARK}"),
    "a sealed field": lambda: FieldCipher.from_secret("x" * 32).decrypt(MARK.encode()),
    "a public key": lambda: SendGridSignature(MARK),
    "a Redis address": lambda: parse_redis_url(f"redis://:{MARK}@[/0"),
    "a Redis address of another scheme": lambda: parse_redis_url(f"http://:{MARK}@host/0"),
}


def everything(error: BaseException | None) -> str:
    """Every text of a logged traceback but the lines of source: of the error, and of what it was raised from."""
    told = ""
    while error is not None:
        told += "".join(traceback.format_exception_only(error)) + repr(error)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return told


@pytest.mark.parametrize("name", CALLS)
def test_an_exception_over_bad_input_does_not_repeat_it(name: str) -> None:
    with pytest.raises(Exception) as raised:  # noqa: PT011 - whatever it is: it is looked at
        CALLS[name]()
    assert found_in(everything(raised.value)) == set()


@pytest.mark.parametrize("model", MODELS, ids=lambda m: m.__name__)
@pytest.mark.parametrize("value", [MARK, [MARK], {"x": MARK}, f"{MARK}\x00"], ids=["text", "list", "object", "NUL"])
def test_a_validation_repeats_no_value_that_it_refuses(model: type[BaseModel], value: object) -> None:
    """Each field in turn; neither the exception nor the problem that is made of it may hold the value."""
    told = [refusal(model, field, value) for field in model.model_fields]
    assert any(told)
    assert found_in("\n".join(told)) == set()


def refusal(model: type[BaseModel], field: str, value: object) -> str:
    try:
        model.model_validate({field: value})
    except ValidationError as error:
        return str(error) + repr(problem_of_validation(error.errors(), ()))
    return ""


def test_a_bad_line_of_a_file_is_told_by_its_number() -> None:
    parsed = parse_csv(f"address\n{MARK}\n".encode())
    assert parsed.errors
    assert found_in(repr(parsed.errors)) == set()


def tree(root: type) -> list[type]:
    return [kind for child in root.__subclasses__() for kind in (child, *tree(child))]


@pytest.mark.parametrize("kind", [k for k in tree(EngineError) if k.__module__ == errors.__name__])
def test_an_error_of_the_tree_tells_only_what_it_was_given(kind: type[EngineError]) -> None:
    """What it was raised from, or while what was handled, is not in its problem."""
    error = kind("what is wrong")
    error.__cause__ = ValueError(MARK)
    assert found_in(repr(problem_of(error)) + str(error)) == set()


def test_an_error_that_the_tree_does_not_know_tells_nothing() -> None:
    class Foreign(EngineError):
        pass

    assert found_in(repr(problem_of(Foreign(MARK)))) == set()
