"""A user's own key: made once, shared by all replicas, and with its end nothing it sealed is read again."""

import asyncio
from typing import Any

import pytest
from tests.integration.conftest import Start, message, token
from tests.integration.secrets.test_at_rest import ADDRESS, BODY, DATA, LATER, OWNER, TITLE, declared, sensitive
from tests.integration.storage.stores import fail_command
from tests.sealers import sealer
from tests.servers.smtp import Mailbox

from notification_engine.domain.caller import Caller, Role
from notification_engine.domain.errors import Unavailable
from notification_engine.services.ports import PersonalData
from notification_engine.storage.connection import Database
from notification_engine.storage.user_keys import UserKeys

READER = Caller("op", frozenset({Role.OPERATOR}), 4e9)


async def test_replicas_that_meet_a_new_user_at_once_agree_on_one_key(database: Database) -> None:
    replicas = [UserKeys(database, sealer()) for _ in range(4)]
    users = [f"u{i}" for i in range(50)]
    answers = await asyncio.gather(*(keys.ensure(users) for keys in replicas for _ in range(3)))
    for user in users:
        assert len({answer[user].material for answer in answers}) == 1
    assert await database.majority("notification_user_keys").count_documents({}) == 50


async def test_a_thousand_new_users_travel_in_few_writes(database: Database) -> None:
    keys = UserKeys(database, sealer())
    flushed: list[int] = []
    make = keys._makes._flush

    async def counted(user_ids: list[str]) -> object:
        flushed.append(len(user_ids))
        return await make(user_ids)

    keys._makes._flush = counted  # type: ignore[assignment]
    await asyncio.gather(*(keys.ensure([f"u{i}"]) for i in range(1000)))
    assert len(flushed) <= 3
    await asyncio.gather(*(keys.ensure([f"u{i}"]) for i in range(1000)))
    assert sum(flushed) == 1000, "what is kept is not asked for again"


async def test_no_key_is_handed_out_that_is_not_stored(
    database: Database, mongod: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = UserKeys(database, sealer())
    monkeypatch.setattr("notification_engine.storage.user_keys.ACCEPT_SECONDS", 0.3)
    failing: dict[str, Any] = {"failCommands": ["insert"], "errorCode": 8}
    async with fail_command(mongod, database, "notification_user_keys", "alwaysOn", **failing):
        with pytest.raises(Unavailable):
            await keys.ensure(["u1"])
    assert await database.majority("notification_user_keys").count_documents({}) == 0


async def test_a_key_whose_write_was_not_confirmed_is_read_from_the_majority(database: Database, mongod: str) -> None:
    keys = UserKeys(database, sealer())
    failing: dict[str, Any] = {"failCommands": ["insert"], "writeConcernError": {"code": 91, "errmsg": "of the test"}}
    async with fail_command(mongod, database, "notification_user_keys", "alwaysOn", **failing):
        given = await keys.ensure(["u1"])
    assert (await UserKeys(database, sealer()).load(["u1"]))["u1"].material == given["u1"].material


async def test_a_key_that_was_moved_to_another_user_does_not_open(database: Database) -> None:
    keys = UserKeys(database, sealer())
    await keys.ensure(["u1", "u2"])
    collection = database.collection("notification_user_keys")
    stolen = await collection.find_one({"_id": "u1"})
    assert stolen is not None
    await collection.update_one({"_id": "u2"}, {"$set": {"key": stolen["key"]}})
    assert (await UserKeys(database, sealer()).load(["u1", "u2"])).keys() == {"u1"}


async def test_erasing_a_user_makes_what_is_left_unreadable_for_ever(start: Start, mailbox: Mailbox) -> None:
    running = await start()
    await declared(running)
    waiting = await running.accept(sensitive(scheduled_at=LATER))
    there = await running.accept(sensitive(channels=["in_app"]))
    kept = await running.accept(message("u-kept", channels=["email"], scheduled_at=LATER))
    keys: PersonalData = running.engine.user_keys
    assert await keys.export(OWNER) == []
    assert [await keys.erase(OWNER), await keys.erase(OWNER)] == [1, 0]
    for notification_id in (waiting, there):
        found = await running.engine.notifications.get(READER, notification_id)
        assert found.erased
        assert (found.title, found.body, found.data, found.email) == ("", "", {}, None)
        assert {d.endpoint for d in found.deliveries} == {None}
    assert (await running.engine.notifications.get(READER, kept)).email == "u-kept@example.org"
    _, inbox = await running.call("GET", "", as_=token(OWNER, Role.USER))
    assert [n["title"] for n in inbox["notifications"]] == [""]
    await running.engine.database.collection("notifications").update_one(
        {"_id": waiting}, [{"$set": {"due_at": "$$NOW", "deliveries.next_attempt_at": "$$NOW"}}]
    )
    settled = await running.settled(waiting)
    emails = [(d["status"], d["reason"]) for d in settled["deliveries"] if d["channel"] == "email"]
    assert emails == [("suppressed", "erased")]
    assert mailbox.messages == []


async def test_a_user_who_comes_back_has_a_new_key(start: Start) -> None:
    running = await start()
    await declared(running)
    before = await running.accept(sensitive(channels=["in_app"]))
    await running.engine.user_keys.erase(OWNER)
    after = await running.accept(sensitive(channels=["in_app"]))
    shown = [(await running.engine.notifications.get(READER, i)).title for i in (before, after)]
    assert shown == ["", TITLE]


async def test_another_replica_forgets_the_key_when_it_is_told(start: Start) -> None:
    """Here by hand, as `realtime.invalidation` does it with every bus; without one by `CACHE_SECONDS`."""
    one, other = await start(), await start()
    await declared(one)
    notification_id = await one.accept(sensitive(channels=["in_app"]))
    assert (await other.engine.notifications.get(READER, notification_id)).title == TITLE
    told: list[str] = []
    one.engine.user_keys.on_change = told.append
    await one.engine.user_keys.erase(OWNER)
    assert told == [OWNER]
    other.engine._invalidation._heard(b"user_keys " + OWNER.encode())
    found = await other.engine.notifications.get(READER, notification_id)
    assert not any(canary in repr(found) for canary in (ADDRESS, TITLE, BODY, DATA))


async def test_a_key_is_kept_for_half_a_minute_at_most(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = UserKeys(database, sealer()), UserKeys(database, sealer())
    await one.ensure(["u1"])
    assert (await other.load(["u1"])).keys() == {"u1"}
    await one.erase("u1")
    assert (await other.load(["u1"])).keys() == {"u1"}, "nobody told it"
    now = asyncio.get_running_loop().time()
    monkeypatch.setattr("notification_engine.storage.user_keys.time.monotonic", lambda: now + 30.1)
    assert await other.load(["u1"]) == {}
