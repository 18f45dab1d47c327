"""What is accepted, what is refused, and that a refusal stores nothing."""

import asyncio
from typing import Any

import pytest
from tests.integration.conftest import API, SECRET, Running, Start, message, token

from notification_engine.domain.caller import Role


async def stored(running: Running) -> int:
    return await running.engine.database.collection("notifications").count_documents({})


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"colour": "red"}, "colour"),
        ({"notification_type": "oneword"}, "notification_type"),
        ({"notification_type": 7}, "notification_type"),
        ({"title": ""}, "title"),
        ({"title": "   "}, "title"),
        ({"title": "a\nb"}, "title"),
        ({"title": None}, "title"),
        ({"body": 5}, "body"),
        ({"data": {"x": "y" * 17_000}}, "data"),
        ({"data": {"a.b": 1}}, "data"),
        ({"data": {"$set": 1}}, "data"),
        ({"data": {"n": 2**70}}, "data"),
        ({"data": []}, "data"),
        ({"priority": "enormous"}, "priority"),
        ({"channels": []}, "channels"),
        ({"channels": ["pigeon"]}, "channels.0"),
        ({"channels": ["email", "email"]}, "channels"),
        ({"channels": ["in_app", "websocket"]}, "channels"),
        ({"scheduled_at": "tomorrow"}, "scheduled_at"),
        ({"scheduled_at": "2026-01-01T00:00:00"}, "scheduled_at"),
        ({"expires_at": "2020-01-01T00:00:00Z"}, "expires_at"),
        ({"recipients": []}, "recipients"),
        ({"recipients": [{"user_id": "a"}, {"user_id": "a"}]}, "recipients"),
        ({"recipients": [{"user_id": "a", "email": "nobody"}]}, "recipients.0.email"),
        ({"recipients": [{"user_id": ""}]}, "recipients.0.user_id"),
        ({"recipients": [{"user_id": f"u{i}"} for i in range(1001)]}, "recipients"),
        ({"actions": [{"label": "x", "url": "javascript:alert(1)"}]}, "actions.0.url"),
    ],
)
async def test_a_fault_is_422_naming_its_field_and_stores_nothing(
    shared: Running, change: dict[str, Any], field: str
) -> None:
    before = await stored(shared)
    status, problem = await shared.call("POST", "", message() | change)
    assert status == 422, problem
    assert problem["status"] == 422
    assert problem["type"]
    assert field in [e["field"] for e in problem["errors"]]
    assert await stored(shared) == before


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"title": NaN}',
        b'{"notification_type":"a.b","recipients":[{"user_id":"u"}],"title":"\\ud800","body":""}',
        b"[" * 100_000,
        b'{"data":' * 50_000,
        b"\xff\xfe",
        b'{"notification_type":"a.b","recipients":[{"user_id":"u"}],"title":"t","body":"","data":{"a":1e999}}',
    ],
)
async def test_what_is_not_good_json_is_a_problem_and_never_an_error_of_ours(shared: Running, raw: bytes) -> None:
    before = await stored(shared)
    headers = {"Authorization": f"Bearer {token()}", "Content-Type": "application/json"}
    async with shared.session.post(shared.address + API, data=raw, headers=headers) as answer:
        assert answer.status in {400, 422}
        assert answer.content_type == "application/problem+json"
    assert await stored(shared) == before


async def test_over_one_mebibyte_is_413_before_it_is_parsed(shared: Running) -> None:
    headers = {"Authorization": f"Bearer {token()}", "Content-Type": "application/json"}
    async with shared.session.post(shared.address + API, data=b"{" * (1024 * 1024 + 1), headers=headers) as answer:
        assert answer.content_type == "application/problem+json"
        problem = await answer.json(content_type=None)
    assert (answer.status, problem["type"]) == (413, "urn:notification-engine:problem:too-large")
    assert problem["detail"] == "The body must be at most 1048576 bytes."


async def test_a_body_without_a_length_is_bounded_too(shared: Running) -> None:
    async def chunks() -> Any:
        for _ in range(40):
            yield b"x" * 65_536

    headers = {"Authorization": f"Bearer {token()}", "Content-Type": "application/json"}
    async with shared.session.post(shared.address + API, data=chunks(), headers=headers) as answer:
        assert answer.status == 413


async def test_recipients_channels_override_the_requests_and_those_the_types(shared: Running) -> None:
    recipients = [
        {"user_id": "a", "channels": ["in_app"]},
        {"user_id": "b", "email": "b@example.org"},
        {"user_id": "c", "channels": ["websocket"]},
    ]
    status, answer = await shared.call("POST", "", message(recipients=recipients, channels=["email"]))
    assert status == 202
    shown = [await shared.settled(n["notification_id"]) for n in answer["notifications"]]
    assert [[d["channel"] for d in s["deliveries"]] for s in shown] == [["in_app"], ["email"], ["in_app"]]
    plain = message()
    del plain["channels"]
    shown_plain = await shared.settled(await shared.accept(plain))
    assert "in_app" in [d["channel"] for d in shown_plain["deliveries"]]


async def test_a_missing_address_is_suppressed_with_its_reason(shared: Running) -> None:
    shown = await shared.settled(await shared.accept(message(recipients=[{"user_id": "a"}], channels=["email"])))
    assert [(d["status"], d["reason"]) for d in shown["deliveries"]] == [("suppressed", "no_address")]
    assert shown["status"] == "suppressed"


async def test_no_endpoint_is_suppressed_with_its_reason(running: Running) -> None:
    shown = await running.settled(await running.accept(message(channels=["webhook"])))
    assert [(d["status"], d["reason"]) for d in shown["deliveries"]] == [("suppressed", "no_endpoint")]


async def test_a_thousand_recipients_are_one_event(running: Running) -> None:
    status, answer = await running.call("POST", "", message(*(f"u{i}" for i in range(1000))))
    assert status == 202
    assert len({n["notification_id"] for n in answer["notifications"]}) == 1000
    assert await stored(running) == 1000


@pytest.mark.timeout(400)  # 20,000 requests and their client on one core
async def test_a_thousand_keys_sent_twenty_times_each_are_a_thousand_notifications(running: Running) -> None:
    gate = asyncio.Semaphore(64)

    async def once(key: int) -> tuple[int, str]:
        async with gate:
            status, answer = await running.call("POST", "", message(f"u{key}"), Idempotency_Key=f"key-{key}")
            return status, answer["notifications"][0]["notification_id"]

    results = await asyncio.gather(*(once(key) for _ in range(20) for key in range(1000)))
    assert {status for status, _ in results} == {202}
    assert len({notification_id for _, notification_id in results}) == 1000
    assert await stored(running) == 1000


async def test_a_key_with_another_body_is_refused_and_keys_belong_to_the_caller(running: Running) -> None:
    first = token("caller-1", Role.SERVICE)
    second = token("caller-2", Role.SERVICE)
    status, one = await running.call("POST", "", message("a"), as_=first, Idempotency_Key="k")
    assert status == 202
    status, problem = await running.call("POST", "", message("b"), as_=first, Idempotency_Key="k")
    assert (status, problem["errors"][0]["field"]) == (422, "Idempotency-Key")
    status, other = await running.call("POST", "", message("a"), as_=second, Idempotency_Key="k")
    assert status == 202
    assert other["event_id"] != one["event_id"]
    assert await stored(running) == 2


async def test_a_key_over_several_recipients_answers_the_same_event_again(running: Running) -> None:
    body = message("a", "b", "c")
    answers = [await running.call("POST", "", body, Idempotency_Key="k") for _ in range(3)]
    assert answers[0] == answers[1] == answers[2]
    assert await stored(running) == 3


async def test_a_batch_answers_for_each_item(running: Running) -> None:
    items = [message("a"), message("b") | {"title": ""}, message("c", idempotency_key="k"), "no object"]
    status, answer = await running.call("POST", "/batch", {"notifications": items[:3]})
    assert status == 207
    assert [r["status"] for r in answer["results"]] == [202, 422, 202]
    assert [r["index"] for r in answer["results"]] == [0, 1, 2]
    assert answer["results"][1]["problem"]["errors"][0]["field"] == "title"
    status, again = await running.call("POST", "/batch", {"notifications": [items[2]]})
    assert status == 202
    assert again["results"][0]["event_id"] == answer["results"][2]["event_id"]
    assert await stored(running) == 2
    status, problem = await running.call("POST", "/batch", {"notifications": items})
    assert status == 422
    assert problem["errors"][0]["field"] == "notifications.3"
    assert await stored(running) == 2


async def test_the_same_key_twice_in_one_batch_is_one_notification(running: Running) -> None:
    item = message("a", idempotency_key="k")
    status, answer = await running.call("POST", "/batch", {"notifications": [item, item]})
    assert status == 202
    assert answer["results"][0]["event_id"] == answer["results"][1]["event_id"]
    assert await stored(running) == 1


async def test_a_batch_is_bounded(shared: Running) -> None:
    many = message(*(f"u{i}" for i in range(1000)))
    status, problem = await shared.call("POST", "/batch", {"notifications": [many] * 11})
    assert (status, problem["errors"][0]["field"]) == (422, "notifications")
    status, problem = await shared.call("POST", "/batch", {"notifications": [message("a")] * 1001})
    assert (status, problem["errors"][0]["field"]) == (422, "notifications")
    headers = {"Authorization": f"Bearer {token()}", "Content-Type": "application/json"}
    large = b" " * (8 * 1024 * 1024 + 1)
    async with shared.session.post(f"{shared.address}{API}/batch", data=large, headers=headers) as answer:
        assert answer.status == 413


@pytest.mark.parametrize(
    ("header", "status"),
    [({}, 401), ({"Authorization": "Bearer x.y.z"}, 401), ({"Authorization": "Basic eDp5"}, 401)],
)
async def test_who_is_not_known_is_401_with_a_challenge(shared: Running, header: dict[str, str], status: int) -> None:
    async with shared.session.post(shared.address + API, json=message(), headers=header) as answer:
        assert answer.status == status
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
        assert SECRET not in await answer.text()


async def test_roles_decide_who_may_send(shared: Running) -> None:
    status, problem = await shared.call("POST", "", message(), as_=token("u", Role.USER))
    assert (status, problem["status"]) == (403, 403)
    status, _ = await shared.call("POST", "/webhooks", {"url": "https://x.example"}, as_=token("u", Role.SERVICE))
    assert status == 403


async def test_another_users_notification_is_not_there(shared: Running) -> None:
    notification_id = await shared.accept(message("owner"))
    stranger = token("stranger", Role.USER)
    for method, path, body in [
        ("GET", f"/{notification_id}", None),
        ("PATCH", f"/{notification_id}", {"read": True}),
        ("GET", f"/{notification_id}/timeline", None),
    ]:
        status, problem = await shared.call(method, path, body, as_=stranger)
        assert (status, problem["status"]) == (404, 404), path
    assert (await shared.call("GET", f"/{notification_id}", as_=token("owner", Role.USER)))[0] == 200


async def test_a_request_id_is_echoed_and_a_bad_one_replaced(shared: Running) -> None:
    for given, kept in [("job-42", True), ("a b", False), ("x" * 300, False)]:
        headers = {"Authorization": f"Bearer {token()}", "X-Request-ID": given}
        async with shared.session.get(f"{shared.address}{API}/unread-count", headers=headers) as answer:
            assert (answer.headers["X-Request-ID"] == given) is kept
            assert answer.headers["X-Request-ID"]


async def test_scheduled_is_sent_when_it_is_due_and_expired_never(running: Running) -> None:
    from datetime import UTC, datetime, timedelta

    soon = (datetime.now(UTC) + timedelta(seconds=0.6)).isoformat()
    notification_id = await running.accept(message("a", scheduled_at=soon))
    _, shown = await running.call("GET", f"/{notification_id}")
    assert shown["status"] == "scheduled"
    assert (await running.call("GET", "", as_=token("a", Role.USER)))[1]["notifications"] == []
    assert (await running.settled(notification_id))["status"] == "delivered"
    inbox = (await running.call("GET", "", as_=token("a", Role.USER)))[1]["notifications"]
    assert [n["notification_id"] for n in inbox] == [notification_id]


async def test_past_the_bound_of_requests_under_way_is_503_and_health_still_answers(start: Start) -> None:
    running = await start(HTTP_MAX_IN_FLIGHT=2)
    held, release = asyncio.Semaphore(0), asyncio.Event()
    insert = running.engine.notifications.insert_each

    async def slow(documents: Any) -> Any:
        held.release()
        await release.wait()
        return await insert(documents)

    running.engine.notifications.insert_each = slow  # type: ignore[method-assign]
    under_way = [asyncio.create_task(running.call("POST", "", message())) for _ in range(2)]
    for _ in under_way:
        await held.acquire()
    headers = {"Authorization": f"Bearer {token()}"}
    async with running.session.post(running.address + API, json=message(), headers=headers) as refused:
        assert (refused.status, refused.headers["Retry-After"]) == (503, "1")
        assert (await refused.json(content_type=None))["title"] == "Unavailable"
    async with running.session.get(f"{running.address}/health") as answer:
        assert answer.status == 200
    release.set()
    assert [status for status, _ in await asyncio.gather(*under_way)] == [202, 202]
