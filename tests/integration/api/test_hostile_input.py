"""Bodies, queries and headers that are meant to hurt: refused by name, stored as harmless data, or shown as text."""

import json
from typing import Any

import pytest
from tests.integration.conftest import API, Running, message, token

from notification_engine.domain.caller import Role
from notification_engine.kit.ids import new_ulid

ADMIN = token("root", Role.ADMIN)
NOBODYS = "/ntfy_01m88fkssyxwcgp3yhdfsv1kjn"


async def raw(running: Running, method: str, path: str, body: bytes, **headers: str) -> tuple[int, dict[str, Any]]:
    sent = {"Authorization": f"Bearer {ADMIN}", "Content-Type": "application/json"} | headers
    async with running.session.request(method, running.address + path, data=body, headers=sent) as answer:
        assert answer.content_type in {"application/json", "application/problem+json"}, await answer.text()
        return answer.status, await answer.json(content_type=None)


HOSTILE = {
    "a key twice": b'{"title":"x","title":"y"}',
    "NaN": b'{"title":NaN}',
    "Infinity": b'{"title":-Infinity}',
    "a lone surrogate": b'{"title":"\\ud800"}',
    "no UTF-8": b'{"title":"\xff"}',
    "deep arrays": b'{"data":' + b"[" * 10_000 + b"]" * 10_000 + b"}",
    "deep objects": b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
}


@pytest.mark.parametrize("body", HOSTILE.values(), ids=HOSTILE)
async def test_every_route_with_a_json_body_refuses_what_is_no_plain_json(shared: Running, body: bytes) -> None:
    async with shared.session.get(f"{shared.address}/openapi.json") as answer:
        document = await answer.json()
    asked = 0
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if "application/json" not in operation.get("requestBody", {}).get("content", {}):
                continue
            filled = path.replace("{", "").replace("}", "")
            status, problem = await raw(shared, method, filled, body)
            assert status == 422, f"{method} {path}"
            assert problem["detail"].startswith("The body is not JSON that is taken here:"), f"{method} {path}"
            asked += 1
    assert asked >= 8


@pytest.mark.parametrize("path", [API, f"{API}/batch", f"{API}/preferences", f"{API}/webhooks", f"{API}/suppressions"])
async def test_a_body_of_ten_megabytes_is_refused_before_it_is_read(shared: Running, path: str) -> None:
    status, problem = await raw(shared, "PUT" if "preferences" in path else "POST", path, b"[" * 10 * 1024 * 1024)
    assert (status, problem["status"]) == (413, 413)


OPERATORS: list[Any] = [{"$ne": None}, {"$gt": ""}, {"$where": "sleep(1000)"}, {"$regex": ".*"}, ["$ne"], {"$in": []}]
FIELDS = [
    "notification_type",
    "title",
    "body",
    "priority",
    "correlation_id",
    "dedup_key",
    "scheduled_at",
    "recipients",
    "channels",
]


@pytest.mark.parametrize("field", FIELDS)
async def test_an_operator_in_the_place_of_a_value_is_refused_by_name(shared: Running, field: str) -> None:
    for operator in OPERATORS:
        status, problem = await shared.call("POST", "", message(**{field: operator}))
        assert status == 422, operator
        assert problem["field"].startswith(field)


@pytest.mark.parametrize("field", ["user_id", "email", "locale", "time_zone", "channels"])
async def test_an_operator_in_a_recipient_is_refused_by_name(shared: Running, field: str) -> None:
    for operator in OPERATORS:
        body = message() | {"recipients": [{"user_id": "u1", field: operator}]}
        status, problem = await shared.call("POST", "", body)
        assert status == 422, operator
        assert problem["field"].startswith(f"recipients.0.{field}")


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/webhooks", {"url": {"$ne": None}, "notification_types": ["*"]}),
        ("POST", "/webhooks", {"url": "https://example.org", "notification_types": [{"$ne": None}]}),
        ("POST", "/suppressions", {"channel": "email", "address": {"$ne": None}}),
        ("PUT", "/preferences", {"types": [{"pattern": {"$ne": None}, "channels": {}}]}),
        ("PUT", "/preferences", {"types": [{"pattern": "*", "channels": {"$where": True}}]}),
        ("PUT", "/preferences", {"mute": {"$ne": False}}),
        ("PATCH", NOBODYS, {"read": {"$ne": None}}),
        ("PATCH", NOBODYS, {"$set": {"user_id": "u1"}}),
        ("POST", "/dead-letters/replay", {"delivery_ids": {"$ne": None}}),
        ("POST", "/dead-letters/replay", {"notification_type": {"$ne": None}}),
        ("PUT", "/templates/a.b", {"title": {"$ne": None}, "body": "y"}),
    ],
)
async def test_an_operator_in_any_other_body_is_refused(shared: Running, method: str, path: str, body: Any) -> None:
    status, problem = await shared.call(method, path, body, as_=ADMIN)
    assert (status, problem["status"]) == (422, 422)
    assert "$ne" not in problem["detail"]


@pytest.mark.parametrize("data", [{"$where": "1"}, {"a.b": 1}, {"x": {"$ne": None}}, {"x": [{"a.b": 1}]}, {"a\x00": 1}])
async def test_keys_that_mongodb_would_read_are_refused_in_data(shared: Running, data: dict[str, Any]) -> None:
    status, problem = await shared.call("POST", "", message(data=data))
    assert (status, problem["field"]) == (422, "data")


async def test_prototype_keys_are_plain_data(shared: Running) -> None:
    data = {"__proto__": {"admin": True}, "constructor": {"prototype": {"admin": True}}, "toString": "x"}
    user = f"proto{new_ulid()}"
    notification_id = await shared.accept(message(user, data=data))
    _, shown = await shared.call("GET", f"/{notification_id}")
    assert shown["data"] == data


TEXTS = ["$user_id", "$$ROOT", "$$NOW", '{"$ne": null}', "{$gt: ''}", "'; return true; //", "a.b.$[]", "$literal", ".*"]


@pytest.mark.parametrize("text", TEXTS)
async def test_a_text_that_looks_like_an_expression_stays_a_text(shared: Running, text: str) -> None:
    """Also where an update is a pipeline, in which `$user_id` would be a field's value."""
    user = f"{text}{new_ulid()}"
    mine, others = token(user, Role.USER, Role.SERVICE), token(text, Role.USER)
    body = message(user, title=text, body=text, correlation_id=text, dedup_key=text, data={"text": text})
    body["recipients"] = [{"user_id": user}]
    status, accepted = await shared.call("POST", "", body, as_=mine, Idempotency_Key=f"{text}{new_ulid()}")
    assert status == 202, accepted
    notification_id = accepted["notifications"][0]["notification_id"]
    assert (await shared.call("PATCH", f"/{notification_id}", {"read": True}, as_=mine))[0] == 200
    _, shown = await shared.call("GET", f"/{notification_id}", as_=mine)
    assert (shown["user_id"], shown["title"], shown["body"], shown["data"]) == (user, text, text, {"text": text})
    assert (shown["correlation_id"], bool(shown["read_at"])) == (text, True)
    _, inbox = await shared.call("GET", "/", as_=mine)
    assert [n["notification_id"] for n in inbox["notifications"]] == [notification_id]
    assert (await shared.call("GET", f"/{notification_id}", as_=others))[0] == 404


@pytest.mark.parametrize(
    "query",
    [
        "status[$ne]=x",
        "status={%22$ne%22:null}",
        "notification_type[$regex]=.*",
        "notification_type=.*",
        "notification_type={%22$ne%22:null}",
        "priority[$gt]=",
        "cursor={%22$gt%22:%22%22}",
        "cursor[$gt]=x",
        "since[$ne]=1",
        "user_id=victim",
        "limit[$gt]=0",
    ],
)
async def test_a_query_shows_nothing_of_others(shared: Running, query: str) -> None:
    await shared.accept(message("victim"))
    nobody = token(f"nobody{new_ulid()}", Role.USER)
    for path in ("/", "/history"):
        async with shared.session.get(
            f"{shared.address}{API}{path}?{query}", headers={"Authorization": f"Bearer {nobody}"}
        ) as answer:
            assert answer.status in {200, 404, 422}
            shown = await answer.json(content_type=None)
            assert not shown.get("notifications")
            assert not shown.get("attempts")


@pytest.mark.parametrize("pattern", [".*", "(a+)+$", "^", "[", "a|b"])
async def test_a_pattern_of_a_user_is_never_a_regular_expression(shared: Running, pattern: str) -> None:
    user = f"regex{new_ulid()}"
    await shared.accept(message(user))
    _, shown = await shared.call("GET", f"/?notification_type={pattern}".replace("+", "%2B"), as_=token(user))
    assert shown.get("notifications", []) == []
    body = {"types": [{"pattern": pattern, "channels": {"in_app": False}}]}
    assert (await shared.call("PUT", "/preferences", body, as_=token(user)))[0] == 422


async def test_an_endless_body_is_cut_off_at_the_limit(shared: Running) -> None:
    async def endless() -> Any:
        for _ in range(200):
            yield b"[" * 65_536

    headers = {"Authorization": f"Bearer {ADMIN}", "Content-Type": "application/json"}
    async with shared.session.post(f"{shared.address}{API}", data=endless(), headers=headers) as answer:
        assert answer.status == 413
        assert json.loads(await answer.text())["status"] == 413
