"""Bodies that would be read in two ways, or cost more than they should."""

import json
from typing import Any

import pytest
from fastapi import APIRouter, FastAPI
from hypothesis import given
from hypothesis import strategies as st

from notification_engine.api.strict_json import parse, strictly

REFUSED = {
    "a key twice": '{"a":1,"a":2}',
    "a key twice, once escaped": '{"a":1,"\\u0061":2}',
    "a key twice, deep down": '[{"x":[{"role":"user","b":0,"role":"admin"}]}]',
    "the empty key twice": '{"":1,"":2}',
    "NaN": '{"a":NaN}',
    "Infinity": "[Infinity]",
    "minus Infinity": "[-Infinity]",
    "a number past every double": "[1e999]",
    "a lone leading surrogate": '{"a":"\\ud800"}',
    "a lone trailing surrogate": '{"a":"\\udc00x"}',
    "surrogates the wrong way round": '"\\udc00\\ud800"',
    "a lone surrogate in a key": '{"\\udfff":1}',
    "arrays too deep": "[" * 10_000 + "]" * 10_000,
    "objects too deep": '{"a":' * 10_000 + "1" + "}" * 10_000,
    "arrays that never end": "[" * 1_000_000,
    "objects that never end": '{"a":' * 200_000,
    "more values than anybody needs": "[" + "0," * 200_001 + "0]",
    "the same key for ever": "{" + '"a":0,' * 200_001 + '"a":0}',
    "one level too many": "[" * 1025 + "]" * 1025,
    "a comment": '{"a":1/*b*/}',
    "a comma at the end": '{"a":1,}',
    "single quotes": "{'a':1}",
    "a control character in a text": '{"a":"\n"}',
    "a leading nought": '{"a":01}',
    "two documents": "{}{}",
    "nothing": "",
    "a byte order mark": "\ufeff{}",
}


@pytest.mark.parametrize("text", REFUSED.values(), ids=REFUSED)
def test_a_body_that_is_not_plain_json_is_refused(text: str) -> None:
    with pytest.raises(json.JSONDecodeError) as refused:
        parse(text.encode())
    assert "role" not in refused.value.msg


@pytest.mark.parametrize("body", [b'{"a":"\xff"}', b'"\xed\xa0\x80"', b"\xc0\x80", '{"a":1}'.encode("utf-16")])
def test_a_body_that_is_not_utf_8_is_refused(body: bytes) -> None:
    with pytest.raises(json.JSONDecodeError):
        parse(body)


def test_whole_numbers_stay_whole() -> None:
    """So that a field can say that it is too large, and none is stored as another number."""
    assert parse(b"[12345678901234567890123]") == [12345678901234567890123]


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)


@given(VALUES)
def test_plain_json_is_read_as_it_was_meant(value: object) -> None:
    assert parse(json.dumps(value, ensure_ascii=False).encode()) == value
    assert parse(json.dumps(value)) == value


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    try:
        parse(body)
    except json.JSONDecodeError:
        return
    json.loads(body)


@pytest.mark.parametrize(("body", "status"), [(b'{"a": 1}', 200), (b'{"a": 1, "a": 2}', 422), (b"[" * 5000, 422)])
async def test_a_route_of_any_router_reads_strictly_once_it_is_included(body: bytes, status: int) -> None:
    router = APIRouter()

    @router.post("/x")
    async def x(given: dict[str, int]) -> dict[str, int]:
        return given

    app = FastAPI()
    app.include_router(strictly(router), prefix="/p")
    assert await posted(app, "/p/x", body) == status


async def posted(app: FastAPI, path: str, body: bytes) -> int:
    """The status."""
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": path, "raw_path": path.encode(), "root_path": ""}
    headers = [(b"content-type", b"application/json")]
    await app(scope | {"query_string": b"", "headers": headers}, receive, send)
    return int(sent[0]["status"])
