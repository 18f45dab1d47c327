"""The OpenAPI document is complete and true: every example is sent for real, and every answer is a documented one."""

import json
import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import BaseModel
from tests.integration.conftest import API, Running, message, token

from notification_engine.api.models.read import Problem
from notification_engine.domain.caller import Role

PROBLEM = "application/problem+json"
PUBLIC = {"health", "callbacks", "unsubscribe"}  # no token: signed, or opened by what was mailed; tests of their own
UNKNOWN = "ntfy_00000000000000000000000000"
UNKNOWNS = {  # by parameter: of the right form, and nowhere to be found
    "key": "nobodys.template",
    "name": "nobodys.type",
    "delivery_id": "dlv_00000000000000000000000000_0",
    "suppression_id": "sup_00000000000000000000000000000000",
    "webhook_id": "whk_0",
    "key_id": "key_00000000000000000000000000",
}
UNSHOWN = {"callbacks": {"404"}, "unsubscribe": {"404", "400"}}  # pages, and what is not set up
DESIGNED = [  # routes of the design; those that the document does not hold must be absent, not stubs
    ("POST", "/{notification_id}/cancel"),
    ("POST", "/{notification_id}/resend"),
    ("GET", "/analytics/summary"),
    ("PATCH", "/preferences"),
    ("GET", "/recipients"),
    ("GET", "/templates"),
    ("POST", "/templates"),
    ("GET", "/types"),
    ("GET", "/topics"),
    ("POST", "/topics"),
    ("GET", "/suppressions"),
    ("GET", "/api-keys"),
    ("GET", "/dead-letters"),
    ("POST", "/dead-letters/replay"),
    ("GET", "/audit-logs"),
    ("GET", "/users/{user_id}/data"),
    ("DELETE", "/users/{user_id}/data"),
    ("POST", "/callbacks/sendgrid"),
    ("POST", "/callbacks/ses"),
    ("GET", "/unsubscribe/{token}"),
]


@dataclass
class Operation:
    method: str
    path: str
    body: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def example(self) -> Any:
        return self.body.get("requestBody", {}).get("content", {}).get("application/json", {}).get("example")

    @property
    def success(self) -> int:
        return min(int(s) for s in self.body["responses"] if s.startswith("2"))

    def content(self, status: int) -> dict[str, Any]:
        return dict(self.body["responses"][str(status)].get("content", {}))


@pytest.fixture
async def document(shared: Running) -> dict[str, Any]:
    async with shared.session.get(f"{shared.address}/openapi.json") as answer:
        assert answer.status == 200
        return dict(await answer.json())


def operations(document: dict[str, Any]) -> Iterator[Operation]:
    for path, methods in document["paths"].items():
        for method, body in methods.items():
            yield Operation(method.upper(), path, body)


def model(operation: Operation, status: int) -> Any:
    """The response model that the document names; None where the answer has no schema."""
    name = operation.content(status).get("application/json", {}).get("schema", {}).get("$ref", "").rpartition("/")[2]
    return {kind.__name__: kind for kind in kinds(BaseModel)}[name] if name else None


def kinds(parent: type[BaseModel]) -> Iterator[type[BaseModel]]:
    for kind in parent.__subclasses__():
        if kind.__module__.startswith("notification_engine."):
            yield kind
        yield from kinds(kind)


def assert_fits(kind: Any, body: Any, what: str) -> None:
    """Valid after the model, and nothing in it that the model does not know."""
    assert keys(body) == keys(kind.model_validate(body).model_dump(mode="json", exclude_unset=True)), what


def keys(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: keys(v) for k, v in value.items()}
    return [keys(v) for v in value] if isinstance(value, list) else None


async def test_every_operation_says_what_it_does_who_may_and_what_can_go_wrong(document: dict[str, Any]) -> None:
    names = [o.body["operationId"] for o in operations(document)]
    assert len(set(names)) == len(names)
    for operation in operations(document):
        assert operation.body["summary"], operation
        assert operation.body["description"].startswith("Roles:"), operation
        statuses = set(operation.body["responses"])
        if not PUBLIC.intersection(operation.body["tags"]):
            assert operation.body["security"], operation
            assert "401" in statuses, operation
        if "requestBody" in operation.body:
            assert "422" in statuses, operation
            examples = [content.get("example") for content in operation.body["requestBody"]["content"].values()]
            assert None not in examples, f"{operation}: give the route an example request"
        for status in statuses - UNSHOWN.get(operation.body["tags"][0], set()):
            for kind, content in operation.content(int(status)).items():
                assert status.startswith("2") == (kind != PROBLEM), operation
                assert "example" in content, f"{operation} {status}: add an example to api/examples.py"


async def test_every_example_answer_fits_its_schema(document: dict[str, Any]) -> None:
    for operation in operations(document):
        for status, response in operation.body["responses"].items():
            for kind, content in response.get("content", {}).items():
                if kind == PROBLEM:
                    assert_fits(Problem, content["example"], f"{operation} {status}")
                    assert content["example"]["status"] == int(status)
                elif kind == "application/json" and (answered := model(operation, int(status))) is not None:
                    assert_fits(answered, content["example"], f"{operation} {status}")


async def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    for name in set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(document))):
        assert name in document["components"]["schemas"]


async def test_every_example_is_accepted_and_answered_as_documented(running: Running, document: dict[str, Any]) -> None:
    private = [o for o in operations(document) if not PUBLIC.intersection(o.body["tags"]) or "health" in o.body["tags"]]
    for operation in sorted(private, key=lambda o: o.method == "DELETE"):
        address = running.address + await filled(running, operation.path)
        credential = token("u1", Role.ADMIN, Role.SERVICE, Role.USER)
        if operation.path == "/api/v1/auth/token":
            credential = (await made(running, "POST", "/api-keys", {"name": "traded", "roles": ["user"]}))["api_key"]
        headers = {"Authorization": f"Bearer {credential}"}
        headers |= {"Content-Type": "text/csv"} if "data" in sent(operation) else {}
        async with running.session.request(operation.method, address, headers=headers, **sent(operation)) as answer:
            assert str(answer.status) in operation.body["responses"], (operation, answer.status, await answer.text())
            assert answer.status == operation.success, (operation, await answer.text())
            if answer.status == 204:
                assert await answer.read() == b""
                continue
            assert answer.content_type in operation.content(answer.status), operation
            if answer.content_type == "text/event-stream":
                assert await answer.content.readline() == b"event: hello\n"
            elif answer.content_type == "application/json":
                body = await answer.json()
                if (answered := model(operation, answer.status)) is not None:
                    assert_fits(answered, body, str(operation))
                if operation.body["tags"] == ["health"]:
                    assert set(operation.content(200)["application/json"]["example"]) <= set(body), operation


def sent(operation: Operation) -> dict[str, Any]:
    """The example request, of whatever kind it is."""
    content = operation.body.get("requestBody", {}).get("content", {})
    if "text/csv" in content:
        return {"data": content["text/csv"]["example"].encode()}
    return {"json": operation.example}


async def dead_letter(running: Running) -> str:
    await running.register("http://127.0.0.1:9/closed", "dead.letter")
    notification_id = await running.accept(message("u1", notification_type="dead.letter", channels=["webhook"]))
    return str((await running.settled(notification_id))["deliveries"][0]["delivery_id"])


async def made(running: Running, method: str, path: str, body: Any) -> dict[str, Any]:
    status, answer = await running.call(method, path, body, as_=token("u1", Role.ADMIN))
    assert status in {200, 201}, answer
    return dict(answer)


async def filled(running: Running, path: str) -> str:
    """The path with ids of things that exist."""
    if path.endswith("/cancel"):
        body = message("u1", scheduled_at=(datetime.now(UTC) + timedelta(hours=1)).isoformat())
        path = path.replace("{notification_id}", await running.accept(body))
    path = path.replace("{user_id}", "somebody")
    if path.endswith("/recover"):
        path += "?since=2026-01-01T00:00:00Z"
    if "{key}" in path:
        parts = {"subject": "Build {{ number }}", "text": "It has ended."}
        await made(running, "PUT", "/templates/build.filled", {"locales": {"en": parts}, "sample_data": {"number": 7}})
        path = path.replace("{key}", "build.filled")
    if "{name}" in path:
        await made(running, "PUT", "/types/build.filled", {"channels": ["in_app"]})
        path = path.replace("{name}", "build.filled")
    if "{suppression_id}" in path:
        row = {"address": f"{uuid.uuid4().hex}@example.org", "reason": "manual"}
        path = path.replace("{suppression_id}", (await made(running, "POST", "/suppressions", row))["suppression_id"])
    if "{delivery_id}" in path:
        path = path.replace("{delivery_id}", await dead_letter(running))
    if "{notification_id}" in path:
        status, answer = await running.call("POST", "", message("u1"), as_=token("u1", Role.SERVICE))
        assert status == 202
        path = path.replace("{notification_id}", answer["notifications"][0]["notification_id"])
    if "{key_id}" in path:
        body = {"name": "filled", "roles": ["user"]}
        path = path.replace("{key_id}", (await made(running, "POST", "/api-keys", body))["key_id"])
    if "{webhook_id}" in path:
        path = path.replace("{webhook_id}", (await running.register("http://127.0.0.1:9/"))["webhook_id"])
    assert "{" not in path, f"{path}: say here what stands in the braces"
    return path


async def problem(shared: Running, operation: Operation, path: str, body: Any, as_: str | None) -> Problem | None:
    """The problem that came, which must be a documented one; None for a success."""
    headers = {"Authorization": f"Bearer {as_}"} if as_ else {}
    address = shared.address + path + ("?since=2026-01-01T00:00:00Z" if path.endswith("/recover") else "")
    async with shared.session.request(operation.method, address, json=body, headers=headers) as answer:
        if answer.status < 400:
            return None
        assert answer.content_type == PROBLEM, operation
        assert str(answer.status) in operation.body["responses"], (operation, answer.status)
        found = Problem.model_validate(await answer.json(content_type=None))
        assert found.status == answer.status
        assert found.request_id == answer.headers["X-Request-ID"]
        return found


async def test_every_operation_but_health_refuses_who_is_unknown(shared: Running, document: dict[str, Any]) -> None:
    for operation in operations(document):
        if PUBLIC.intersection(operation.body["tags"]) - {"health"}:
            continue
        found = await problem(shared, operation, nowhere(operation.path), operation.example, None)
        if operation.body["tags"] == ["health"]:
            assert found is None, operation
        else:
            assert found is not None, operation
            assert found.status == 401, operation


def nowhere(path: str) -> str:
    """The path with ids of things that do not exist."""
    return re.sub(r"\{(\w+)\}", lambda found: UNKNOWNS.get(found[1], UNKNOWN), path)


async def test_documented_refusals_come(shared: Running, document: dict[str, Any]) -> None:
    """403 for a token without a role, 404 for what is not there, 422 for an unknown field or a bad limit."""
    nobody = shared.engine.app.state.services.tokens.issue("nobody", [], 5)
    admin = token("admin", Role.ADMIN)
    for operation in operations(document):
        if PUBLIC.intersection(operation.body["tags"]):
            continue
        path = nowhere(operation.path)
        documented = operation.body["responses"]
        if "403" in documented:
            found = await problem(shared, operation, path, operation.example, nobody)
            assert found is not None, operation
            assert found.status == 403, operation
        anybody = "{user_id}" in operation.path  # any text may be a user; only a line break is no path
        if "{" in operation.path and "404" in documented:
            path = path.replace(UNKNOWN, "no%0Auser") if anybody else path
            found = await problem(shared, operation, path, operation.example, admin)
            assert found is not None, operation
            assert found.status == 404, operation
        if operation.example is not None:
            found = await problem(shared, operation, path, operation.example | {"colour": "red"}, admin)
            assert found is not None, operation
            assert (found.status, found.field) == (422, "colour"), operation
        if any(p["name"] == "limit" for p in operation.body.get("parameters", [])):
            found = await problem(shared, operation, f"{path}?limit=0", None, admin)
            assert found is not None, operation
            assert (found.status, found.field) == (422, "limit"), operation
            found = await problem(shared, operation, f"{path}?cursor=nonsense", None, admin)
            assert found is not None, operation
            assert (found.status, found.field) == (422, "cursor"), operation


async def test_what_is_not_built_is_absent(shared: Running, document: dict[str, Any]) -> None:
    built = {(o.method, o.path.removeprefix(API)) for o in operations(document)}
    for method, path in DESIGNED:
        if (method, path) in built:
            continue
        address = f"{shared.address}{API}{nowhere(path)}"
        headers = {"Authorization": f"Bearer {token('a', Role.ADMIN)}"}
        async with shared.session.request(method, address, json={"read": True}, headers=headers) as answer:
            assert answer.status in {404, 405}, (method, path)
            assert answer.content_type == PROBLEM


async def test_every_list_has_pages_and_a_next_link(running: Running, document: dict[str, Any]) -> None:
    """Following `Link: rel="next"` from the first page of two shows everything once."""
    user = f"u_{uuid.uuid4().hex[:6]}"
    as_ = token(user, Role.USER, Role.ADMIN)
    for number in range(5):
        await running.settled(await running.accept(message(user, title=f"n{number}")))
        await running.register(f"http://127.0.0.1:9/{number}")
    await until_written(running, user, 5)
    lists = [o for o in operations(document) if o.method == "GET" and "next_cursor" in json.dumps(o.content(o.success))]
    assert len(lists) >= 3
    for operation in lists:
        address: str | None = f"{running.address}{operation.path}?limit=2"
        seen: list[str] = []
        pages = 0
        while address:
            async with running.session.get(address, headers={"Authorization": f"Bearer {as_}"}) as answer:
                body = await answer.json()
                following = answer.links.get("next")
            assert (following is None) == (body["next_cursor"] is None)
            [items] = [v for v in body.values() if isinstance(v, list)]
            assert len(items) <= 2
            seen += [json.dumps(i, sort_keys=True) for i in items]
            address, pages = (str(following["url"]) if following else None), pages + 1
            assert following is None or "limit=2" in address
        assert len(seen) == len(set(seen)), operation
        if not operation.path.endswith(("/templates", "/types")):  # which the engine brings itself
            assert not seen or (len(seen), pages) == (5, 3), operation
        else:
            assert pages == -(-len(seen) // 2) > 10, operation


async def until_written(running: Running, user: str, rows: int) -> None:
    """The history's rows follow the 202."""
    for _ in range(200):
        _, body = await running.call("GET", "/history", as_=token(user, Role.USER))
        if len(body["attempts"]) >= rows:
            return
        await running.engine._announce.drain()
    pytest.fail("the rows did not come")


async def test_the_document_and_its_reader_are_served(shared: Running) -> None:
    async with shared.session.get(f"{shared.address}/docs") as answer:
        assert (answer.status, answer.content_type) == (200, "text/html")
        assert "docs/static/swagger.js" in await answer.text()
    async with shared.session.get(f"{shared.address}/docs/static/swagger.js") as answer:
        assert 'url: "openapi.json"' in await answer.text()
