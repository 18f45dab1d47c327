"""What every route refuses in the same way: bodies that are no text, methods that a path does not have, coercions."""

import pytest
from tests.integration.conftest import API, Running, message, token

from notification_engine.domain.caller import Role

ADMIN = {"Authorization": f"Bearer {token('admin', Role.ADMIN, Role.SERVICE)}"}
PROBLEM = "application/problem+json"


@pytest.mark.parametrize(
    ("method", "path"), [("POST", ""), ("POST", "/webhooks"), ("PUT", "/types/a.b"), ("PATCH", "/ntfy_0")]
)
async def test_a_body_that_is_no_utf8_is_an_invalid_request(shared: Running, method: str, path: str) -> None:
    headers = ADMIN | {"Content-Type": "application/json"}
    async with shared.session.request(method, f"{shared.address}{API}{path}", data=b"\xff{", headers=headers) as answer:
        assert (answer.status, answer.content_type) == (422, PROBLEM)
        assert (await answer.json(content_type=None))["type"].endswith("invalid-request")


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/webhooks", "GET, POST"),
        ("/webhooks/whk_0", "DELETE, GET, PATCH"),
        ("/preferences", "GET, PUT"),
        ("/ntfy_0", "GET, PATCH"),
        ("/", "GET, POST"),
        ("", "GET, POST"),
        ("/unsubscribe/x", "GET, POST"),
    ],
)
async def test_a_method_that_a_path_does_not_have_is_refused_with_those_it_has(
    shared: Running, path: str, allowed: str
) -> None:
    async with shared.session.options(f"{shared.address}{API}{path}", headers=ADMIN) as answer:
        assert (answer.status, answer.content_type) == (405, PROBLEM)
        assert answer.headers["Allow"] == allowed


@pytest.mark.parametrize(
    ("method", "path", "body", "field"),
    [
        ("PUT", "/types/a.b", {"transactional": 0}, "transactional"),
        ("PATCH", "/types/account.locked_out", {"transactional": "no"}, "transactional"),
        ("PUT", "/preferences", {"mute": 1}, "mute"),
        ("PUT", "/preferences", {"types": {"*": {"in_app": 0}}}, "types.*.in_app"),
        ("PATCH", "/webhooks/whk_0", {"enabled": "true"}, "enabled"),
        ("PATCH", "/ntfy_0", {"read": "yes"}, "read"),
        ("PATCH", "/ntfy_0", {"snoozed_until": 4102444800}, "snoozed_until"),
        ("POST", "", message("u1", expires_at="4102444800"), "expires_at"),
        ("POST", "/dead-letters/replay", {"since": 0.5}, "since"),
        ("POST", "/templates/system.outage/publish", {"version": "1"}, "version"),
        ("GET", "/?until=0.5", None, "until"),
        ("GET", "/dead-letters?since=1", None, "since"),
        ("POST", "/webhooks/whk_0/recover?since=0", None, "since"),
    ],
)
async def test_a_value_of_another_kind_is_refused_and_not_converted(
    shared: Running, method: str, path: str, body: object, field: str
) -> None:
    async with shared.session.request(method, f"{shared.address}{API}{path}", json=body, headers=ADMIN) as answer:
        found = await answer.json(content_type=None)
        assert (answer.status, found.get("field")) == (422, field), found
