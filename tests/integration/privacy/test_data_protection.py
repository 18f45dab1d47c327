"""Export and erasure: complete, over every collection, harmless twice, and nothing readable is left."""

import asyncio
import json
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import bson
import pytest
from tests.integration.api.test_openapi import kinds
from tests.integration.conftest import API, Running, Start, message, token
from tests.integration.feedback.conftest import Fed
from tests.model_canaries import Canaries, in_base64
from tests.servers.callbacks import sendgrid_event
from tests.servers.receiver import Answer, Receiver

from notification_engine.api.models.send import BatchItemIn, Strict
from notification_engine.api.models.suppressions import SuppressionIn
from notification_engine.api.users import UserDataOut
from notification_engine.domain.caller import Role
from notification_engine.domain.errors import Unavailable
from notification_engine.health.conservation import Conservation
from notification_engine.storage import erasure_log
from notification_engine.storage.backup import is_ours

ADMIN = token("the-admin", Role.ADMIN)
IMPERSONAL = {  # collections that hold nothing of a user, with the reason
    "notification_audit_heads": "a day, a number and a hash",
    "notification_data_keys": "wrapped keys of purposes",
    "notification_breakers": "counts of a provider",
    "notification_callbacks_seen": "hashes of signatures",
    "notification_erasures": "a keyed pseudonym, ids of what is gone and hashes of contents",
    "notification_ledgers": "counts by minute",
    "notification_metrics": "figures of a replica",
    "notification_migrations": "names",
    "notification_replicas": "heartbeats of processes",
    "notification_revocations": "hashes of tokens and of subjects, so that what was revoked stays refused",
    "notification_watermarks": "how far a loop has come",
}


async def dump(running: Running) -> dict[str, bytes]:
    """The raw BSON of every collection."""
    database = running.engine.database
    return {
        name: b"".join([bson.encode(document) async for document in database.majority(name).find({})])
        for name in await database.collection_names()
    }


async def erase(running: Running, user: str) -> dict[str, Any]:
    status, body = await running.call("DELETE", f"/users/{user}/data", as_=ADMIN)
    assert status == 200, body
    return dict(body)


async def exported(running: Running, user: str) -> dict[str, Any]:
    address = f"{running.address}{API}/users/{user}/data"
    async with running.session.get(address, headers={"Authorization": f"Bearer {ADMIN}"}) as answer:
        assert answer.status == 200
        body = await answer.json()
    UserDataOut.model_validate(body)
    return dict(body["collections"])


async def a_full_life(fed: Fed, receiver: Receiver, canaries: Canaries) -> str:
    """A user whose marks went through every request model that names one, and every channel."""
    running = fed.running
    user = canaries.mark("the user id")
    address = f"{canaries.mark('the address')}@example.org"
    special = {
        "user_id": user,
        "email": address,
        "channels": ["in_app", "email", "webhook"],
        "notification_type": "canary.message",
        "priority": "high",
        "template": None,
        "scheduled_at": None,
        "expires_at": None,
        "url": None,
        "content": lambda mark: in_base64(mark),
        "actions": [{"label": canaries.mark("actions.label"), "url": f"https://example.org/{canaries.mark('a.url')}"}],
    }
    canaries._special = special
    await running.register(f"{receiver.address}/in", "canary.*")
    body = canaries.fill(BatchItemIn)
    status, answer = await running.call("POST", "/batch", {"notifications": [body]})
    assert status == 202, answer
    notification_id = answer["results"][0]["notifications"][0]["notification_id"]
    shown = await running.settled(notification_id)
    dead = message(user, channels=["webhook"], notification_type="canary.dead", title=canaries.mark("dead.title"))
    receiver.answers.extend([Answer(status=400)])
    assert (await running.settled(await running.accept(dead)))["status"] == "failed"
    later = {"scheduled_at": (datetime.now(UTC) + timedelta(hours=1)).isoformat()}
    await running.accept(message(user, title=canaries.mark("later.title"), **later))
    own = token(user, Role.USER, Role.OPERATOR)
    chosen = {"types": {f"{canaries.mark('preferences.types')}.*": {"email": False}}}
    await running.call("PUT", "/preferences", chosen, as_=own)
    await running.call("PUT", f"/preferences?user_id={user}", chosen)
    await running.call("POST", "/ws/ticket", as_=own)
    await running.call("PUT", "/types/canary.message", {"retention_days": 3}, as_=own)
    await running.call("POST", "/webhooks", {"url": "http://127.0.0.1:9/", "notification_types": ["x.y"]}, as_=own)
    note = canaries.fill(SuppressionIn, "suppression", without=("channel", "reason", "address")) | {"address": address}
    status, _ = await running.call("POST", "/suppressions", note, as_=own)
    assert status == 201
    mailed = next(d["delivery_id"] for d in shown["deliveries"] if d["channel"] == "email")
    reason = f"550 <{address}> unknown {canaries.mark('event.reason')}"
    assert await fed.sendgrid(sendgrid_event(mailed, "bounce", email=address, reason=reason)) in {200, 204}
    assert await fed.sendgrid(sendgrid_event(None, "open", email=address)) in {200, 204}
    await running.call("POST", f"/{notification_id}/cancel", as_=own)
    await running.engine._announce.drain()
    return user


def found(marks: dict[str, str], text: bytes) -> list[str]:
    return [path for path, mark in marks.items() if mark.encode() in text or in_base64(mark).encode() in text]


async def test_the_export_holds_everything_and_the_erasure_leaves_nothing_readable(
    fed: Fed, receiver: Receiver, logged: Callable[[], str]
) -> None:
    canaries = Canaries()
    user = await a_full_life(fed, receiver, canaries)
    running = fed.running
    unexpected = set(canaries.marks) - {"idempotency_key"}  # stored as a hash from the beginning
    before = await dump(running)
    assert set(found(canaries.marks, b"".join(before.values()))) == unexpected - SEALED  # the marks do arrive
    told = json.dumps(await exported(running, user)).encode()
    assert set(found(canaries.marks, told)) == unexpected
    holds = {name for name, rows in (await exported(running, user)).items() if rows}
    assert holds == {c.collection for c in running.engine.data_protection.collections} - NOTHING_OF_THIS_ONE

    lived = logged()
    assert found(canaries.marks, lived.encode()) == ["the user id"]  # which the policy for logs names
    running.engine.attachments._grace = timedelta(0)
    done = await erase(running, user)
    assert done["removed"]["notifications"] == 3
    assert set(done["removed"]) == holds | {"notification_user_keys"}
    left = {name: marked for name, raw in (await dump(running)).items() if (marked := found(canaries.marks, raw))}
    assert left == {}
    assert found(canaries.marks, logged().removeprefix(lived).encode()) == []
    assert (await running.engine.audit.verify()).fault is None
    assert all(
        rows == [] for name, rows in (await exported(running, user)).items() if name != "notification_audit_logs"
    )
    assert len((await exported(running, user))["notification_audit_logs"]) == 2  # who asked for these two exports


SEALED = {"the address", "event.reason"}  # in the export, not in a dump
NOTHING_OF_THIS_ONE = {"notification_templates", "notification_api_keys", "notification_user_keys"}
MARKED = {"SendIn", "BatchItemIn", "RecipientIn", "ActionIn", "AttachmentIn", "SuppressionIn", "PreferencesIn"}
NOT_OF_A_USER = {  # request models whose text is the house's, or is not stored
    "BatchIn": "its items are BatchItemIn",
    "ChosenIn": "a filter",
    "ApiKeyIn": "a key of the house",
    "RevokeIn": "a subject, kept as a hash",
    "InboxChangeIn": "marks and moments, no text",
    "DraftIn": "a template",
    "PartsIn": "a template",
    "PreviewIn": "rendered, not stored",
    "PublishIn": "a number",
    "TypeIn": "a type",
    "TypeChangeIn": "a type",
    "WebhookIn": "an endpoint of the house",
    "WebhookChangeIn": "an endpoint of the house",
}


def test_every_request_model_is_marked_or_said_to_hold_nothing_of_a_user() -> None:
    models = {kind.__name__ for kind in kinds(Strict) if kind.__name__.endswith("In")}
    assert models == MARKED | set(NOT_OF_A_USER)


async def test_no_collection_is_forgotten(fed: Fed, receiver: Receiver) -> None:
    await a_full_life(fed, receiver, Canaries())
    await erase(fed.running, "somebody")
    await fed.running.call("PUT", "/templates/a.b", {"locales": {"en": {"subject": "x", "text": "y"}}})
    known = {c.collection for c in fed.running.engine.data_protection.collections} | set(IMPERSONAL)
    there = {name for name in await fed.running.engine.database.collection_names() if is_ours(name)}
    assert there - known == set(), "name it in a PersonalData, or here with the reason why it holds nothing of a user"


async def test_who_wrote_templates_and_types_becomes_a_pseudonym(running: Running) -> None:
    as_ = token("the-author", Role.OPERATOR)
    draft = {"locales": {"en": {"subject": "x", "text": "y"}}}
    await running.call("PUT", "/templates/a.b", draft, as_=as_)
    await running.call("POST", "/templates/a.b/publish", {}, as_=as_)
    await running.call("PUT", "/types/a.b", {"priority": "low"}, as_=as_)
    assert len((await exported(running, "the-author"))["notification_templates"]) == 2
    done = await erase(running, "the-author")
    assert b"the-author" not in b"".join((await dump(running)).values())
    assert done["removed"]["notification_templates"] == 2
    _, shown = await running.call("GET", "/templates/a.b")
    assert shown["updated_by"] == done["subject"]


async def test_an_erasure_is_for_administrators_alone(running: Running) -> None:
    for method in ("GET", "DELETE"):
        for as_ in (token(), token("u1", Role.USER), token("u1", Role.SERVICE, Role.OPERATOR)):
            status, body = await running.call(method, "/users/u1/data", as_=as_)
            assert (status, body["type"].rpartition(":")[2]) == (403, "forbidden")


async def test_an_erasure_is_harmless_twice_and_a_user_may_come_back(running: Running) -> None:
    await running.settled(await running.accept(message("ada")))
    first, second = await erase(running, "ada"), await erase(running, "ada")
    assert first["removed"]["notifications"] == 1
    assert "notifications" not in second["removed"]
    assert first["receipt_id"] != second["receipt_id"]
    assert first["subject"] == second["subject"]
    again = await running.accept(message("ada"))
    assert (await running.settled(again))["status"] == "delivered"
    assert (await erase(running, "bob"))["removed"] == {}
    assert (await running.call("GET", f"/{again}"))[0] == 200


async def test_other_users_keep_everything(running: Running) -> None:
    shared = {"filename": "a.txt", "content": in_base64("the same for both")}
    for user in ("ada", "bob"):
        await running.settled(await running.accept(message(user, channels=["email"], attachments=[shared])))
        await running.call("PUT", f"/preferences?user_id={user}", {"mute": True})
    running.engine.attachments._grace = timedelta(0)
    before = await exported(running, "bob")
    done = await erase(running, "ada")
    assert "notification_attachments" not in done["removed"]
    after = await exported(running, "bob")
    for name in set(before) - {"notification_audit_logs"}:
        assert after[name] == before[name], name
    assert (await erase(running, "bob"))["removed"]["notification_attachments"] == 1


async def test_a_content_that_was_kept_a_moment_ago_goes_with_the_sweep(running: Running) -> None:
    """Another request may be between keeping it and being written."""
    shared = {"filename": "a.txt", "content": in_base64("text")}
    await running.settled(await running.accept(message("ada", channels=["email"], attachments=[shared])))
    assert "notification_attachments" not in (await erase(running, "ada"))["removed"]
    running.engine.attachments._grace = timedelta(0)
    assert await running.engine.erasures.sweep(fresh=True) == 1
    assert (await dump(running))["notification_attachments"] == b""


async def test_what_waits_is_not_sent_and_what_is_under_way_leaves_no_trace(
    running: Running, receiver: Receiver
) -> None:
    await running.register(f"{receiver.address}/in")
    released = asyncio.Event()
    receiver.answers.append(Answer(held=released))
    await running.accept(message("ada", channels=["webhook"]))
    later = {"scheduled_at": (datetime.now(UTC) + timedelta(seconds=60)).isoformat()}
    await running.accept(message("ada", channels=["webhook"], **later))
    await receiver.received(1)
    done = await erase(running, "ada")
    released.set()
    assert done["in_flight"] == 1
    assert done["removed"]["notifications"] == 2
    history = running.engine.database.majority("notification_history")
    async with asyncio.timeout(20):
        while True:
            if await history.find_one({"user_id": "ada"}):
                break
            await asyncio.sleep(0.05)  # the lane writes its attempt after the erasure
    await running.engine.erasures.sweep(fresh=True)
    assert await history.find_one({"user_id": "ada"}) is None
    assert len(receiver.calls) == 1
    assert await running.engine.notifications.queue_depth() == {"waiting": 0, "due": 0, "oldest_due_ms": 0}
    await running.engine.ledger.run_once()
    books, metrics = running.engine._books, running.engine.metrics
    checked = await Conservation(books, metrics, running.engine.clock, lease_seconds=30).check()
    assert checked["healthy"], checked  # what is erased does not seem lost


async def test_a_provider_that_reports_after_the_erasure_leaves_no_trace(fed: Fed) -> None:
    _, delivery = await fed.emailed("ada")
    await erase(fed.running, "ada")
    assert await fed.sendgrid(sendgrid_event(delivery, "bounce", email="ada@example.org")) == 204
    assert (await fed.stored())["notification_suppressions"] == []
    await fed.running.engine.erasures.sweep(fresh=False)
    assert (await fed.stored())["notification_provider_events"] == []
    assert (await fed.stored())["notification_suppressions"] == []


async def test_who_erases_itself_is_not_named_by_the_row_that_says_so(running: Running) -> None:
    status, body = await running.call("DELETE", "/users/root/data", as_=token("root", Role.ADMIN))
    assert status == 200
    rows = [row async for row in running.engine.database.majority("notification_audit_logs").find({})]
    assert [row["action"] for row in rows] == ["user.erase", "user.erased"]
    assert {row["user_id"] for row in rows} == {body["subject"]}
    assert "address" not in rows[0]


async def test_ids_of_every_form_are_erased(running: Running) -> None:
    for user in ("a/b", "a b", "ä@b", "$ne", "data", "../x", "a%2Fb"):
        await running.settled(await running.accept(message(user, recipients=[{"user_id": user}])))
        done = await erase(running, quote(user, safe="").replace("..", "%2E%2E"))
        assert done["removed"].get("notifications") == 1, user


async def test_the_list_is_written_before_anything_is_erased(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "erasures.jsonl"
    running = await start(ERASURE_LOG_FILE=path)
    await running.settled(await running.accept(message("ada")))
    done = await erase(running, "ada")
    assert done["applied_after_restore"] is True
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["state"] for line in lines] == ["begun", "done"]
    assert {line["receipt"] for line in lines} == {done["receipt_id"]}
    assert "ada" not in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600
    await running.settled(await running.accept(message("bob")))
    path.unlink()
    path.mkdir()  # it can no longer be written
    status, body = await running.call("DELETE", "/users/bob/data", as_=ADMIN)
    assert (status, "ERASURE_LOG_FILE" in body["detail"]) == (503, True)
    assert len((await exported(running, "bob"))["notifications"]) == 1


async def test_without_a_list_the_answer_says_that_a_restore_brings_it_back(running: Running) -> None:
    done = await erase(running, "ada")
    assert done["applied_after_restore"] is False
    assert "brings the data back" in done["detail"]


async def test_a_torn_line_costs_no_other(tmp_path: Path) -> None:
    path, moment = tmp_path / "list", datetime(2026, 11, 25, tzinfo=UTC)
    path.write_bytes(b'{"receipt": "ers_1", "subj')
    listed = erasure_log.ErasureLog(path, lambda: "key")
    await listed.write("ers_2", "erased_x", "begun", moment)
    [entry] = erasure_log.read_erasures([path], "key")
    assert (entry.receipt, entry.done_at) == ("ers_2", None)


async def test_a_link_in_the_place_of_the_list_is_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "other"
    (tmp_path / "list").symlink_to(target)
    with pytest.raises(Unavailable, match="ERASURE_LOG_FILE"):
        await erasure_log.ErasureLog(tmp_path / "list", lambda: "key").write("r", "s", "begun", datetime.now(UTC))
    assert not target.exists()


async def test_log_lines_of_the_routes_name_no_user(logged: Callable[[], str], running: Running) -> None:
    user = f"somebody{uuid.uuid4().hex}"
    await erase(running, user)
    await exported(running, user)
    assert logged().count("/users/...") == 2
    assert user not in logged()
