"""The life of a webhook endpoint: a new secret with an overlap, five days of failures, and what its owner hears."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from standardwebhooks import Webhook, WebhookVerificationError
from tests.integration.conftest import Running, message, token
from tests.servers.receiver import Answer, Receiver

from notification_engine.domain.caller import Role

OPERATOR = token("op", Role.OPERATOR)


async def endpoint_of(running: Running, endpoint_id: str) -> dict[str, Any]:
    document = await running.engine.database.collection("notification_webhook_endpoints").find_one({"_id": endpoint_id})
    assert document is not None
    return document


async def failing_for(running: Running, endpoint_id: str, days: float) -> None:
    """As if its calls had failed for so long."""
    since = datetime.now(UTC) - timedelta(days=days)
    collection = running.engine.database.collection("notification_webhook_endpoints")
    await collection.update_one({"_id": endpoint_id}, {"$set": {"failing_since": since}})
    running.engine.endpoints._cached_until = 0.0


async def one_call(running: Running, receiver: Receiver, answer: Answer | None = None) -> str:
    if answer:
        receiver.answers.append(answer)
    notification_id = await running.accept(message(channels=["webhook"]))
    return str((await running.settled(notification_id))["status"])


def verifies(secret: str, call: Any) -> bool:
    try:
        Webhook(secret).verify(call.body, call.headers)
    except WebhookVerificationError:
        return False
    return True


async def test_after_a_rotation_both_secrets_verify_and_then_only_the_new_one(
    running: Running, receiver: Receiver
) -> None:
    endpoint = await running.register(f"{receiver.address}/a", "test.message")
    status, rotated = await running.call("POST", f"/webhooks/{endpoint['webhook_id']}/rotate", as_=OPERATOR)
    assert status == 200
    assert rotated["secret"] != endpoint["secret"]
    await one_call(running, receiver)
    assert [verifies(s, receiver.calls[0]) for s in (endpoint["secret"], rotated["secret"])] == [True, True]
    past = {"$set": {"previous_until": datetime.now(UTC) - timedelta(seconds=1)}}
    collection = running.engine.database.collection("notification_webhook_endpoints")
    await collection.update_one({"_id": endpoint["webhook_id"]}, past)
    running.engine.endpoints._cached_until = 0.0
    await one_call(running, receiver)
    assert [verifies(s, receiver.calls[1]) for s in (endpoint["secret"], rotated["secret"])] == [False, True]
    stored = await endpoint_of(running, endpoint["webhook_id"])
    assert endpoint["secret"].encode() not in bytes(stored["previous_secret"])


async def test_a_failure_begins_the_count_and_a_success_ends_it(running: Running, receiver: Receiver) -> None:
    endpoint_id = (await running.register(f"{receiver.address}/a", "test.message"))["webhook_id"]
    await one_call(running, receiver, Answer(400))
    since = (await endpoint_of(running, endpoint_id))["failing_since"]
    await one_call(running, receiver, Answer(400))
    assert (await endpoint_of(running, endpoint_id))["failing_since"] == since
    await one_call(running, receiver)
    assert "failing_since" not in await endpoint_of(running, endpoint_id)


@pytest.mark.parametrize(("days", "enabled"), [(4.99, True), (5.01, False)])
async def test_five_days_of_failures_disable_it(
    running: Running, receiver: Receiver, days: float, enabled: bool
) -> None:
    endpoint_id = (await running.register(f"{receiver.address}/a", "test.message"))["webhook_id"]
    await failing_for(running, endpoint_id, days)
    await one_call(running, receiver, Answer(400))
    _, shown = await running.call("GET", f"/webhooks/{endpoint_id}", as_=OPERATOR)
    assert (shown["enabled"], shown["disabled_reason"]) == (enabled, None if enabled else "endpoint_failing")
    assert shown["failing_since"] is not None


async def noticed(running: Running, user: str) -> list[dict[str, Any]]:
    """The inbox once something is in it: the notice follows the settlement."""
    async with asyncio.timeout(20):
        while True:
            _, inbox = await running.call("GET", "", as_=user)
            if inbox["notifications"]:
                return list(inbox["notifications"])
            await asyncio.sleep(0.05)


async def test_its_owner_is_told_once(running: Running, receiver: Receiver) -> None:
    status, endpoint = await running.call(
        "POST", "/webhooks", {"url": f"{receiver.address}/a", "notification_types": ["test.message"]}, as_=OPERATOR
    )
    assert status == 201
    receiver.answers.extend([Answer(410)] * 3)
    body = {"notifications": [message(f"u{i}", channels=["webhook"]) for i in range(3)]}
    _, answer = await running.call("POST", "/batch", body)
    for result in answer["results"]:
        await running.settled(result["notifications"][0]["notification_id"])
    (notice,) = await noticed(running, token("op", Role.USER))
    assert notice["notification_type"] == "integration.webhook_disabled"
    assert f"{receiver.address}/a" in notice["title"]
    assert "410" in notice["body"]
    assert notice["data"]["endpoint"]["id"] == endpoint["webhook_id"]


async def test_enabling_it_begins_anew(running: Running, receiver: Receiver) -> None:
    endpoint_id = (await running.register(f"{receiver.address}/a", "test.message"))["webhook_id"]
    await failing_for(running, endpoint_id, 6)
    await one_call(running, receiver, Answer(400))
    _, shown = await running.call("PATCH", f"/webhooks/{endpoint_id}", {"enabled": True}, as_=OPERATOR)
    assert (shown["enabled"], shown["disabled_reason"], shown["failing_since"]) == (True, None, None)
    await one_call(running, receiver, Answer(400))
    assert (await endpoint_of(running, endpoint_id))["enabled"]
