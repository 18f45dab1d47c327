"""The inbox, preferences and history, as a user sees them."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.integration.conftest import Running, message, token

from notification_engine.domain.caller import Role

USER = token("u1", Role.USER)


async def ids(running: Running, query: str = "", as_: str = USER) -> list[str]:
    status, answer = await running.call("GET", query, as_=as_)
    assert status == 200, answer
    return [n["notification_id"] for n in answer["notifications"]]


async def unread(running: Running) -> int:
    return int((await running.call("GET", "/unread-count", as_=USER))[1]["unread_count"])


async def test_newest_first_in_pages_that_miss_and_repeat_nothing(running: Running) -> None:
    sent = [await running.accept(message("u1")) for _ in range(7)]
    await running.accept(message("u2"))
    found: list[str] = []
    query = "?limit=3"
    while query:
        status, page = await running.call("GET", query, as_=USER)
        assert status == 200
        found += [n["notification_id"] for n in page["notifications"]]
        query = f"?limit=3&cursor={page['next_cursor']}" if page["next_cursor"] else ""
    assert found == sent[::-1]


async def test_pages_are_linked(running: Running) -> None:
    for _ in range(2):
        await running.accept(message("u1"))
    headers = {"Authorization": f"Bearer {USER}"}
    address = f"{running.address}/api/v1/notifications?limit=1"
    async with running.session.get(address, headers=headers) as answer:
        link = str(answer.links["next"]["url"])
    async with running.session.get(link, headers=headers) as answer:
        assert len((await answer.json())["notifications"]) == 1
        assert "Link" not in answer.headers


async def test_seen_read_unread_archived(running: Running) -> None:
    notification_id = await running.accept(message("u1"))
    assert await unread(running) == 1
    _, shown = await running.call("PATCH", f"/{notification_id}", {"read": True}, as_=USER)
    assert shown["read_at"]
    assert shown["seen_at"]
    assert await unread(running) == 0
    _, again = await running.call("PATCH", f"/{notification_id}", {"read": True}, as_=USER)
    assert again["read_at"] == shown["read_at"]
    _, shown = await running.call("PATCH", f"/{notification_id}", {"read": False}, as_=USER)
    assert shown["read_at"] is None
    assert await unread(running) == 1
    await running.call("PATCH", f"/{notification_id}", {"archived": True}, as_=USER)
    assert await ids(running) == []
    assert await ids(running, "?archived=true") == [notification_id]
    assert await unread(running) == 0


async def test_read_all_counts_what_it_changed(running: Running) -> None:
    for _ in range(3):
        await running.accept(message("u1"))
    await running.accept(message("u2"))
    assert (await running.call("POST", "/read-all", as_=USER))[1] == {"changed": 3}
    assert (await running.call("POST", "/read-all", as_=USER))[1] == {"changed": 0}
    assert await unread(running) == 0
    assert (await running.call("GET", "/unread-count", as_=token("u2", Role.USER)))[1] == {"unread_count": 1}


async def test_a_snoozed_one_leaves_and_comes_back_by_itself(running: Running) -> None:
    notification_id = await running.accept(message("u1"))
    await running.settled(notification_id)
    until = (datetime.now(UTC) + timedelta(seconds=1)).isoformat()
    _, shown = await running.call("PATCH", f"/{notification_id}", {"snoozed_until": until}, as_=USER)
    assert shown["snoozed_until"]
    assert await ids(running) == []
    ticket = (await running.call("POST", "/ws/ticket", as_=USER))[1]["ticket"]
    async with running.session.ws_connect(f"{running.address}/api/v1/notifications/ws?ticket={ticket}") as socket:
        while (frame := await socket.receive_json(timeout=10))["type"] != "notification":
            continue
        assert frame["notification"]["notification_id"] == notification_id
    assert await ids(running) == [notification_id]


@pytest.mark.parametrize(
    "change", [{}, {"read": "perhaps"}, {"title": "x"}, {"snoozed_until": "2020-01-01T00:00:00Z"}, {"seen": False}]
)
async def test_a_bad_change_is_refused(shared: Running, change: dict[str, Any]) -> None:
    notification_id = await shared.accept(message("u1"))
    status, problem = await shared.call("PATCH", f"/{notification_id}", change, as_=USER)
    assert status == 422, problem
    assert problem["errors"]


async def test_filters(running: Running) -> None:
    one = await running.accept(message("u1", notification_type="mail.arrived", priority="high"))
    two = await running.accept(message("u1"))
    await running.call("PATCH", f"/{two}", {"read": True}, as_=USER)
    assert await ids(running, "?unread=true") == [one]
    assert await ids(running, "?notification_type=mail.arrived") == [one]
    assert await ids(running, "?priority=high") == [one]
    assert await ids(running, "?status=delivered") == [two, one]
    soon = (datetime.now(UTC) + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert await ids(running, f"?since={soon}") == []
    assert await ids(running, f"?until={soon}") == [two, one]


@pytest.mark.parametrize("query", ["?limit=0", "?limit=101", "?cursor=zzz", "?status=odd", "?since=never"])
async def test_a_bad_query_is_refused_by_name(shared: Running, query: str) -> None:
    status, problem = await shared.call("GET", query, as_=USER)
    assert status == 422
    assert problem["errors"][0]["field"] == query[1:].partition("=")[0]


async def test_an_id_that_is_none_is_not_found(shared: Running) -> None:
    for notification_id in ("nothing", "ntfy_" + "0" * 26, "ntfy_x~"):
        assert (await shared.call("GET", f"/{notification_id}"))[0] == 404


async def test_preferences_suppress_with_their_reason(running: Running) -> None:
    wanted = {"mute": False, "types": {"test.*": {"email": False}, "test.urgent": {"email": True}}}
    status, stored = await running.call("PUT", "/preferences", wanted, as_=USER)
    assert (status, stored["types"]) == (200, wanted["types"])
    assert (await running.call("GET", "/preferences", as_=USER))[1] == stored
    off = await running.settled(await running.accept(message("u1", channels=["in_app", "email"])))
    on = await running.settled(await running.accept(message("u1", notification_type="test.urgent", channels=["email"])))
    assert [(d["channel"], d["status"], d["reason"]) for d in off["deliveries"]] == [
        ("in_app", "delivered", None),
        ("email", "suppressed", "preference_off"),
    ]
    assert on["deliveries"][0]["status"] == "accepted"
    await running.call("PUT", "/preferences", {"mute": True}, as_=USER)
    muted = await running.settled(await running.accept(message("u1", channels=["in_app", "email"])))
    assert {(d["status"], d["reason"]) for d in muted["deliveries"]} == {("suppressed", "muted")}
    entries = await running.timeline(muted["notification_id"])
    assert any("muted" in e["code"] or "mute" in e["text"].lower() for e in entries)


async def test_preferences_belong_to_the_user(shared: Running) -> None:
    assert (await shared.call("GET", "/preferences?user_id=other", as_=USER))[0] == 404
    assert (await shared.call("PUT", "/preferences?user_id=other", {"mute": True}, as_=USER))[0] == 404
    assert (await shared.call("GET", "/preferences?user_id=other"))[0] == 200
    status, problem = await shared.call("PUT", "/preferences", {"types": {"a b": {"email": True}}}, as_=USER)
    assert (status, problem["status"]) == (422, 422)


async def test_history_shows_what_was_sent_and_what_was_not(running: Running) -> None:
    first = await running.accept(message("u1", channels=["in_app", "email"]))
    await running.settled(first)
    second = await running.accept(message(recipients=[{"user_id": "u1"}], channels=["email"]))
    await running.settled(second)
    _, page = await running.call("GET", "/history", as_=USER)
    rows = {(a["notification_id"], a["channel"], a["delivery_status"], a["reason"]) for a in page["attempts"]}
    assert rows == {
        (first, "in_app", "delivered", None),
        (first, "email", "accepted", None),
        (second, "email", "suppressed", "no_address"),
    }
    assert (await running.call("GET", "/history?user_id=u2", as_=USER))[0] in {403, 404}
    _, small = await running.call("GET", "/history?limit=2", as_=USER)
    _, rest = await running.call("GET", f"/history?limit=2&cursor={small['next_cursor']}", as_=USER)
    assert [len(small["attempts"]), len(rest["attempts"])] == [2, 1]
    assert small["attempts"] + rest["attempts"] == page["attempts"]
