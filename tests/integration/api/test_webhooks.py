"""Webhooks: matching, signatures, retries, what the receiver wishes, and what operators see."""

from datetime import datetime

import pytest
from tests.integration.conftest import Running, Start, message, token
from tests.servers.receiver import Answer, Receiver

from notification_engine.domain.caller import Role


async def test_the_secret_is_shown_once_and_never_again(running: Running, receiver: Receiver) -> None:
    created = await running.register(f"{receiver.address}/a")
    assert created["secret"].startswith("whsec_")
    _, one = await running.call("GET", f"/webhooks/{created['webhook_id']}")
    _, listed = await running.call("GET", "/webhooks")
    assert "secret" not in one
    assert all("secret" not in w for w in listed["webhooks"])
    stored = await running.engine.database.collection("notification_webhook_endpoints").find_one({})
    assert created["secret"] not in str(stored)


async def test_each_matching_endpoint_gets_one_delivery(running: Running, receiver: Receiver) -> None:
    for path, pattern in [("/exact", "test.message"), ("/group", "test.*"), ("/all", "*"), ("/other", "mail.*")]:
        endpoint = await running.register(receiver.address + path, pattern)
        receiver.secrets[path] = endpoint["secret"]
    shown = await running.settled(await running.accept(message(channels=["webhook"])))
    assert [d["status"] for d in shown["deliveries"]] == ["delivered"] * 3
    assert {c.path for c in await receiver.received(3)} == {"/exact", "/group", "/all"}
    assert len({c.headers["webhook-id"] for c in receiver.calls}) == 3


async def test_a_failure_is_tried_again_under_the_same_id(running: Running, receiver: Receiver) -> None:
    await running.register(f"{receiver.address}/a")
    receiver.answers.extend([Answer(500), Answer(503)])
    notification_id = await running.accept(message(channels=["webhook"]))
    shown = await running.settled(notification_id)
    assert [(d["status"], d["attempts"]) for d in shown["deliveries"]] == [("delivered", 3)]
    assert len({c.headers["webhook-id"] for c in receiver.calls}) == 1
    codes = [e["code"] for e in await running.timeline(notification_id) if e["code"].startswith("attempt")]
    assert codes == ["attempt_pending", "attempt_pending", "attempt_delivered"]


async def test_retries_end_and_say_why(running: Running, receiver: Receiver) -> None:
    await running.register(f"{receiver.address}/a")
    receiver.answers.extend([Answer(500)] * 4)
    shown = await running.settled(await running.accept(message(channels=["webhook"])))
    [delivery] = shown["deliveries"]
    assert (delivery["status"], delivery["attempts"]) == ("failed", 4)
    assert shown["status"] == "failed"
    assert len(receiver.calls) == 4


@pytest.mark.parametrize("status", [400, 401, 404, 422])
async def test_a_final_refusal_is_not_tried_again(running: Running, receiver: Receiver, status: int) -> None:
    await running.register(f"{receiver.address}/a")
    receiver.answers.append(Answer(status))
    shown = await running.settled(await running.accept(message(channels=["webhook"])))
    assert [(d["status"], d["attempts"]) for d in shown["deliveries"]] == [("failed", 1)]


async def test_retry_after_is_obeyed(running: Running, receiver: Receiver) -> None:
    await running.register(f"{receiver.address}/a")
    receiver.answers.append(Answer(429, {"Retry-After": "2"}))
    shown = await running.settled(await running.accept(message(channels=["webhook"])))
    [delivery] = shown["deliveries"]
    attempts = (await running.call("GET", "/history?user_id=u1"))[1]["attempts"]
    assert delivery["status"] == "delivered"
    assert len(attempts) == 2
    newer, older = (datetime.fromisoformat(a["timestamp"]) for a in attempts)
    assert (newer - older).total_seconds() >= 1.9


async def test_the_deadline_is_total(start: Start, receiver: Receiver) -> None:
    running = await start(WEBHOOK_TIMEOUT_SECONDS=0.3, WEBHOOK_MAX_RETRIES=0)
    await running.register(f"{receiver.address}/a")
    receiver.answers.append(Answer(delay_seconds=5))
    shown = await running.settled(await running.accept(message(channels=["webhook"])), seconds=4)
    assert [(d["status"], d["reason"]) for d in shown["deliveries"]] == [("failed", "timeout")]


async def test_gone_disables_the_endpoint(running: Running, receiver: Receiver) -> None:
    endpoint = await running.register(f"{receiver.address}/a")
    receiver.answers.append(Answer(410))
    await running.settled(await running.accept(message(channels=["webhook"])))
    _, shown = await running.call("GET", f"/webhooks/{endpoint['webhook_id']}")
    assert shown["enabled"] is False
    assert shown["disabled_reason"]
    shown = await running.settled(await running.accept(message(channels=["webhook"])))
    assert shown["deliveries"][0]["reason"] == "no_endpoint"


async def test_redirects_are_not_followed(running: Running, receiver: Receiver) -> None:
    await running.register(f"{receiver.address}/a")
    receiver.answers.append(Answer(302, {"Location": f"{receiver.address}/b"}))
    shown = await running.settled(await running.accept(message(channels=["webhook"])))
    assert shown["deliveries"][0]["status"] == "failed"
    assert [c.path for c in receiver.calls] == ["/a"]


async def test_a_test_message_is_signed_and_says_what_came_of_it(running: Running, receiver: Receiver) -> None:
    endpoint = await running.register(f"{receiver.address}/a")
    receiver.secrets["/a"] = endpoint["secret"]
    status, result = await running.call("POST", f"/webhooks/{endpoint['webhook_id']}/test")
    assert (status, result["delivered"]) == (200, True)
    receiver.answers.append(Answer(500))
    _, result = await running.call("POST", f"/webhooks/{endpoint['webhook_id']}/test")
    assert result["delivered"] is False
    assert result["reason"]


async def test_more_than_thirty_two_endpoints_all_get_it(running: Running, receiver: Receiver) -> None:
    for number in range(40):
        await running.register(f"{receiver.address}/{number}")
    notification_id = await running.accept(message(channels=["in_app", "webhook"]))
    shown = await running.settled(notification_id)
    assert len(shown["deliveries"]) == 41
    assert {c.path for c in await receiver.received(40)} == {f"/{n}" for n in range(40)}
    assert {d["status"] for d in shown["deliveries"]} == {"delivered"}


@pytest.mark.parametrize(
    ("url", "field"),
    [
        ("ftp://x.example/", "url"),
        ("http://10.0.0.1/", "url"),
        ("http://169.254.169.254/latest", "url"),
        ("http://user:pw@x.example/", "url"),
        ("no address", "url"),
    ],
)
async def test_a_bad_address_is_refused(shared: Running, url: str, field: str) -> None:
    status, problem = await shared.call("POST", "/webhooks", {"url": url, "notification_types": ["*"]})
    assert status == 422, problem
    assert problem["errors"][0]["field"] == field


async def test_only_operators_manage_endpoints(shared: Running) -> None:
    for role in (Role.USER, Role.SERVICE):
        assert (await shared.call("GET", "/webhooks", as_=token("x", role)))[0] == 403


async def test_a_removed_endpoint_is_gone(running: Running, receiver: Receiver) -> None:
    endpoint = await running.register(f"{receiver.address}/a")
    assert (await running.call("DELETE", f"/webhooks/{endpoint['webhook_id']}"))[0] == 204
    assert (await running.call("GET", f"/webhooks/{endpoint['webhook_id']}"))[0] == 404
    assert (await running.call("DELETE", f"/webhooks/{endpoint['webhook_id']}"))[0] == 404
