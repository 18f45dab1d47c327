"""Who may do what, taken from the OpenAPI document itself: each route by each role, and each object by another user.

The document's `x-access` comes from the dependencies that serve the route; here every word of it is tried.
"""

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.integration.api.access import ADMIN, AUTH, make, socket
from tests.integration.api.test_openapi import Operation, nowhere, operations, sent
from tests.integration.api.test_openapi import document as document
from tests.integration.api.test_openapi import filled as filled
from tests.integration.conftest import API, Running, message, token

from notification_engine.domain.caller import Role

OPEN = {  # routes without a token; whoever adds one says so here
    "GET /health",
    "GET /metrics",
    *(f"GET {API}/health/{part}" for part in ("status", "metrics", "daemon", "channels")),
    f"POST {API}/callbacks/sendgrid",
    f"POST {API}/callbacks/ses",
    f"GET {API}/unsubscribe/{{token}}",
    f"POST {API}/unsubscribe/{{token}}",
}
ROLES = [(), *((role,) for role in Role), (Role.USER, Role.SERVICE, Role.OPERATOR)]
KEYS_ONLY = f"POST {AUTH}/token"
UNKNOWN = "ntfy_00000000000000000000000000"
EVIL = ["user_id", "roles", "owner", "sub", "source", "status", "is_admin", "created_by", "$where", "__proto__"]


async def called(running: Running, operation: Operation, path: str, credential: str | None, **more: Any) -> Any:
    """Status and, where it is no success, the body without what differs in every answer."""
    headers = {"Authorization": f"Bearer {credential}"} if credential else {}
    headers |= {"Content-Type": "text/csv"} if "data" in sent(operation) else {}
    options = sent(operation) | more
    async with running.session.request(operation.method, running.address + path, headers=headers, **options) as answer:
        body = await answer.json(content_type=None) if answer.status >= 400 else None
        return answer.status, {k: v for k, v in (body or {}).items() if k not in {"request_id", "instance"}}


def access(operation: Operation) -> dict[str, Any]:
    said = operation.body.get("x-access")
    assert said is not None, f"{operation}: serve it with `Authenticated` or, with a reason, `Open`"
    return dict(said)


async def test_every_route_states_its_roles_and_owner(document: dict[str, Any]) -> None:
    for operation in operations(document):
        said = access(operation)
        if "open" in said:
            assert str(operation) in OPEN, operation
            assert said["open"]
            assert "security" not in operation.body, operation
            continue
        assert str(operation) not in OPEN
        assert isinstance(said["owner"], bool)
        assert set(said["roles"]) <= {str(role) for role in Role}, operation
        assert not said["roles"] or "admin" in said["roles"]
        assert {"401", "503"} <= set(operation.body["responses"]), operation
        assert not said["roles"] or "403" in operation.body["responses"], operation
        assert operation.body["security"] == [{"HTTPBearer": []}, {"ApiKey": []}], operation
        reached_by_users = not said["roles"] or {"user", "service"} & set(said["roles"])
        if reached_by_users and "{" in operation.path:
            assert said["owner"], f"{operation}: users reach an object by its id"
        for role in set(said["roles"]) - {"admin"}:
            assert role in operation.body["description"], f"{operation}: its description does not name {role}"


async def test_every_route_answers_each_role_as_it_states(running: Running, document: dict[str, Any]) -> None:
    tried = 0
    for operation in operations(document):
        said, path = access(operation), nowhere(operation.path)
        if "open" in said:
            continue
        assert (await called(running, operation, path, None))[0] == 401, operation
        for roles in ROLES:
            credential = running.engine.tokens.issue("somebody", list(roles), 5)
            status, body = await called(running, operation, path, credential)
            may = not said["roles"] or Role.ADMIN in roles or {str(role) for role in roles} & set(said["roles"])
            if may and str(operation) != KEYS_ONLY:
                assert status not in {401, 403}, (operation, roles, body)
            else:
                assert status == 403, (operation, roles, body)
            tried += 1
    assert tried > 300


async def test_no_route_reads_the_body_of_who_may_not_send_it(running: Running, document: dict[str, Any]) -> None:
    tried = set()
    for operation in operations(document):
        said = access(operation)
        if "open" in said or not isinstance(operation.example, dict):
            continue
        may = not said["roles"] or "user" in said["roles"]
        for credential, status in ((None, 401), (token("nobody", Role.USER), 422 if may else 403)):
            headers = {"Content-Type": "application/json"}
            headers |= {"Authorization": f"Bearer {credential}"} if credential else {}
            url = running.address + nowhere(operation.path)
            async with running.session.request(operation.method, url, data=b'{"a":', headers=headers) as answer:
                assert answer.status == status, operation
            tried.add((operation.method, status))
    assert tried >= {("POST", 401), ("POST", 403), ("PUT", 401), ("PUT", 422)}


async def test_every_route_keeps_an_admins_key_from_what_is_not_for_keys(
    running: Running, document: dict[str, Any]
) -> None:
    closed = {str(o) for o in operations(document) if access(o).get("api_keys") is False}
    assert closed == {f"POST {API}/api-keys", f"DELETE {API}/api-keys/{{key_id}}", f"POST {AUTH}/revoke"}
    key = (await make(running, roles=["admin"]))["api_key"]
    for operation in operations(document):
        if "open" not in access(operation):
            status, body = await called(running, operation, nowhere(operation.path), key)
            assert (status == 403) == (str(operation) in closed), (operation, status, body)


async def test_fields_that_claim_a_role_or_an_owner_are_422(running: Running, document: dict[str, Any]) -> None:
    tried = 0
    for operation in operations(document):
        if "open" in access(operation) or not isinstance(operation.example, dict):
            continue
        schema = json.dumps(operation.body["requestBody"]["content"]["application/json"]["schema"])
        [name] = set(re.findall(r'"#/components/schemas/(\w+)"', schema))
        known = document["components"]["schemas"][name]["properties"]
        path = await filled(running, operation.path)
        for field in set(EVIL) - set(known):
            given = operation.example | {field: {"$ne": None} if field.startswith("$") else "admin"}
            status, body = await called(running, operation, path, ADMIN, json=given)
            assert (status, body["field"]) == (422, field), (operation, field)
            tried += 1
    assert tried > 100


OWNED = ["GET /{id}", "PATCH /{id}", "GET /{id}/timeline", "POST /{id}/cancel"]


async def test_the_routes_with_an_owner_are_those_that_are_tried(document: dict[str, Any]) -> None:
    """Whoever adds one adds it below."""
    by_id = {str(o).replace(API, "").replace("{notification_id}", "{id}") for o in operations(document) if owned(o)}
    assert by_id == set(OWNED)
    by_user = {str(o).replace(API, "") for o in operations(document) if access(o)["owner"] and query(o, "user_id")}
    assert by_user == {"GET /history", "GET /preferences", "PUT /preferences"}


def owned(operation: Operation) -> bool:
    return bool(access(operation)["owner"]) and "{" in operation.path


def query(operation: Operation, name: str) -> bool:
    return any(p["name"] == name and p["in"] == "query" for p in operation.body.get("parameters", []))


async def scheduled(running: Running) -> str:
    """Of u1, sent by s1, and not due: nothing of the daemon's work mentions it."""
    at = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    body = message("u1", scheduled_at=at)
    status, answer = await running.call("POST", "", body, as_=token("s1", Role.SERVICE))
    assert status == 202
    return str(answer["notifications"][0]["notification_id"])


@pytest.mark.parametrize("roles", [(Role.USER,), (Role.SERVICE,), (Role.USER, Role.SERVICE)], ids=str)
async def test_what_is_anothers_answers_as_what_is_not_there(
    running: Running, document: dict[str, Any], roles: tuple[Role, ...]
) -> None:
    other = token("u2", *roles)
    theirs = await scheduled(running)
    for operation in filter(owned, operations(document)):
        needed = access(operation)["roles"]
        path = operation.path.replace("{notification_id}", theirs)
        status, body = await called(running, operation, path, other)
        unknown = await called(running, operation, nowhere(operation.path), other)
        may = not needed or {str(role) for role in roles} & set(needed)
        assert status == (404 if may else 403), operation
        assert (status, body) == unknown, operation
        assert theirs not in json.dumps(body)
    status, shown = await running.call("GET", f"/{theirs}", as_=token("u1", Role.USER))
    assert (status, shown["status"], shown["read_at"]) == (200, "scheduled", None), "and nothing has happened to it"


@pytest.mark.parametrize("path", ["/history", "/preferences"])
async def test_another_users_lists_answer_as_those_of_nobody(running: Running, path: str) -> None:
    await running.call("PUT", "/preferences", {"mute": True}, as_=token("u1", Role.USER))
    await running.accept(message("u1"))
    as_ = token("u2", Role.USER, Role.SERVICE)
    answers = []
    for user in ("u1", "nobody-has-this-name"):
        for method in ("GET", "PUT") if path == "/preferences" else ("GET",):
            body = {"mute": False} if method == "PUT" else None
            status, answer = await running.call(method, f"{path}?user_id={user}", body, as_=as_)
            assert status == 404
            answers.append({k: v for k, v in answer.items() if k != "request_id"})
    assert all(answer == answers[0] for answer in answers)
    _, kept = await running.call("GET", "/preferences", as_=token("u1", Role.USER))
    assert kept["mute"] is True


async def commands(running: Running, notification_id: str) -> list[tuple[str, str]]:
    """What the server was asked about this id, by its own profiler."""
    profile = running.engine.database.collection("system.profile")
    found = [d async for d in profile.find({})]
    return [(d["op"], d["ns"].partition(".")[2]) for d in found if notification_id in repr(d.get("command"))]


async def test_what_is_anothers_costs_the_same_commands_as_what_is_not_there(
    running: Running, document: dict[str, Any]
) -> None:
    """No timing can tell them apart more than one query's can: both answers come from the same ones."""
    database = running.engine.database
    other = token("u2", Role.USER, Role.SERVICE)
    missing = UNKNOWN[:-1] + "1"
    async with database._client.start_session() as session:
        await database.command({"profile": 2}, session)
        for operation in filter(owned, operations(document)):
            theirs, asked = await scheduled(running), {}
            for notification_id in (theirs, missing):
                before = await commands(running, notification_id)
                path = operation.path.replace("{notification_id}", notification_id)
                status, _ = await called(running, operation, path, other)
                assert status == 404
                asked[notification_id] = (await commands(running, notification_id))[len(before) :]
            assert asked[theirs], operation
            assert asked[theirs] == asked[missing], operation
        await database.command({"profile": 0}, session)


async def test_every_socket_command_reaches_the_callers_own_only(running: Running) -> None:
    theirs = await running.accept(message("u1"))
    own = await running.accept(message("u2"))
    first = await socket(running, token("u1", Role.USER))
    opened = await socket(running, token("u2", Role.USER))
    for command in ("seen", "read"):
        frames = []
        for notification_id in (theirs, UNKNOWN, "ntfy_x", "", "' || '1'=='1"):
            await opened.send_json({"type": command, "notification_id": notification_id})
            frames.append(await opened.receive_json(timeout=10))
        assert frames[0]["type"] == "error"
        assert frames[0] == frames[1]
        assert {frame["type"] for frame in frames} == {"error"}
    start = "1970-01-01T00:00:00Z"
    hello = await socket(running, token("u2", Role.USER))
    await hello.send_json({"type": "resume", "cursor": start})
    assert (await hello.receive_json(timeout=10))["type"] == "error", "no cursor of ours"
    _, inbox = await running.call("GET", "?limit=1", as_=token("u1", Role.USER))
    assert inbox["notifications"][0]["notification_id"] == theirs
    reconnected = await running.session.ws_connect(
        f"{running.address}{API}/ws", protocols=("bearer", token("u1", Role.USER))
    )
    cursor = (await reconnected.receive_json(timeout=10))["cursor"]
    await opened.send_json({"type": "resume", "cursor": cursor})  # another's cursor is but a moment
    shown = await opened.receive_json(timeout=10)
    assert shown["notification"]["notification_id"] == own
    _, untouched = await running.call("GET", f"/{theirs}", as_=token("u1", Role.USER))
    assert untouched["read_at"] is None
    assert untouched["seen_at"] is None
    await running.call("PATCH", f"/{own}", {"read": True}, as_=token("u2", Role.USER))
    late = await running.accept(message("u1"))
    assert (await first.receive_json(timeout=10))["notification"]["notification_id"] == late, "nothing of u2's"
    for one in (first, opened, hello, reconnected):
        await one.close()


@pytest.mark.parametrize(
    "command",
    [
        {"type": "seen", "notification_id": "{own}", "user_id": "u1"},
        {"type": "auth", "token": "{admin}"},
        {"type": "subscribe", "user_id": "u1"},
        {"type": "read", "notification_id": {"$ne": None}},
        {"type": "read", "notification_id": ["{theirs}"]},
        {"type": "resume", "cursor": {"$gt": ""}},
    ],
    ids=repr,
)
async def test_a_socket_command_cannot_choose_whom_it_acts_for(running: Running, command: dict[str, Any]) -> None:
    theirs, own = await running.accept(message("u1")), await running.accept(message("u2"))
    text = json.dumps(command)
    for name, value in {"{theirs}": theirs, "{own}": own, "{admin}": ADMIN}.items():
        text = text.replace(name, value)
    opened = await socket(running, token("u2", Role.USER))
    await opened.send_str(text)
    await opened.send_json({"type": "read", "notification_id": theirs})
    heard = []
    while not opened.closed and not any(frame["type"] == "error" for frame in heard):
        frame = await opened.receive()
        if not isinstance(frame.data, str):
            break
        heard.append(json.loads(frame.data))
    assert theirs not in json.dumps(heard)
    _, untouched = await running.call("GET", f"/{theirs}", as_=token("u1", Role.USER))
    assert (untouched["seen_at"], untouched["read_at"]) == (None, None)
    await opened.close()


async def test_a_stream_and_its_resumption_show_the_callers_own_only(running: Running) -> None:
    theirs, own = await running.accept(message("u1")), await running.accept(message("u2"))
    headers = {"Authorization": f"Bearer {token('u1', Role.USER)}"}
    async with running.session.get(f"{running.address}{API}/stream", headers=headers) as answer:
        hello = [await answer.content.readline() for _ in range(3)]
    cursor = next(line for line in hello if line.startswith(b"id: ")).removeprefix(b"id: ").strip().decode()
    headers = {"Authorization": f"Bearer {token('u2', Role.USER)}", "Last-Event-ID": cursor}
    seen = b""
    async with running.session.get(f"{running.address}{API}/stream?user_id=u1", headers=headers) as answer:
        while own.encode() not in seen:
            seen += await answer.content.readline()
    assert theirs.encode() not in seen


async def test_a_ticket_opens_its_owners_inbox_once(running: Running) -> None:
    theirs = await running.accept(message("u1"))
    own = await running.accept(message("u2"))
    _, ticket = await running.call("POST", "/ws/ticket", as_=token("u2", Role.USER))
    url = f"{running.address}{API}/ws?ticket={ticket['ticket']}&user_id=u1&sub=u1"
    async with running.session.ws_connect(url) as opened:
        hello = await opened.receive_json(timeout=10)
        await opened.send_json({"type": "read", "notification_id": theirs})
        assert (await opened.receive_json(timeout=10))["type"] == "error"
        await opened.send_json({"type": "read", "notification_id": own})
        assert (await opened.receive_json(timeout=10))["notification"]["notification_id"] == own
    assert hello["unread_count"] == 1
    async with running.session.ws_connect(url) as again:
        assert not isinstance((await again.receive()).data, str)
    assert re.fullmatch(r"[\w-]{43}", ticket["ticket"])
