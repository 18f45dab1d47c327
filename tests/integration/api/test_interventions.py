"""What people do to deliveries: cancel, replay, discard, recover."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.integration.conftest import Running, Start, message, token
from tests.servers.receiver import Answer, Receiver
from tests.servers.smtp import CUT, Mailbox

from notification_engine.domain.caller import Role

OPERATOR = token("op", Role.OPERATOR)


def later(seconds: float = 3600) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()


async def dead_webhook(running: Running, receiver: Receiver, path: str = "/a", **fields: Any) -> tuple[str, str, str]:
    """A webhook delivery that its receiver refused for good: endpoint, notification, delivery."""
    endpoint = await running.register(receiver.address + path, fields.get("notification_type", "test.message"))
    receiver.answers.append(Answer(400))
    notification_id = await running.accept(message(channels=["webhook"], **fields))
    shown = await running.settled(notification_id)
    assert shown["deliveries"][0]["status"] == "failed"
    return endpoint["webhook_id"], notification_id, shown["deliveries"][0]["delivery_id"]


async def listed(running: Running, query: str = "") -> list[str]:
    status, page = await running.call("GET", f"/dead-letters{query}", as_=OPERATOR)
    assert status == 200, page
    return [letter["delivery_id"] for letter in page["dead_letters"]]


async def test_what_is_scheduled_can_be_cancelled_and_is_never_sent(running: Running, mailbox: Mailbox) -> None:
    notification_id = await running.accept(message(channels=["in_app", "email"], scheduled_at=later()))
    status, cancelled = await running.call("POST", f"/{notification_id}/cancel")
    assert (status, cancelled["status"]) == (200, "cancelled")
    assert {d["status"] for d in cancelled["deliveries"]} == {"cancelled"}
    assert [e["code"] for e in await running.timeline(notification_id)][-2:] == ["cancelled", "cancelled"]
    status, again = await running.call("POST", f"/{notification_id}/cancel")
    assert (status, again["status"]) == (200, "cancelled")
    assert mailbox.messages == []
    collection = running.engine.database.collection("notifications")
    document = await collection.find_one({"_id": notification_id})
    assert document is not None
    assert "due_at" not in document


async def test_a_cancel_raises_the_fence(running: Running) -> None:
    notification_id = await running.accept(message(channels=["webhook"], scheduled_at=later()))
    await running.register("http://127.0.0.1:9/none", "test.message")
    second = await running.accept(message(channels=["webhook"], scheduled_at=later()))
    collection = running.engine.database.collection("notifications")
    before = await collection.find_one({"_id": second})
    await running.call("POST", f"/{second}/cancel")
    after = await collection.find_one({"_id": second})
    assert before is not None
    assert after is not None
    assert after["lease"]["fence"] == before["lease"]["fence"] + 1
    status, problem = await running.call("POST", f"/{notification_id}/cancel")
    assert (status, problem["title"]) == (409, "Conflict")  # suppressed: no endpoint wanted it


@pytest.mark.parametrize(("caller", "expected"), [(token("other", Role.SERVICE), 404), (token("dev", Role.USER), 403)])
async def test_only_its_sender_or_an_operator_cancels(running: Running, caller: str, expected: int) -> None:
    notification_id = await running.accept(message(scheduled_at=later()))
    assert (await running.call("POST", f"/{notification_id}/cancel", as_=caller))[0] == expected
    assert (await running.call("POST", f"/{notification_id}/cancel", as_=OPERATOR))[0] == 200


async def test_what_is_being_sent_is_not_cancelled(running: Running, receiver: Receiver) -> None:
    await running.register(f"{receiver.address}/slow", "test.message")
    receiver.answers.append(Answer(delay_seconds=1.0))
    notification_id = await running.accept(message(channels=["webhook"]))
    await receiver.received(1)
    status, problem = await running.call("POST", f"/{notification_id}/cancel")
    assert (status, problem["status"]) == (409, 409)
    assert (await running.settled(notification_id))["status"] == "delivered"
    status, _ = await running.call("POST", f"/{notification_id}/cancel")
    assert status == 409


async def test_a_failed_delivery_is_a_dead_letter_with_its_history(running: Running, receiver: Receiver) -> None:
    endpoint, notification_id, delivery_id = await dead_webhook(running, receiver)
    status, page = await running.call("GET", "/dead-letters", as_=OPERATOR)
    assert status == 200
    (letter,) = page["dead_letters"]
    assert (letter["delivery_id"], letter["endpoint"], letter["reason"]) == (delivery_id, endpoint, "refused")
    status, inspected = await running.call("GET", f"/dead-letters/{delivery_id}", as_=OPERATOR)
    assert inspected["notification"]["notification_id"] == notification_id
    assert [row["delivery_status"] for row in inspected["history"]] == ["failed"]


async def test_a_replay_keeps_the_delivery_id_and_is_audited(running: Running, receiver: Receiver) -> None:
    _, notification_id, delivery_id = await dead_webhook(running, receiver)
    status, done = await running.call("POST", "/dead-letters/replay", {"delivery_ids": [delivery_id]}, as_=OPERATOR)
    assert (status, done) == (200, {"changed": 1, "skipped": 0, "more": False})
    shown = await running.settled(notification_id)
    assert (shown["status"], shown["deliveries"][0]["attempts"]) == ("delivered", 2)
    assert [call.headers["webhook-id"] for call in receiver.calls] == [delivery_id, delivery_id]
    assert await listed(running) == []
    assert (await running.call("GET", f"/dead-letters/{delivery_id}", as_=OPERATOR))[0] == 404
    row = await running.engine.database.collection("notification_audit_logs").find_one({"action": "dead_letter.replay"})
    assert row is not None
    assert (row["user_id"], row["target"]) == ("op", delivery_id)
    codes = [e["code"] for e in await running.timeline(notification_id)]
    assert codes[-3:] == ["attempt_failed", "replayed", "attempt_delivered"]


async def test_a_replay_grants_new_rounds(start: Start, receiver: Receiver) -> None:
    running = await start(WEBHOOK_MAX_RETRIES=1)
    await running.register(f"{receiver.address}/a", "test.message")
    receiver.answers.extend([Answer(500)] * 3)
    notification_id = await running.accept(message(channels=["webhook"]))
    shown = await running.settled(notification_id)
    assert (shown["status"], shown["deliveries"][0]["attempts"]) == ("failed", 2)
    chosen = {"delivery_ids": [shown["deliveries"][0]["delivery_id"]]}
    assert (await running.call("POST", "/dead-letters/replay", chosen, as_=OPERATOR))[1]["changed"] == 1
    await receiver.received(4)
    shown = await running.settled(notification_id)
    assert (shown["status"], shown["deliveries"][0]["attempts"]) == ("delivered", 4)


async def test_an_email_of_unknown_outcome_is_held_and_replayed(running: Running, mailbox: Mailbox) -> None:
    mailbox.replies.append(CUT)
    notification_id = await running.accept(message(channels=["email"]))
    shown = await running.settled(notification_id)
    assert (shown["status"], shown["deliveries"][0]["held"]) == ("unknown", True)
    (delivery_id,) = await listed(running, "?channel=email&reason=connection_lost")
    await running.call("POST", "/dead-letters/replay", {"channel": "email"}, as_=OPERATOR)
    await mailbox.received(2)
    assert (await running.settled(notification_id))["status"] == "accepted"
    assert {m["X-Notification-Delivery-Id"] for m in mailbox.messages} == {delivery_id}


async def test_a_filter_chooses_by_every_criterion(running: Running, receiver: Receiver) -> None:
    endpoint, _, first = await dead_webhook(running, receiver, "/a", notification_type="kind.one")
    between = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    _, _, second = await dead_webhook(running, receiver, "/b", notification_type="kind.two")
    assert await listed(running) == [second, first]
    for query, expected in [
        ("?notification_type=kind.one", [first]),
        (f"?endpoint={endpoint}", [first]),
        (f"?since={between}", [second]),
        (f"?until={between}", [first]),
        ("?reason=timeout", []),
        ("?channel=email", []),
        (f"?notification_type=kind.two&endpoint={endpoint}", []),
    ]:
        assert await listed(running, query) == expected, query
    chosen = {"notification_type": "kind.two", "since": between}
    assert (await running.call("POST", "/dead-letters/replay", chosen, as_=OPERATOR))[1]["changed"] == 1
    assert await listed(running) == [first]


async def test_a_discarded_one_stays_failed_and_is_not_replayed(running: Running, receiver: Receiver) -> None:
    _, notification_id, delivery_id = await dead_webhook(running, receiver)
    chosen = {"delivery_ids": [delivery_id]}
    assert (await running.call("POST", "/dead-letters/discard", chosen, as_=OPERATOR))[1]["changed"] == 1
    assert await listed(running) == []
    assert (await running.call("POST", "/dead-letters/replay", chosen, as_=OPERATOR))[1]["changed"] == 0
    _, shown = await running.call("GET", f"/{notification_id}")
    assert shown["status"] == "failed"
    assert (await running.timeline(notification_id))[-1]["code"] == "discarded"


async def test_a_list_goes_on_behind_its_cursor(running: Running, receiver: Receiver) -> None:
    await running.register(f"{receiver.address}/a", "test.message")
    receiver.answers.extend([Answer(400)] * 5)
    ids = [await running.accept(message(channels=["webhook"])) for _ in range(5)]
    for notification_id in ids:
        await running.settled(notification_id)
    seen: list[str] = []
    cursor = ""
    while True:
        _, page = await running.call("GET", f"/dead-letters?limit=2{cursor}", as_=OPERATOR)
        seen += [letter["notification_id"] for letter in page["dead_letters"]]
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert sorted(seen) == sorted(ids)


async def test_recover_sends_what_failed_since_a_moment(running: Running, receiver: Receiver) -> None:
    endpoint, old, _ = await dead_webhook(running, receiver)
    since = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    receiver.answers.append(Answer(400))
    fresh = await running.accept(message(channels=["webhook"]))
    await running.settled(fresh)
    status, done = await running.call("POST", f"/webhooks/{endpoint}/recover?since={since}", as_=OPERATOR)
    assert (status, done["changed"]) == (200, 1)
    await receiver.received(3)
    assert (await running.settled(fresh))["status"] == "delivered"
    assert (await running.call("GET", f"/{old}"))[1]["status"] == "failed"


async def test_a_disabled_endpoint_is_not_recovered(running: Running, receiver: Receiver) -> None:
    endpoint, _, _ = await dead_webhook(running, receiver)
    await running.call("PATCH", f"/webhooks/{endpoint}", {"enabled": False}, as_=OPERATOR)
    since = "2026-01-01T00:00:00Z"
    status, problem = await running.call("POST", f"/webhooks/{endpoint}/recover?since={since}", as_=OPERATOR)
    assert status == 409
    assert "enable" in problem["detail"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "delivery_ids"),
        ({"delivery_ids": ["x"]}, "delivery_ids.0"),
        ({"since": "soon"}, "since"),
        ({"all": 1}, "all"),
    ],
)
async def test_a_replay_says_what_is_wrong(shared: Running, body: dict[str, Any], field: str) -> None:
    status, problem = await shared.call("POST", "/dead-letters/replay", body, as_=OPERATOR)
    assert (status, problem["field"]) == (422, field)


async def test_dead_letters_are_for_operators(shared: Running) -> None:
    service = token("s", Role.SERVICE)
    for method, path in [("GET", ""), ("POST", "/replay"), ("POST", "/discard")]:
        assert (await shared.call(method, f"/dead-letters{path}", {"channel": "email"}, as_=service))[0] == 403


async def test_what_a_lane_holds_is_not_replayed(running: Running, receiver: Receiver) -> None:
    _, notification_id, delivery_id = await dead_webhook(running, receiver)
    collection = running.engine.database.collection("notifications")
    await collection.update_one({"_id": notification_id}, {"$set": {"lease.owner": "somebody"}})
    chosen = {"delivery_ids": [delivery_id]}
    _, done = await running.call("POST", "/dead-letters/replay", chosen, as_=OPERATOR)
    assert done == {"changed": 0, "skipped": 1, "more": False}
    assert await listed(running) == [delivery_id]
