"""The main job end to end: one request arrives in the app, by e-mail and by webhook, and says so."""

from tests.integration.conftest import Running, message
from tests.servers.receiver import Receiver
from tests.servers.smtp import Mailbox


async def test_one_request_arrives_on_three_channels(running: Running, receiver: Receiver, mailbox: Mailbox) -> None:
    endpoint = await running.register(f"{receiver.address}/a")
    receiver.secrets["/a"] = endpoint["secret"]
    body = message("u1", channels=["in_app", "email", "webhook"], body="148 of 148 passed.", priority="high")
    notification_id = await running.accept(body)
    shown = await running.settled(notification_id)
    assert {d["channel"]: d["status"] for d in shown["deliveries"]} == {
        "in_app": "delivered",
        "email": "accepted",
        "webhook": "delivered",
    }
    assert shown["status"] == "accepted"
    [call] = await receiver.received(1)
    assert call.event["data"]["notification_id"] == notification_id
    assert call.event["data"]["title"] == "Hello"
    [mail] = await mailbox.received(1)
    assert mail["To"] == "u1@example.org"
    assert mail["Subject"] == "Hello"
    plain, html = mail.get_body(("plain",)), mail.get_body(("html",))
    assert plain is not None
    assert html is not None
    assert "148 of 148 passed." in plain.get_content()
    assert "148 of 148 passed." in html.get_content()


async def test_the_timeline_tells_every_decision_and_attempt(running: Running, receiver: Receiver) -> None:
    endpoint = await running.register(f"{receiver.address}/a")
    receiver.secrets["/a"] = endpoint["secret"]
    notification_id = await running.accept(message("u1", channels=["in_app", "webhook"]))
    await running.settled(notification_id)
    entries = await running.timeline(notification_id)
    assert [(e["code"], e["channel"]) for e in entries] == [
        ("accepted", None),
        ("planned", "in_app"),
        ("planned", "webhook"),
        ("attempt_delivered", "in_app"),
        ("attempt_delivered", "webhook"),
    ]
    assert all(e["text"].endswith(".") and e["timestamp"] for e in entries)
