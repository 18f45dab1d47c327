"""What a provider reports stands in the trace of the notification that it is about."""

from tests.integration.conftest import Start, message
from tests.integration.feedback.conftest import Fed
from tests.servers.callbacks import SendGridSigner, sendgrid_event
from tests.servers.collector import Collector
from tests.servers.sendgrid import KEY, SENDER, SendGrid
from tests.servers.smtp import Mailbox

CALLBACK = "POST /api/v1/notifications/callbacks/sendgrid"


async def test_request_provider_call_and_callback_are_one_trace(
    start: Start, signer: SendGridSigner, mailbox: Mailbox, collector: Collector
) -> None:
    sendgrid = SendGrid()
    await sendgrid.start()
    running = await start(
        SENDGRID_WEBHOOK_PUBLIC_KEY=signer.public_key,
        EMAIL_PROVIDER="sendgrid",
        SENDGRID_API_KEY=KEY,
        SENDGRID_FROM_EMAIL=SENDER,
        SENDGRID_BASE_URL=sendgrid.address,
        OTEL_EXPORTER_OTLP_ENDPOINT=collector.address,
    )
    fed = Fed(running, signer, None, mailbox)  # type: ignore[arg-type]
    notification_id, delivery_id = await fed.emailed()
    assert sendgrid.taken[0]["personalizations"][0]["custom_args"]["delivery_id"] == delivery_id
    assert await fed.sendgrid(sendgrid_event(delivery_id, "delivered"), sendgrid_event("dlv_x", "open")) == 204
    [callback, asked] = await collector.named("callback", CALLBACK)
    request, write, lane, call = await collector.named(
        "POST /api/v1/notifications", "write", "lane", "provider call", trace_id=callback.trace_id
    )
    assert {write.parent_id, lane.parent_id, callback.parent_id} == {request.span_id}
    assert call.parent_id == lane.span_id
    assert call.attributes == {"notification.provider": "sendgrid", "notification.outcome": "accepted"}
    assert lane.attributes["notification.status"] == "accepted"
    assert callback.attributes == {
        "notification.id": notification_id,
        "notification.delivery_id": delivery_id,
        "notification.provider": "sendgrid",
        "notification.event": "delivered",
    }
    assert callback.links == ((asked.trace_id, asked.span_id),)
    assert asked.trace_id != callback.trace_id
    await sendgrid.stop()


async def test_each_provider_that_was_asked_is_a_call_of_its_own(
    start: Start, mailbox: Mailbox, collector: Collector
) -> None:
    sendgrid = SendGrid()
    await sendgrid.start()
    sendgrid.verified.clear()  # SendGrid refuses every sender, SMTP takes over
    running = await start(
        EMAIL_PROVIDER="auto",
        SENDGRID_API_KEY=KEY,
        SENDGRID_FROM_EMAIL=SENDER,
        SENDGRID_BASE_URL=sendgrid.address,
        OTEL_EXPORTER_OTLP_ENDPOINT=collector.address,
    )
    await running.settled(await running.accept(message(channels=["email"])))
    spans = await collector.until(lambda spans: any(s.name == "lane" for s in spans))
    calls = [(s.attributes["notification.provider"], s.failed) for s in spans if s.name == "provider call"]
    assert calls == [("sendgrid", True), ("smtp", False)]
    await sendgrid.stop()
