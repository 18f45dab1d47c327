"""History and timeline: every attempt and decision, in order, with a code and a sentence, to whom it concerns."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

from tests.integration.conftest import Running, Start, message, token
from tests.servers.receiver import Answer, Receiver
from tests.servers.smtp import Mailbox

from notification_engine.domain.caller import Role
from notification_engine.wiring import EngineRole

USER = token("u1", Role.USER)


async def history(running: Running, query: str = "", as_: str = USER) -> list[dict[str, object]]:
    await running.engine._announce.drain()
    status, body = await running.call("GET", f"/history{query}", as_=as_)
    assert status == 200, body
    return list(body["attempts"])


async def test_each_attempt_is_a_row_newest_first(running: Running, receiver: Receiver) -> None:
    await running.register(f"{receiver.address}/a")
    receiver.answers.extend([Answer(500), Answer(429)])
    notification_id = await running.accept(message("u1", channels=["webhook"]))
    await running.settled(notification_id)
    rows = await history(running)
    assert [(r["attempt"], r["delivery_status"], r["reason"]) for r in rows] == [
        (3, "delivered", None),
        (2, "pending", "rate_limited"),
        (1, "pending", "server_error"),
    ]
    assert {r["notification_id"] for r in rows} == {notification_id}
    assert all(r["provider"] == "webhook" and isinstance(r["latency_ms"], float) for r in rows)
    assert [r["detail"] for r in rows] == ["HTTP 204", "HTTP 429", "HTTP 500"]


async def test_the_rows_of_an_insert_follow_the_202(running: Running) -> None:
    notification_id = await running.accept(message("u1", recipients=[{"user_id": "u1"}], channels=["in_app", "email"]))
    rows = await history(running)
    found = {r["channel"]: (r["delivery_status"], r["reason"], r["attempt"]) for r in rows}
    assert found == {"in_app": ("delivered", None, 1), "email": ("suppressed", "no_address", 0)}
    assert {r["notification_id"] for r in rows} == {notification_id}


async def test_nobody_sees_anothers_history(running: Running) -> None:
    await running.accept(message("u1"))
    assert len(await history(running)) == 1
    assert await history(running, as_=token("u2", Role.USER)) == []
    for role in (Role.USER, Role.SERVICE):
        status, problem = await running.call("GET", "/history?user_id=u1", as_=token("u2", role))
        assert (status, problem["status"]) == (404, 404)
    assert len(await history(running, "?user_id=u1", token("op", Role.OPERATOR))) == 1
    assert len(await history(running, "?user_id=u1")) == 1


async def test_history_pages_meet_without_gap_or_overlap(running: Running) -> None:
    sent = [await running.accept(message("u1")) for _ in range(7)]
    await running.engine._announce.drain()
    seen: list[str] = []
    path: str | None = "/history?limit=3"
    while path:
        _, body = await running.call("GET", path, as_=USER)
        seen += [a["notification_id"] for a in body["attempts"]]
        path = f"/history?limit=3&cursor={body['next_cursor']}" if body["next_cursor"] else None
    assert seen == sent[::-1]


async def test_a_timeline_tells_the_way_to_a_dead_end(running: Running, mailbox: Mailbox) -> None:
    mailbox.replies.extend(["451 4.3.0 try later"] * 3)
    notification_id = await running.accept(message("u1", channels=["in_app", "email"]))
    await running.settled(notification_id)
    entries = await running.timeline(notification_id)
    assert [(e["code"], e["channel"]) for e in entries] == [
        ("accepted", None),
        ("planned", "in_app"),
        ("planned", "email"),
        ("attempt_delivered", "in_app"),
        ("attempt_pending", "email"),
        ("attempt_pending", "email"),
        ("attempt_failed", "email"),
    ]
    assert [e["attempt"] for e in entries if e["channel"] == "email" and "attempt" in e] == [1, 2, 3]
    assert all(one["timestamp"] <= two["timestamp"] for one, two in pairwise(entries))
    for entry in entries:
        assert entry["text"].endswith(".")
        assert entry["text"][0].isupper()
        assert "@" not in entry["text"], "no address in a sentence"
    assert "server_error" in entries[-1]["text"]


async def test_a_scheduled_one_tells_what_is_planned_before_it_is_sent(start: Start) -> None:
    running = await start(EngineRole.API)
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    notification_id = await running.accept(message("u1", channels=["in_app", "email"], scheduled_at=tomorrow))
    status, body = await running.call("GET", f"/{notification_id}/timeline", as_=USER)
    assert (status, body["status"]) == (200, "scheduled")
    assert [e["code"] for e in body["entries"]] == ["accepted", "planned", "planned"]


async def test_a_timeline_is_for_owner_sender_and_operator(running: Running) -> None:
    sender = token("platform", Role.SERVICE)
    status, answer = await running.call("POST", "", message("u1"), as_=sender)
    assert status == 202
    path = f"/{answer['notifications'][0]['notification_id']}/timeline"
    for allowed in (USER, sender, token("op", Role.OPERATOR), token("root", Role.ADMIN)):
        assert (await running.call("GET", path, as_=allowed))[0] == 200
    for stranger in (token("u2", Role.USER), token("other", Role.SERVICE)):
        status, problem = await running.call("GET", path, as_=stranger)
        assert (status, problem["type"].rpartition(":")[2]) == (404, "not-found")
