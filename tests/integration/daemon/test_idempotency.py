"""Idempotency keys: the guard first, followers derived from it, completed by a retry, a day of life."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from tests.integration.conftest import Running, Start, message, token

from notification_engine.daemon.janitor import Janitor
from notification_engine.domain.caller import Role
from notification_engine.kit.ids import derived_ulid
from notification_engine.storage.walk import Walk


async def _documents(running: Running) -> list[dict[str, Any]]:
    return [d async for d in running.engine.database.majority("notifications").find(sort=[("_id", 1)])]


async def _rows(running: Running, ids: list[str]) -> set[str]:
    found = running.engine.database.majority("notification_history").find({"notification_id": {"$in": ids}})
    return {row["notification_id"] async for row in found}


async def _only_the_guard(running: Running) -> None:
    """As after the death of a process between the guard and its followers."""
    gone = {"idempotency.key": {"$exists": False}}
    await running.engine.database.collection("notifications").delete_many(gone)
    assert len(await _documents(running)) == 1


async def _aged(running: Running, hours: float) -> None:
    at = running.engine.clock.now() - timedelta(hours=hours)
    await running.engine.database.collection("notifications").update_many({}, {"$set": {"created_at": at}})


async def test_only_the_guard_holds_the_key_and_the_others_ids_follow_from_its(running: Running) -> None:
    _, answer = await running.call("POST", "", message("a", "b", "c"), Idempotency_Key="k")
    ids = [n["notification_id"] for n in answer["notifications"]]
    ulid = ids[0].removeprefix("ntfy_")
    assert ids[1:] == [f"ntfy_{derived_ulid(ulid, index)}" for index in (1, 2)]
    assert [d["_id"] for d in await _documents(running) if "idempotency" in d] == ids[:1]


async def test_a_retry_completes_what_a_death_left_half_done(running: Running) -> None:
    body = message("a", "b", "c", "d", channels=["in_app", "email"])
    status, first = await running.call("POST", "", body, Idempotency_Key="k")
    assert status == 202
    await _only_the_guard(running)
    assert await running.call("POST", "", body, Idempotency_Key="k") == (202, first)
    documents = {d["_id"]: d["user_id"] for d in await _documents(running)}
    assert documents == {n["notification_id"]: n["user_id"] for n in first["notifications"]}
    for one in first["notifications"]:
        shown = await running.settled(one["notification_id"])
        assert [d["status"] for d in shown["deliveries"]] == ["delivered", "accepted"]


async def test_what_a_late_retry_completed_has_its_history(running: Running) -> None:
    """The janitor's watermark has passed the ids of the guard's moment by then."""
    body = message("a", "b", "c")
    _, first = await running.call("POST", "", body, Idempotency_Key="k")
    ids = [n["notification_id"] for n in first["notifications"]]
    await running.engine._announce.drain()
    await _only_the_guard(running)
    await running.engine.database.collection("notification_history").delete_many({})
    walk = Walk(running.engine.database, "history")
    await walk.advance("ntfy_z")
    await running.call("POST", "", body, Idempotency_Key="k")
    await running.engine._announce.drain()
    await Janitor(walk, running.engine.history, running.engine.clock).run_once()
    assert await _rows(running, ids) >= set(ids[1:])


async def test_a_retry_says_nothing_new_of_what_is_stored_already(running: Running) -> None:
    """The plan of today, after a change of preferences, is not what happened then."""
    body = message("a", "b")
    _, first = await running.call("POST", "", body, Idempotency_Key="k")
    follower = first["notifications"][1]["notification_id"]
    status, _ = await running.call("PUT", "/preferences?user_id=b", {"mute": True})
    assert status == 200
    assert (await running.call("POST", "", body, Idempotency_Key="k"))[1] == first
    await running.engine._announce.drain()
    assert [e["code"] for e in await running.timeline(follower) if e["code"].startswith("attempt")] == [
        "attempt_delivered"
    ]


async def test_the_same_key_at_once_on_two_engines_is_one_event(start: Start) -> None:
    engines = [await start(), await start()]
    body = message("a", "b", "c")
    calls = [engines[i % 2].call("POST", "", body, Idempotency_Key="k") for i in range(60)]
    answers = await asyncio.gather(*calls)
    assert all(answer == answers[0] for answer in answers)
    assert answers[0][0] == 202
    assert len(await _documents(engines[0])) == 3


async def test_a_key_is_reusable_after_a_day_and_not_before(running: Running) -> None:
    _, first = await running.call("POST", "", message("a"), Idempotency_Key="k")
    await _aged(running, 23.9)
    assert (await running.call("POST", "", message("b"), Idempotency_Key="k"))[0] == 422
    assert (await running.call("POST", "", message("a"), Idempotency_Key="k"))[1] == first
    await _aged(running, 24.1)
    status, second = await running.call("POST", "", message("b"), Idempotency_Key="k")
    assert status == 202
    assert second["event_id"] != first["event_id"]
    assert (await running.call("POST", "", message("b"), Idempotency_Key="k"))[1] == second
    assert [d["_id"] for d in await _documents(running) if "idempotency" in d] == [
        second["notifications"][0]["notification_id"]
    ]


async def test_an_old_key_reused_by_many_at_once_is_one_event(running: Running) -> None:
    await running.call("POST", "", message("a"), Idempotency_Key="k")
    await _aged(running, 25)
    answers = await asyncio.gather(*(running.call("POST", "", message("b"), Idempotency_Key="k") for _ in range(30)))
    assert {status for status, _ in answers} == {202}
    assert len({answer["event_id"] for _, answer in answers}) == 1
    assert len(await _documents(running)) == 2


async def test_another_body_is_refused_and_stores_nothing(running: Running) -> None:
    await running.call("POST", "", message("a"), Idempotency_Key="k")
    for other in (message("b"), message("a", "b"), message("a", title="Other"), message("a", priority="high")):
        status, problem = await running.call("POST", "", other, Idempotency_Key="k")
        assert (status, problem["errors"][0]["field"]) == (422, "Idempotency-Key")
    assert len(await _documents(running)) == 1


async def test_keys_belong_to_the_caller(running: Running) -> None:
    callers = [token(f"caller-{i}", Role.SERVICE) for i in range(3)]
    answers = [await running.call("POST", "", message("a"), as_=one, Idempotency_Key="k") for one in callers]
    assert len({answer["event_id"] for _, answer in answers}) == 3
    documents = await _documents(running)
    assert len({d["idempotency"]["key"] for d in documents}) == 3
    assert "k" not in {d["idempotency"]["key"] for d in documents}


async def test_what_a_retry_completes_has_the_attachments_of_the_request(running: Running) -> None:
    attachment = {"filename": "report.txt", "content_type": "text/plain", "content": "aGVsbG8="}
    body = message("a", "b", channels=["email"], attachments=[attachment])
    await running.call("POST", "", body, Idempotency_Key="k")
    await _only_the_guard(running)
    assert (await running.call("POST", "", body, Idempotency_Key="k"))[0] == 202
    first, second = [d["attachments"] for d in await _documents(running)]
    assert first == second


async def test_what_reuses_an_old_key_is_handed_to_the_lanes_at_once(running: Running) -> None:
    """Its first write meets the old key and gives its lease up; the second needs another one."""
    body = message("a", channels=["email"])
    await running.call("POST", "", body, Idempotency_Key="k")
    await _aged(running, 25)
    _, second = await running.call("POST", "", body, Idempotency_Key="k")
    [one] = second["notifications"]
    await running.settled(one["notification_id"])
    [document] = [d for d in await _documents(running) if d["_id"] == one["notification_id"]]
    assert document["lease"]["fence"] == 1


async def test_a_repeat_is_answered_before_anything_is_rendered_or_written_for_it(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = message("a", notification_type="quality.report_ready")
    del body["title"], body["body"]
    status, first = await running.call("POST", "", body, Idempotency_Key="k")
    assert status == 202
    monkeypatch.setattr(running.engine.renderer, "render", _never)
    monkeypatch.setattr(running.engine.notifications, "insert_each", _never)
    assert await running.call("POST", "", body, Idempotency_Key="k") == (202, first)
    status, problem = await running.call("POST", "", body | {"priority": "high"}, Idempotency_Key="k")
    assert (status, problem["errors"][0]["field"]) == (422, "Idempotency-Key")


async def _never(*_: Any) -> None:
    raise AssertionError("a repeat asked for it")
