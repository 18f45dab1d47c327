"""What a dump of the database shows: no canary of a webhook's secret, an address or a sensitive text."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.integration.conftest import Running, Start, message, token
from tests.integration.secrets.conftest import dump, found
from tests.servers.receiver import Receiver
from tests.servers.smtp import Mailbox

from notification_engine.domain.caller import Caller, Role
from notification_engine.domain.delivery import Channel
from notification_engine.domain.errors import Unreadable
from notification_engine.domain.feedback import EventKind, ProviderEvent
from notification_engine.services.views import WITHHELD

ADDRESS = "canary-address-9f2c@example.org"
TITLE, BODY, DATA = "canary-title-71aa", "canary-body-b0e4", "canary-data-33d1"
LATER = (datetime.now(UTC) + timedelta(days=300)).isoformat()
OWNER = "u-sealed"
OPERATOR = token("op", Role.OPERATOR)


def sensitive(**fields: Any) -> dict[str, Any]:
    plain = {
        "notification_type": "account.secret_note",
        "title": TITLE,
        "body": BODY,
        "data": {"code": DATA},
        "actions": [{"label": "Open", "url": f"https://app.example.org/{DATA}"}],
        "recipients": [{"user_id": OWNER, "email": ADDRESS}],
        "channels": ["in_app", "email"],
    }
    return message(**plain | fields)


async def declared(running: Running) -> None:
    status, answer = await running.call("PUT", "/types/account.secret_note", {"sensitive": True}, as_=OPERATOR)
    assert (status, answer["sensitive"]) == (200, True)


async def test_a_dump_holds_no_secret_no_address_and_no_sensitive_text(
    start: Start, mongod: str, mailbox: Mailbox, receiver: Receiver
) -> None:
    running = await start()
    await declared(running)
    endpoint = await running.register(receiver.address + "/in")
    status, rotated = await running.call("POST", f"/webhooks/{endpoint['webhook_id']}/rotate", as_=OPERATOR)
    assert status == 200, rotated
    event = await running.accept(sensitive(channels=["in_app", "email", "webhook"]))
    held = await running.accept(sensitive(scheduled_at=LATER))
    status, _ = await running.call("POST", "", sensitive(), Idempotency_Key="k1")
    assert status == 202
    report = ProviderEvent(
        "smtp:1", "smtp", EventKind.DEFERRED, datetime.now(UTC), None, ADDRESS, "4.2.2", f'{{"email": "{ADDRESS}"}}'
    )
    await running.engine.feedback.apply([report])
    await running.settled(event)
    dumped = await dump(mongod, running.engine.settings.MONGODB_DATABASE)
    secrets = [endpoint["secret"].removeprefix("whsec_"), rotated["secret"].removeprefix("whsec_")]
    assert list(found(dumped, ADDRESS, TITLE, BODY, DATA, *secrets)) == []
    assert event.encode() in dumped["notifications"], "the dump is of another database"
    assert held.encode() in dumped["notifications"]
    assert b"smtp:1" in dumped["notification_provider_events"]
    assert ADDRESS in {str(m["To"]) for m in await mailbox.received(2)}
    assert TITLE in {str(m["Subject"]) for m in mailbox.messages}
    assert TITLE.encode() in (await receiver.received(1))[0].body


async def test_the_recipient_reads_a_sensitive_text_and_nobody_else_does(start: Start) -> None:
    running = await start()
    await declared(running)
    notification_id = await running.accept(sensitive(channels=["in_app"]))
    status, own = await running.call("GET", f"/{notification_id}", as_=token(OWNER, Role.USER))
    assert status == 200
    assert (own["title"], own["body"], own["data"], own["actions"][0]["label"]) == (TITLE, BODY, {"code": DATA}, "Open")
    _, inbox = await running.call("GET", "", as_=token(OWNER, Role.USER))
    assert [n["title"] for n in inbox["notifications"]] == [TITLE]
    _, marked = await running.call("PATCH", f"/{notification_id}", {"read": True}, as_=token(OWNER, Role.USER))
    assert (marked["title"], marked["read_at"] is not None) == (TITLE, True)
    for reader in (OPERATOR, token("dev", Role.SERVICE)):
        _, shown = await running.call("GET", f"/{notification_id}", as_=reader)
        assert (shown["title"], shown["body"], shown["data"], shown["actions"]) == (WITHHELD, "", {}, [])


async def test_a_dead_letter_shows_no_sensitive_text(start: Start, mailbox: Mailbox) -> None:
    running = await start()
    await declared(running)
    mailbox.replies = ["554 5.6.0 no"]
    notification_id = await running.accept(sensitive(channels=["email"]))
    settled = await running.settled(notification_id)
    assert settled["status"] == "failed"
    delivery = settled["deliveries"][0]["delivery_id"]
    _, letter = await running.call("GET", f"/dead-letters/{delivery}", as_=OPERATOR)
    assert letter["notification"]["title"] == WITHHELD
    assert not any(canary in str(letter) for canary in (ADDRESS, TITLE, BODY, DATA))
    status, _ = await running.call("POST", "/dead-letters/replay", {"delivery_ids": [delivery]}, as_=OPERATOR)
    assert status == 200
    assert str((await mailbox.received(1))[0]["Subject"]) == TITLE, "what was replayed is opened again"


async def test_a_repeated_request_of_a_sensitive_type_gets_the_first_answer(start: Start) -> None:
    running = await start()
    await declared(running)
    first = await running.call("POST", "", sensitive(channels=["in_app"]), Idempotency_Key="k1")
    assert first == await running.call("POST", "", sensitive(channels=["in_app"]), Idempotency_Key="k1")
    assert first[0] == 202
    status, _ = await running.call("POST", "", sensitive(channels=["in_app"], body="other"), Idempotency_Key="k1")
    assert status == 422


async def test_what_is_moved_to_another_document_is_absent_and_hides_nothing(start: Start) -> None:
    """Who can write to the database may swap sealed values; none is shown to another, and the inbox still works."""
    running = await start()
    await declared(running)
    mine = await running.accept(sensitive(channels=["in_app"]))
    other = await running.accept(sensitive(channels=["in_app"], recipients=[{"user_id": "u-other"}]))
    collection = running.engine.database.collection("notifications")
    stolen = await collection.find_one({"_id": mine})
    assert stolen is not None
    await collection.update_one({"_id": other}, {"$set": {"sealed": stolen["sealed"], "email": stolen["email"]}})
    plain = await running.accept(message("u-other"))
    _, inbox = await running.call("GET", "", as_=token("u-other", Role.USER))
    assert [(n["notification_id"], n["title"]) for n in inbox["notifications"]] == [(plain, "Hello"), (other, "")]
    assert not any(canary in str(inbox) for canary in (TITLE, BODY, DATA))


async def test_a_webhook_secret_that_is_altered_or_moved_stops_no_other_endpoint(
    start: Start, receiver: Receiver
) -> None:
    running = await start()
    first = await running.register(receiver.address + "/first")
    second = await running.register(receiver.address + "/second")
    collection = running.engine.database.collection("notification_webhook_endpoints")
    stolen = await collection.find_one({"_id": first["webhook_id"]})
    assert stolen is not None
    await collection.update_one({"_id": second["webhook_id"]}, {"$set": {"secret": stolen["secret"]}})
    running.engine.endpoints.forget("")
    assert [e.id for e in await running.engine.endpoints.list()] == [first["webhook_id"]]
    receiver.secrets["/first"] = first["secret"]
    await running.settled(await running.accept(message(channels=["webhook"])))
    assert [call.path for call in receiver.calls] == ["/first"]
    with pytest.raises(Unreadable):
        await running.engine.endpoints.get(second["webhook_id"])


async def test_what_was_stored_in_clear_before_is_still_read(start: Start) -> None:
    running = await start()
    notification_id = await running.accept(message("u1", channels=["email"], scheduled_at=LATER))
    collection = running.engine.database.collection("notifications")
    clear = {"email": "u1@example.org", "deliveries.0.endpoint": "u1@example.org"}
    await collection.update_one({"_id": notification_id}, {"$set": clear})
    found = await running.engine.notifications.get(Caller("op", frozenset({Role.OPERATOR}), 4e9), notification_id)
    assert (found.email, [d.endpoint for d in found.deliveries]) == ("u1@example.org", ["u1@example.org"])
    assert found.deliveries[0].channel is Channel.EMAIL
