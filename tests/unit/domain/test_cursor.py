import base64
import re
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notification_engine.domain.cursor import decode_cursor, encode_cursor
from notification_engine.domain.errors import InvalidRequest

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Whole milliseconds, as the store keeps them, from the epoch to the end of the century.
moments = st.integers(0, 4_102_444_800_000).map(lambda ms: EPOCH + timedelta(milliseconds=ms))
ids = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60)


def opaque(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


@given(moments, ids)
def test_what_is_encoded_comes_back(at: datetime, document_id: str) -> None:
    assert decode_cursor(encode_cursor(at, document_id)) == (at, document_id)


@given(moments, ids)
def test_a_cursor_stands_in_a_query_string_as_it_is(at: datetime, document_id: str) -> None:
    assert re.fullmatch(r"[A-Za-z0-9_-]+", encode_cursor(at, document_id))


def test_every_millisecond_of_a_second_comes_back() -> None:
    begin = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
    moments = [begin + timedelta(milliseconds=ms) for ms in range(1000)]
    assert [decode_cursor(encode_cursor(at, "ntfy_1"))[0] for at in moments] == moments


def test_another_zone_is_the_same_cursor() -> None:
    at = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
    assert encode_cursor(at.astimezone(), "ntfy_1") == encode_cursor(at, "ntfy_1")


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "x",
        "abc",
        "not a cursor",
        "\ud800",
        "café",
        opaque(".ntfy_1"),
        opaque("soon.ntfy_1"),
        opaque("nan.ntfy_1"),
        opaque(f"{10**18}.ntfy_1"),
        opaque(f"{10**400}.ntfy_1"),
        base64.urlsafe_b64encode(b"\xff\xfe\xfd").decode(),
    ],
)
def test_junk_is_refused_by_the_name_of_its_field(cursor: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        decode_cursor(cursor)
    assert refused.value.field == "cursor"


def test_the_cursor_of_an_empty_inbox_has_no_id() -> None:
    assert decode_cursor(encode_cursor(EPOCH, "")) == (EPOCH, "")


def decoded(cursor: str) -> tuple[datetime, str] | InvalidRequest:
    try:
        return decode_cursor(cursor)
    except InvalidRequest as refused:
        return refused


@given(st.text(max_size=80))
def test_any_text_decodes_or_is_refused(cursor: str) -> None:
    result = decoded(cursor)
    named = result.field == "cursor" if isinstance(result, InvalidRequest) else result[0].tzinfo is UTC
    assert named


@given(moments, ids, st.data())
def test_a_cut_cursor_never_comes_back_whole(at: datetime, document_id: str, data: st.DataObject) -> None:
    whole = encode_cursor(at, document_id)
    cut = whole[: data.draw(st.integers(0, len(whole) - 1))]
    assert decoded(cut) != (at, document_id)
