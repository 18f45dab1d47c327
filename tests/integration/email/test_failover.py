"""SendGrid first, SES when it fails: what moves on, what ends, what is unknown, and what the timeline says of it."""

from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from tests.integration.conftest import Running, Start, message
from tests.servers import ses as aws
from tests.servers.sendgrid import KEY, SENDER, Fault, SendGrid
from tests.servers.ses import Ses
from tests.servers.smtp import Mailbox

from notification_engine.domain.breaker import BreakerState
from notification_engine.domain.delivery import Channel

Begin = Callable[..., Coroutine[Any, Any, Running]]


@pytest.fixture
def begin(start: Start, sendgrid: SendGrid, ses: Ses) -> Begin:
    """An engine with SendGrid first and SES behind it."""

    async def both(**changes: Any) -> Running:
        settings = {
            "EMAIL_PROVIDER": "auto",
            "SMTP_HOST": None,
            "SENDGRID_API_KEY": KEY,
            "SENDGRID_FROM_EMAIL": SENDER,
            "SENDGRID_BASE_URL": sendgrid.address,
            "AWS_ACCESS_KEY_ID": aws.KEY,
            "AWS_SECRET_ACCESS_KEY": aws.SECRET,
            "SES_FROM_EMAIL": SENDER,
            "SES_ENDPOINT_URL": ses.address,
            "SES_MAX_PER_SECOND": 0,
            "EMAIL_TIMEOUT_SECONDS": 2,
        }
        return await start(**(settings | changes))

    return both


async def emailed(running: Running, **fields: Any) -> dict[str, Any]:
    return await running.settled(await running.accept(message(channels=["email"], **fields)))


async def told(running: Running, shown: dict[str, Any]) -> list[tuple[str, str | None]]:
    """Code and provider of what the timeline says of attempts."""
    rows = await running.engine.history.timeline(shown["notification_id"])
    return [(str(row.delivery_status), row.provider) for row in rows]


async def test_sendgrid_takes_it_with_our_delivery_id(begin: Begin, sendgrid: SendGrid, ses: Ses) -> None:
    running = await begin()
    shown = await emailed(running)
    (delivery,) = shown["deliveries"]
    assert (delivery["status"], delivery["provider"]) == ("accepted", "sendgrid")
    assert sendgrid.taken[0]["personalizations"][0]["custom_args"] == {"delivery_id": delivery["delivery_id"]}
    assert sendgrid.taken[0]["subject"] == "Hello"
    assert await ses.sent() == []


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (Fault(status=401), "credentials"),
        (Fault(status=403), "credentials"),
        (Fault(status=429, headers={"X-RateLimit-Reset": "1"}), "rate_limited"),
        (Fault(status=500), "server_error"),
        (Fault(status=503), "server_error"),
    ],
    ids=lambda value: str(getattr(value, "status", value)),
)
async def test_what_is_about_the_provider_goes_to_the_next(
    begin: Begin, sendgrid: SendGrid, ses: Ses, fault: Fault, reason: str
) -> None:
    running = await begin()
    sendgrid.faults.append(fault)
    shown = await emailed(running)
    (delivery,) = shown["deliveries"]
    assert (delivery["status"], delivery["provider"], delivery["attempts"]) == ("accepted", "ses", 1)
    assert [m["X-Notification-Delivery-Id"] for m in await ses.sent()] == [delivery["delivery_id"]]
    assert await told(running, shown) == [("passed_over", "sendgrid"), ("accepted", "ses")]
    texts = [entry["text"] for entry in await running.timeline(shown["notification_id"])]
    assert any("next provider" in text and reason in text for text in texts)


async def test_a_provider_that_is_down_costs_no_round(begin: Begin, sendgrid: SendGrid, ses: Ses) -> None:
    running = await begin()
    await sendgrid.stop()
    shown = await emailed(running)
    assert (shown["deliveries"][0]["provider"], shown["deliveries"][0]["attempts"]) == ("ses", 1)


@pytest.mark.parametrize("status", [400, 413])
async def test_what_is_about_the_message_ends_it(begin: Begin, sendgrid: SendGrid, ses: Ses, status: int) -> None:
    running = await begin()
    sendgrid.faults.append(Fault(status=status))
    shown = await emailed(running)
    assert (shown["status"], shown["deliveries"][0]["provider"]) == ("failed", "sendgrid")
    assert await ses.sent() == []


@pytest.mark.parametrize("mode", ["drop", "silent", "html", "truncated"])
async def test_an_unknown_outcome_is_not_handed_to_another(
    begin: Begin, sendgrid: SendGrid, ses: Ses, mode: str
) -> None:
    running = await begin()
    sendgrid.faults.append(Fault(mode, taken=True))
    shown = await emailed(running)
    (delivery,) = shown["deliveries"]
    assert (delivery["status"], delivery["held"], delivery["provider"]) == ("unknown", True, "sendgrid")
    assert await ses.sent() == []
    assert len(sendgrid.taken) == 1


async def test_a_round_in_which_all_refuse_is_tried_again(begin: Begin, sendgrid: SendGrid, ses: Ses) -> None:
    running = await begin(SES_ENDPOINT_URL="http://127.0.0.1:9")
    sendgrid.faults.append(Fault(status=500))
    shown = await emailed(running)
    assert (shown["deliveries"][0]["status"], shown["deliveries"][0]["attempts"]) == ("accepted", 2)
    rows = await told(running, shown)
    assert rows == [("passed_over", "sendgrid"), ("pending", "ses"), ("accepted", "sendgrid")]


async def test_an_open_breaker_is_passed_by_and_shown(begin: Begin, sendgrid: SendGrid, ses: Ses) -> None:
    running = await begin()
    relay = running.engine.email.relays[0]
    for _ in range(relay.breaker.policy.minimum):
        relay.breaker.record(ok=False)
    await relay.breaker.synchronise()
    assert relay.breaker.state is BreakerState.OPEN
    shown = await emailed(running)
    assert shown["deliveries"][0]["provider"] == "ses"
    assert sendgrid.calls == []
    assert ("passed_over", "sendgrid") in await told(running, shown)
    _, channels = await running.call("GET", "/health/channels")
    assert channels["email"]["breakers"]["sendgrid"]["state"] == "open"
    assert channels["email"]["breakers"]["ses"]["state"] == "closed"
    async with running.session.get(f"{running.address}/metrics") as answer:
        assert 'notification_state{figure="breaker_sendgrid"} 2.0' in await answer.text()


async def test_where_nobody_may_be_asked_no_round_is_counted(
    start: Start, mailbox: Mailbox, sendgrid: SendGrid
) -> None:
    running = await start(NOTIFICATION_RETRY_MAX_ATTEMPTS=1)
    breaker = running.engine.email.relays[0].breaker
    for _ in range(breaker.policy.minimum):
        breaker.record(ok=False)
    await breaker.synchronise()
    notification_id = await running.accept(message(channels=["email"]))
    async with running.session.get(f"{running.address}/health"):
        pass
    shown = await _postponed(running, notification_id)
    assert (shown["attempts"], shown["reason"], shown["status"]) == (0, "breaker_open", "pending")
    assert mailbox.messages == []


async def _postponed(running: Running, notification_id: str) -> dict[str, Any]:
    import asyncio

    async with asyncio.timeout(10):
        while True:
            _, shown = await running.call("GET", f"/{notification_id}")
            (delivery,) = [d for d in shown["deliveries"] if d["channel"] == Channel.EMAIL]
            if delivery["reason"]:
                return dict(delivery)
            await asyncio.sleep(0.02)


async def test_a_rate_is_kept_without_failing_over(begin: Begin, sendgrid: SendGrid, ses: Ses) -> None:
    running = await begin(SENDGRID_MAX_PER_SECOND=20)
    body = {"notifications": [message(f"u{i}", channels=["email"]) for i in range(40)]}
    status, answer = await running.call("POST", "/batch", body)
    assert status == 202
    await sendgrid.received(40)
    assert await ses.sent() == []
    for result in answer["results"]:
        shown = await running.settled(result["notifications"][0]["notification_id"])
        assert (shown["deliveries"][0]["status"], shown["deliveries"][0]["attempts"]) == ("accepted", 1)
