"""The dump of every former release: restored, migrated, served by two of this engine, and nothing is forgotten.

And the other way round: what this engine writes has the fields and types that the former release wrote and reads.
"""

import json
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import bson
import pytest
from tests.fixtures.releases.fields import broken, shape
from tests.fixtures.releases.make import fill, record
from tests.integration.conftest import Running, Start, drop, message, token
from tests.servers.callbacks import SendGridSigner
from tests.servers.receiver import Answer, Receiver
from tests.servers.smtp import Mailbox

from notification_engine.kit.clock import Clock
from notification_engine.storage.archive import Archive
from notification_engine.storage.connection import Database
from notification_engine.storage.migrations import migrate, missing_indexes
from notification_engine.storage.restore import restore

DUMPS = sorted((Path(__file__).parents[1] / "fixtures/releases").glob("*.backup"))
ATTACHED = "report.pdf"
# What a former release cannot read of this one's, and goes without; exact, so that nothing is added unseen.
# Since the dump was made, addresses are sealed with the user's own key, and audit rows have ids of their own.
UNREADABLE: dict[str, dict[str, list[str]]] = {
    "0.1.0": {
        "notification_audit_logs": ["_id is str, was ObjectId"],
        "notification_provider_events": ["address is missing", "raw is missing"],
        "notification_suppressions": ["address is bytes, was str"],
        "notifications": ["deliveries[].endpoint is bytes/str, was str", "email is bytes, was str"],
    }
}


class Silent:
    def begin(self, label: str, total: int) -> None: ...

    def advance(self, count: int) -> None: ...


class Former:
    """A database of a former release, as its dump has it; the address of its webhook is the test's own."""

    def __init__(self, dump: Path, name: str) -> None:
        self.dump = dump
        self.name = name
        self.told: dict[str, Any] = json.loads(dump.with_suffix(".json").read_text())

    async def restored(self, mongod: str, receiver: Receiver) -> "Former":
        database = Database(mongod, self.name, pool_size=2)
        try:
            await database.synchronise(Clock())
            _, counts = await restore(database, self.dump, replace=False, progress=Silent())
            assert counts == self.told["counts"]
            assert all(counts[name] for name in counts), "the dump holds something of everything"
            place = {"$set": {"url": f"{receiver.address}/hook"}}
            await database.collection("notification_webhook_endpoints").update_many({}, place)
            later = {"$set": {"expires_at": datetime.now(UTC) + timedelta(days=1)}}
            for name in counts:  # as if it were the day of the release
                if name != "notifications":
                    await database.collection(name).update_many({"expires_at": {"$exists": True}}, later)
        finally:
            await database.close()
        receiver.secrets["/hook"] = self.told["webhook_secret"]
        return self


@pytest.fixture(params=DUMPS, ids=lambda path: path.stem)
async def former(request: pytest.FixtureRequest, mongod: str, receiver: Receiver) -> AsyncIterator[Former]:
    name = f"former_{uuid.uuid4().hex[:12]}"
    yield await Former(request.param, name).restored(mongod, receiver)
    await drop(mongod, name)


async def test_migrations_bring_it_here_and_are_harmless_when_repeated(former: Former, mongod: str) -> None:
    database = Database(mongod, former.name, pool_size=2)
    try:
        await migrate(database)
        assert await migrate(database) == []
        assert await missing_indexes(database) == []
        recorded = {row["_id"] async for row in database.collection("notification_migrations").find()}
        assert recorded >= set(former.told["migrations"]), "none is forgotten"
        for name, count in former.told["counts"].items():
            assert await database.collection(name).count_documents({}) >= count, name
    finally:
        await database.close()


async def test_two_engines_serve_it_side_by_side_and_nothing_is_forgotten(
    former: Former, start: Start, receiver: Receiver, mailbox: Mailbox
) -> None:
    """What was pending is delivered once, what was read is read, what was decided holds; both take new work."""
    blue = await start(MONGODB_DATABASE=former.name, FIELD_ENCRYPTION_KEY=former.told["secret"])
    green = await start(MONGODB_DATABASE=former.name, FIELD_ENCRYPTION_KEY=former.told["secret"])
    await pending_is_delivered(former, green, receiver, mailbox)
    for engine in (blue, green):
        inbox = await called(engine, "GET", "", as_=token("ada"))
        found = sorted([n["title"], n["read_at"] is not None] for n in inbox["notifications"])
        assert found == sorted([*former.told["inbox_of_ada"], ["Pending mail", False]])
    dead = await called(blue, "GET", "/dead-letters")
    assert [letter["notification_id"] for letter in dead["dead_letters"]] == [former.told["dead"]]
    await decisions_hold(green)
    accepted = await blue.accept(message("eve", channels=["in_app", "email"]))
    assert (await green.settled(accepted))["status"] == "accepted"


async def pending_is_delivered(former: Former, engine: Running, receiver: Receiver, mailbox: Mailbox) -> None:
    for channel, notification_id in former.told["pending"].items():
        shown = await engine.settled(notification_id, seconds=90)
        by_channel = {d["channel"]: d["status"] for d in shown["deliveries"]}
        assert by_channel[channel] == {"email": "accepted", "webhook": "delivered"}[channel]
    [call] = receiver.calls
    assert call.event["data"]["notification_id"] == former.told["pending"]["webhook"]
    [mail] = mailbox.messages
    assert [part.get_filename() for part in mail.iter_attachments()] == [ATTACHED]


async def decisions_hold(engine: Running) -> None:
    """A preference, a suppression, a type and its template."""
    gone = {"recipients": [{"user_id": "gone", "email": "gone@example.org"}]}
    suppressed = await engine.settled(await engine.accept(message(channels=["email"]) | gone))
    assert suppressed["status"] == "suppressed"
    ordered = {"notification_type": "shop.order", "recipients": [{"user_id": "zoe"}], "data": {"number": 99}}
    shown = await engine.settled(await engine.accept(ordered))
    assert shown["title"] == "Order 99"
    preferences = await called(engine, "GET", "/preferences", as_=token("ada"))
    assert preferences["types"] == {"shop.*": {"email": False}}


def written(dump: Path) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    with dump.open("rb") as file:
        for name, document in Archive(file, dump.name).documents():
            found.setdefault(name, []).append(bson.decode(document))
    return found


@pytest.mark.parametrize("dump", DUMPS, ids=lambda path: path.stem)
async def test_what_is_written_now_the_former_release_still_reads(dump: Path, start: Start, receiver: Receiver) -> None:
    """The work that made the dump is done again: every field that was always there is, and has a type that it had."""
    signer = SendGridSigner()
    engine = await start(SENDGRID_WEBHOOK_PUBLIC_KEY=signer.public_key, WEBHOOK_MAX_RETRIES=0)
    receiver.answers.append(Answer(status=500))
    await fill(engine, receiver, signer)
    await record(engine)
    found = {}
    for name, documents in written(dump).items():
        now = [document async for document in engine.engine.database.collection(name).find()]
        assert now, f"nothing of {name} was written"
        if wrong := broken(shape(documents), shape(now)):
            found[name] = wrong
    assert found == UNREADABLE[dump.stem]


def test_a_field_that_goes_or_changes_would_be_found() -> None:
    former = shape([{"a": 1, "b": [{"c": "x", "d": None}, {"c": "y"}]}, {"a": 2, "b": [], "e": {"f": 1}}])
    assert broken(former, former) == []
    assert broken(former, shape([{"a": 1, "b": [{"c": "x", "new": 1}], "new": 1}])) == [], "adding breaks nothing"
    assert broken(former, shape([{"b": []}, {"a": 1, "b": []}])) == ["a is missing"], "of one document is enough"
    assert broken(former, shape([{"a": "1", "b": []}])) == ["a is str, was int"]
    assert broken(former, shape([{"a": 1, "b": [{"d": None}]}])) == ["b[].c is missing"]
    assert broken(former, shape([{"a": 1, "b": [], "e": {}}])) == ["e.f is missing"]


async def called(engine: Running, method: str, path: str, **given: Any) -> Any:
    status, body = await engine.call(method, path, **given)
    assert status == 200, body
    return body
