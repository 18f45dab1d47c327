"""The recipient's choices: mute, types and patterns, the most specific wins, and what was not sent says why."""

from collections.abc import Mapping
from typing import Any

import pytest
from tests.integration.conftest import Running, message, token

from notification_engine.domain.caller import Role

USER = token("u1", Role.USER)


async def put(running: Running, as_: str = USER, **preferences: Any) -> dict[str, Any]:
    status, body = await running.call("PUT", "/preferences", preferences, as_=as_)
    assert status == 200, body
    return dict(body)


async def outcome(running: Running, notification_type: str = "test.message") -> dict[str, tuple[str, str | None]]:
    """By channel: the status and reason that a notification to u1 by both channels ended with."""
    body = message("u1", notification_type=notification_type, channels=["in_app", "email"])
    shown = await running.settled(await running.accept(body))
    return {d["channel"]: (d["status"], d["reason"]) for d in shown["deliveries"]}


async def test_nothing_is_stored_and_everything_is_on_at_first(running: Running) -> None:
    status, body = await running.call("GET", "/preferences", as_=USER)
    assert (status, body) == (200, {"user_id": "u1", "mute": False, "types": {}, "updated_at": None})
    assert await outcome(running) == {"in_app": ("delivered", None), "email": ("accepted", None)}


async def test_a_put_replaces_the_whole_and_is_read_back(running: Running) -> None:
    types = {"test.*": {"email": False}, "test.message": {"in_app": False, "webhook": True}}
    first = await put(running, mute=True, types=types)
    assert (first["mute"], first["types"], bool(first["updated_at"])) == (True, types, True)
    assert (await running.call("GET", "/preferences", as_=USER))[1] == first
    second = await put(running)
    assert (second["mute"], second["types"]) == (False, {})


async def test_mute_stops_everything_and_says_so(running: Running) -> None:
    await put(running, mute=True)
    muted = ("suppressed", "muted")
    assert await outcome(running) == {"in_app": muted, "email": muted}
    assert (await running.call("GET", "", as_=USER))[1]["notifications"] == []
    assert (await running.call("GET", "/unread-count", as_=USER))[1] == {"unread_count": 0}
    await put(running, mute=False)
    assert (await outcome(running))["in_app"] == ("delivered", None)


OFF = ("suppressed", "preference_off")
ON = ("accepted", None)


@pytest.mark.parametrize(
    ("types", "notification_type", "email"),
    [
        ({"test.message": False}, "test.message", OFF),
        ({"test.message": False}, "test.messages", ON),
        ({"test.*": False}, "test.message", OFF),
        ({"test.*": False}, "test.message.deep", OFF),
        ({"test.*": False}, "testing.message", ON),
        ({"*": False}, "test.message", OFF),
        ({"*": False, "test.*": True}, "test.message", ON),
        ({"test.*": False, "test.message": True}, "test.message", ON),
        ({"test.*": True, "test.message": False}, "test.message", OFF),
        ({"test.*": False, "test.run.*": True}, "test.run.passed", ON),
        ({"test.run.*": False, "test.*": True}, "test.run.passed", OFF),
        ({"other.*": False}, "test.message", ON),
    ],
)
async def test_the_most_specific_word_on_a_channel_decides(
    running: Running, types: Mapping[str, bool], notification_type: str, email: tuple[str, str | None]
) -> None:
    await put(running, types={pattern: {"email": on} for pattern, on in types.items()})
    assert await outcome(running, notification_type) == {"in_app": ("delivered", None), "email": email}


async def test_silence_about_a_channel_leaves_the_word_to_the_wider_pattern(running: Running) -> None:
    await put(running, types={"*": {"email": False}, "test.message": {"in_app": False}})
    assert await outcome(running) == {"in_app": OFF, "email": OFF}


async def test_what_was_not_sent_says_why_in_timeline_and_history(running: Running) -> None:
    await put(running, types={"test.*": {"email": False}})
    notification_id = await running.accept(message("u1", channels=["in_app", "email"]))
    await running.settled(notification_id)
    await running.engine._announce.drain()
    entries = await running.timeline(notification_id)
    [decision] = [e for e in entries if e["code"] == "suppressed_preference_off"]
    assert decision["channel"] == "email"
    assert decision["text"] == "The recipient switched email off for test.*."
    _, history = await running.call("GET", "/history", as_=USER)
    rows = {r["channel"]: (r["delivery_status"], r["reason"]) for r in history["attempts"]}
    assert rows == {"in_app": ("delivered", None), "email": OFF}


async def test_a_choice_binds_its_own_user_alone(running: Running) -> None:
    await put(running, mute=True)
    status, answer = await running.call("POST", "", message("u1", "u2"))
    assert status == 202
    assert {n["user_id"]: n["status"] for n in answer["notifications"]} == {"u1": "suppressed", "u2": "delivered"}


async def test_anothers_are_for_operators(running: Running) -> None:
    await put(running, mute=True)
    for role in (Role.USER, Role.SERVICE):
        stranger = token("stranger", role)
        assert (await running.call("GET", "/preferences?user_id=u1", as_=stranger))[0] == 404
        assert (await running.call("PUT", "/preferences?user_id=u1", {"mute": False}, as_=stranger))[0] == 404
    operator = token("op", Role.OPERATOR)
    status, body = await running.call("GET", "/preferences?user_id=u1", as_=operator)
    assert (status, body["user_id"], body["mute"]) == (200, "u1", True)
    status, body = await running.call("PUT", "/preferences?user_id=u1", {"mute": False}, as_=operator)
    assert (status, body["user_id"]) == (200, "u1")
    assert (await running.call("GET", "/preferences", as_=USER))[1]["mute"] is False
    assert (await running.call("GET", "/preferences", as_=operator))[1]["user_id"] == "op"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"colour": "red"}, "colour"),
        ({"mute": "perhaps"}, "mute"),
        ({"types": {"Test.*": {"email": False}}}, "types.Test.*"),
        ({"types": {"*.message": {"email": False}}}, "types.*.message"),
        ({"types": {"test.*": {"pigeon": False}}}, "types.test.*.pigeon"),
        ({"types": {"test.*": {"email": None}}}, "types.test.*.email"),
        ({"types": {f"test.t{i}": {"email": False} for i in range(201)}}, "types"),
        ([], ""),
    ],
)
async def test_a_fault_names_its_field_and_changes_nothing(running: Running, body: Any, field: str) -> None:
    before = await put(running, mute=True)
    status, problem = await running.call("PUT", "/preferences", body, as_=USER)
    assert status == 422
    assert any(e["field"].startswith(field) for e in problem["errors"]), problem["errors"]
    assert (await running.call("GET", "/preferences", as_=USER))[1] == before


async def test_websocket_is_another_word_for_in_app(running: Running) -> None:
    await put(running, types={"*": {"websocket": False}})
    assert (await outcome(running))["in_app"] == OFF
