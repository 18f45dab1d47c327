"""Types: what a request that says nothing gets, and how operators change it."""

from typing import Any

import pytest
from tests.integration.conftest import Running, message, token

from notification_engine.domain.caller import Role


def plain(kind: str, **fields: Any) -> dict[str, Any]:
    sent = message(notification_type=kind) | fields
    return {name: value for name, value in sent.items() if name != "channels" or name in fields}


async def stored(running: Running, notification_id: str) -> dict[str, Any]:
    found = await running.engine.database.collection("notifications").find_one({"_id": notification_id})
    assert found is not None
    return dict(found)


async def test_a_built_in_type_gives_channels_and_priority(shared: Running) -> None:
    found = await stored(shared, await shared.accept(plain("system.outage")))
    assert (found["channels"], found["priority"]) == (["in_app", "email", "webhook"], "urgent")
    assert found["on_unknown"] == "resend"
    assert "transactional" not in found
    assert "template" not in found


async def test_a_request_that_says_something_is_obeyed(shared: Running) -> None:
    found = await stored(shared, await shared.accept(plain("system.outage", channels=["in_app"], priority="low")))
    assert (found["channels"], found["priority"]) == (["in_app"], "low")


async def test_a_type_that_nobody_registered_gets_the_plain_defaults(shared: Running) -> None:
    found = await stored(shared, await shared.accept(plain("nobody.knows")))
    assert (found["channels"], found["priority"]) == (["in_app"], "medium")
    assert "on_unknown" not in found


async def test_a_built_in_template_writes_what_the_request_leaves_out(shared: Running) -> None:
    body = plain("account.password_reset", data={"expires_at": "2026-03-01T13:00:00Z", "url": "https://a.example/"})
    body["recipients"] = [{"user_id": "u1", "email": "u1@example.org", "locale": "de", "time_zone": "Europe/Berlin"}]
    del body["title"], body["body"]
    found = await stored(shared, await shared.accept(body))
    assert (found["title"], found["body"]) == ("Neues Passwort wählen", "Der Link gilt bis 01.03.2026, 14:00.")
    assert found["transactional"] is True
    assert found["template"] == {"key": "account.password_reset", "version": 0, "failed": False}


async def test_an_override_is_in_force_at_once_and_can_be_removed(shared: Running) -> None:
    status, changed = await shared.call("PATCH", "/types/system.api_slow", {"priority": "low", "on_unknown": None})
    assert status == 200, changed
    assert (changed["priority"], changed["on_unknown"], changed["builtin"], changed["overridden"]) == (
        "low",
        None,
        True,
        True,
    )
    assert changed["channels"] == ["in_app", "email"]
    assert (await stored(shared, await shared.accept(plain("system.api_slow"))))["priority"] == "low"
    assert (await shared.call("DELETE", "/types/system.api_slow"))[0] == 204
    assert (await stored(shared, await shared.accept(plain("system.api_slow"))))["priority"] == "high"
    assert (await shared.call("DELETE", "/types/system.api_slow"))[0] == 404


async def test_a_type_of_the_house_can_be_registered(shared: Running) -> None:
    wanted = {"channels": ["email"], "priority": "high", "transactional": True, "template": "shop.sent"}
    status, made = await shared.call("PUT", "/types/shop.sent", wanted)
    assert status == 200, made
    assert (made["builtin"], made["overridden"], made["template"]) == (False, True, "shop.sent")
    assert (await shared.call("GET", "/types/shop.sent"))[1] == made
    body = plain("shop.sent")
    del body["body"]
    status, problem = await shared.call("POST", "", body)
    assert (status, problem["field"]) == (422, "body")


async def test_the_list_pages_over_built_in_types_and_overrides(shared: Running) -> None:
    await shared.call("PUT", "/types/aaa.first", {})
    seen, cursor = [], ""
    while cursor is not None:
        _, page = await shared.call("GET", f"/types?limit=10&cursor={cursor}")
        seen += [t["name"] for t in page["types"]]
        cursor = page["next_cursor"]
    assert seen == sorted(set(seen))
    assert {"aaa.first", "integration.webhook_disabled", "test_execution.failed"} <= set(seen)


@pytest.mark.parametrize(
    ("method", "body", "field"),
    [
        ("PUT", {"channels": []}, "channels"),
        ("PUT", {"on_unknown": "perhaps"}, "on_unknown"),
        ("PUT", {"colour": "red"}, "colour"),
        ("PATCH", {"priority": None}, "priority"),
        ("PATCH", {"template": "No Key"}, "template"),
    ],
)
async def test_a_wrong_type_is_refused_by_field(shared: Running, method: str, body: Any, field: str) -> None:
    status, problem = await shared.call(method, "/types/system.outage", body)
    assert (status, problem["field"]) == (422, field)


async def test_a_type_that_is_not_there_is_404(shared: Running) -> None:
    assert (await shared.call("GET", "/types/nobody.knows"))[0] == 404
    assert (await shared.call("PATCH", "/types/nobody.knows", {"priority": "low"}))[0] == 404


async def test_no_preference_stands_against_a_transactional_type(shared: Running) -> None:
    user = token("careful", Role.USER)
    wanted = {"mute": True, "types": {"*": {"in_app": False, "email": False}}}
    assert (await shared.call("PUT", "/preferences", wanted, as_=user))[0] == 200
    for kind, status in (("account.locked_out", "accepted"), ("system.resolved", "suppressed")):
        body = message("careful", notification_type=kind, channels=["in_app", "email"])
        assert (await shared.settled(await shared.accept(body)))["status"] == status
