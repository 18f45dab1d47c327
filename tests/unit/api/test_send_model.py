from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from notification_engine.api.models.send import BatchItemIn, SendIn
from notification_engine.domain.delivery import Channel
from notification_engine.domain.notification import MAX_DATA_BYTES, MAX_DATA_DEPTH, Action, Priority
from notification_engine.storage.codec import encode

PLAIN: dict[str, Any] = {
    "notification_type": "test_execution.completed",
    "recipients": [{"user_id": "u1"}],
    "title": "Run 7 has ended",
    "body": "",
}


def sent(**fields: Any) -> SendIn:
    """As it comes over the wire."""
    return SendIn.model_validate_json(orjson.dumps(PLAIN | fields))


def fault(**fields: Any) -> str:
    """The path of the field that the answer's text names: that of the first fault."""
    with pytest.raises(ValidationError) as refused:
        SendIn.model_validate(PLAIN | fields)
    error = refused.value.errors(include_input=False)[0]
    path = ".".join(str(p) for p in error["loc"])
    return path or str(error["msg"]).removeprefix("Value error, ").partition(":")[0]


def later(**delta: float) -> str:
    return (datetime.now(UTC) + timedelta(**delta)).isoformat()


def nested(depth: int) -> Any:
    """So many objects around a value, which is a level too."""
    value: Any = 1
    for _ in range(depth):
        value = {"a": value}
    return value


def test_the_smallest_request_is_taken_with_its_defaults() -> None:
    request = sent().to_request(guarded=True)
    assert (request.priority, request.channels, request.data, request.actions) == (None, None, {}, ())
    assert (request.recipients[0].user_id, request.recipients[0].email) == ("u1", None)


def test_the_guides_word_for_in_app_is_understood() -> None:
    assert sent(channels=["websocket", "email"]).channels == (Channel.IN_APP, Channel.EMAIL)
    assert fault(channels=["websocket", "in_app"]) == "channels"


def test_everything_arrives_as_it_was_sent() -> None:
    at = later(hours=1)
    request = sent(
        recipients=[{"user_id": "u1", "email": "Ada@Example.ORG", "channels": ["webhook"]}],
        priority="urgent",
        scheduled_at=at,
        data={"run": 7},
        actions=[{"label": "Open", "url": "https://x.example/?a=b"}],
        correlation_id="c",
        dedup_key="d",
    ).to_request(guarded=True)
    (recipient,) = request.recipients
    assert (recipient.email, recipient.channels) == ("Ada@example.org", (Channel.WEBHOOK,))
    assert (request.priority, request.data) == (Priority.URGENT, {"run": 7})
    assert request.scheduled_at == datetime.fromisoformat(at)
    assert request.actions == (Action("Open", "https://x.example/?a=b"),)
    assert (request.correlation_id, request.dedup_key) == ("c", "d")


def test_a_time_of_another_zone_is_kept_as_utc() -> None:
    request = sent(scheduled_at="2020-01-01T01:00:00+01:00").to_request(guarded=True)
    assert request.scheduled_at == datetime(2020, 1, 1, tzinfo=UTC)
    assert request.scheduled_at.tzinfo is UTC


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"notification_type": "completed"}, "notification_type"),
        ({"notification_type": "Test.completed"}, "notification_type"),
        ({"notification_type": "test.completed\n"}, "notification_type"),
        ({"notification_type": "test."}, "notification_type"),
        ({"notification_type": "$test.completed"}, "notification_type"),
        ({"notification_type": "t." + "x" * 127}, "notification_type"),
        ({"recipients": []}, "recipients"),
        ({"recipients": [{"user_id": str(i)} for i in range(1001)]}, "recipients"),
        ({"recipients": [{"user_id": "u1"}, {"user_id": "u1"}]}, "recipients"),
        ({"recipients": [{"user_id": ""}]}, "recipients.0.user_id"),
        ({"recipients": [{"user_id": "a\nb"}]}, "recipients.0.user_id"),
        ({"recipients": [{"user_id": "x" * 129}]}, "recipients.0.user_id"),
        ({"recipients": [{"user_id": 7}]}, "recipients.0.user_id"),
        ({"recipients": [{"user_id": "u1"}, {"user_id": "u2", "email": "nobody"}]}, "recipients.1.email"),
        ({"recipients": [{"user_id": "u1", "email": "a@b.example\r\nBcc: e@e.example"}]}, "recipients.0.email"),
        ({"recipients": [{"user_id": "u1", "email": "a@b.example, c@d.example"}]}, "recipients.0.email"),
        ({"recipients": [{"user_id": "u1", "phone": "1"}]}, "recipients.0.phone"),
        ({"recipients": [{"user_id": "u1", "channels": []}]}, "recipients.0.channels"),
        ({"title": ""}, "title"),
        ({"title": " "}, "title"),
        ({"title": "a\nb"}, "title"),
        ({"title": "a\x7fb"}, "title"),
        ({"title": "\ud800"}, "title"),
        ({"title": "x" * 201}, "title"),
        ({"body": "a\0b"}, "body"),
        ({"body": "x" * 65_537}, "body"),
        ({"priority": "highest"}, "priority"),
        ({"channels": []}, "channels"),
        ({"channels": ["pigeon"]}, "channels.0"),
        ({"channels": ["email", "email"]}, "channels"),
        ({"scheduled_at": "2026-03-01T12:00:00"}, "scheduled_at"),
        ({"scheduled_at": "soon"}, "scheduled_at"),
        ({"scheduled_at": later(days=367)}, "scheduled_at"),
        ({"expires_at": later(seconds=-1)}, "expires_at"),
        ({"expires_at": later(hours=1), "scheduled_at": later(hours=2)}, "expires_at"),
        ({"data": []}, "data"),
        ({"data": {"$where": 1}}, "data"),
        ({"data": {"a": [{"b.c": 1}]}}, "data"),
        ({"data": {"a": {"b\0": 1}}}, "data"),
        ({"data": {"n": 2**63}}, "data"),
        ({"data": {"n": float("nan")}}, "data"),
        ({"data": {"n": float("inf")}}, "data"),
        ({"data": {"text": "\ud800"}}, "data"),
        ({"data": nested(MAX_DATA_DEPTH)}, "data"),
        ({"data": {"a": nested(50_000)}}, "data"),
        ({"data": {"a": "x" * MAX_DATA_BYTES}}, "data"),
        ({"actions": [{"label": "x", "url": "javascript:alert(1)"}]}, "actions.0.url"),
        ({"actions": [{"label": "x", "url": "https://x.example/\nb"}]}, "actions.0.url"),
        ({"actions": [{"label": "", "url": "https://x.example"}]}, "actions.0.label"),
        ({"actions": [{"label": "x", "url": "https://x.example"}] * 11}, "actions"),
        ({"dedup_key": ""}, "dedup_key"),
        ({"correlation_id": "x" * 257}, "correlation_id"),
        ({"unheard_of": 1}, "unheard_of"),
        ({"idempotency_key": "k"}, "idempotency_key"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_fault_is_named_by_its_field(fields: dict[str, Any], path: str) -> None:
    assert fault(**fields) == path


@pytest.mark.parametrize(
    "fields",
    [
        {"title": "x" * 200, "body": "x" * 65_536},
        {"recipients": [{"user_id": str(i)} for i in range(1000)]},
        {"notification_type": "t." + "x" * 126},
        {"data": nested(MAX_DATA_DEPTH - 1)},
        {"data": {"n": 2**63 - 1, "m": -(2**63)}},
        {"data": {"a": "x" * (MAX_DATA_BYTES - 8)}},
        {"actions": [{"label": "x", "url": "https://x.example"}] * 10},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_a_bound_itself_is_taken(fields: dict[str, Any]) -> None:
    assert SendIn.model_validate(PLAIN | fields).to_request(guarded=True)


def test_a_fault_never_repeats_what_was_sent() -> None:
    with pytest.raises(ValidationError) as refused:
        SendIn.model_validate(
            PLAIN | {"title": "hunter2\n", "data": {"$hunter2": 1}, "recipients": [{"user_id": "\0hunter2"}]}
        )
    assert "hunter2" not in str(refused.value)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda c: st.lists(c, max_size=3) | st.dictionaries(st.text(max_size=6), c, max_size=3),
    max_leaves=12,
)


@given(st.dictionaries(st.text(max_size=6), json_values, max_size=4))
def test_any_data_is_refused_by_name_or_can_be_stored(data: dict[str, Any]) -> None:
    try:
        taken = SendIn.model_validate(PLAIN | {"data": data})
    except ValidationError as refused:
        fields = {error["loc"][:1] for error in refused.errors(include_input=False)}
    else:
        fields = {("data",)} if encode({"data": taken.data}) else set()
    assert fields == {("data",)}


def test_a_fingerprint_is_of_the_content_and_not_of_its_spelling() -> None:
    body = PLAIN | {"data": {"a": 1, "b": 2}}
    turned = dict(reversed(body.items())) | {"data": {"b": 2, "a": 1}, "priority": None}
    spelled = orjson.dumps(turned, option=orjson.OPT_INDENT_2).replace(b"Run", b"\\u0052un")
    assert SendIn.model_validate_json(spelled).fingerprint == sent(**body).fingerprint
    assert len(sent().fingerprint) == 64


@pytest.mark.parametrize(
    "changed",
    [
        {"title": "Run 8"},
        {"body": "x"},
        {"priority": "low"},
        {"channels": ["in_app"]},
        {"data": {"a": 1}},
        {"recipients": [{"user_id": "u2"}]},
        {"recipients": [{"user_id": "u1", "email": "ada@example.org"}]},
        {"correlation_id": "c"},
    ],
    ids=repr,
)
def test_another_content_has_another_fingerprint(changed: dict[str, Any]) -> None:
    assert sent(**changed).fingerprint != sent().fingerprint


def test_the_key_of_a_batch_item_is_no_part_of_what_it_guards() -> None:
    first, second = (BatchItemIn.model_validate(PLAIN | {"idempotency_key": key}) for key in ("k1", "k2"))
    assert first.fingerprint == second.fingerprint == sent().fingerprint
