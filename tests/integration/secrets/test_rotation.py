"""A new master key without downtime, and a wrong one refused before anything is sent."""

import asyncio
from typing import Any

import pytest
from tests.integration.conftest import SECRET, Start, message, token
from tests.integration.secrets.test_at_rest import OWNER, TITLE, declared, sensitive
from tests.servers.receiver import Receiver

from notification_engine.domain.caller import Caller, Role
from notification_engine.domain.delivery import Channel
from notification_engine.domain.errors import ConfigurationError
from notification_engine.security.envelope import LocalKeys
from notification_engine.security.field_encryption import FieldCipher
from notification_engine.security.unsubscribe import UnsubscribeTokens
from notification_engine.storage.connection import Database
from notification_engine.storage.data_keys import PURPOSES, DataKeys

OLD, NEW = "an old master key of 32 bytes or more", "a new master key of 32 bytes or more"
READER = Caller("op", frozenset({Role.OPERATOR}), 4e9)


async def test_rotation_under_traffic_and_then_without_the_old_key(start: Start, receiver: Receiver) -> None:
    before = await start(FIELD_ENCRYPTION_KEY=OLD)
    await declared(before)
    endpoint = await before.register(receiver.address + "/in")
    receiver.secrets["/in"] = endpoint["secret"]
    ids: list[str] = []
    over = asyncio.Event()

    async def traffic() -> None:
        while not over.is_set() or len(ids) < 20:
            ids.append(await before.accept(sensitive(channels=["in_app", "webhook"])))

    sending = asyncio.create_task(traffic())
    during = await start(FIELD_ENCRYPTION_KEY=NEW, FIELD_ENCRYPTION_KEY_PREVIOUS=OLD)
    assert await during.engine.data_keys.rotate() == len(PURPOSES)
    assert await during.engine.data_keys.rotate() == 0, "a second rotation finds nothing to do"
    over.set()
    await sending
    after = await start(FIELD_ENCRYPTION_KEY=NEW)
    assert all(state.current for state in await after.engine.data_keys.status())
    for notification_id in ids:
        found = await after.engine.notifications.get(READER, notification_id)
        assert (found.title, found.user_id, found.erased) == (TITLE, OWNER, False)
    await after.settled(await after.accept(message(channels=["webhook"])))
    await receiver.received(len(ids) + 1)
    with pytest.raises(ConfigurationError, match=r"^FIELD_ENCRYPTION_KEY: "):
        await start(FIELD_ENCRYPTION_KEY=OLD)


async def test_a_rotation_that_was_broken_off_goes_on(database: Database) -> None:
    first = DataKeys(database, [LocalKeys(OLD)])
    await first.open()
    rotating = DataKeys(database, [LocalKeys(NEW, [OLD])])
    stored = await rotating._stored()
    await rotating._rewrap(stored[0])
    assert [state.current for state in await rotating.status()] == [True] + [False] * (len(PURPOSES) - 1)
    await DataKeys(database, [LocalKeys(NEW, [OLD])]).open()
    assert await rotating._rewrap(stored[0]) == 0, "what another has wrapped meanwhile is not overwritten"
    assert await rotating.rotate() == len(PURPOSES) - 1
    last = DataKeys(database, [LocalKeys(NEW)])
    await last.open()
    assert {p: last.key(p).material for p in PURPOSES} == {p: first.key(p).material for p in PURPOSES}


async def test_replicas_that_start_at_once_make_one_set_of_keys(database: Database) -> None:
    replicas = [DataKeys(database, [LocalKeys(OLD)]) for _ in range(5)]
    await asyncio.gather(*(keys.open() for keys in replicas))
    for purpose in PURPOSES:
        assert len({keys.key(purpose).material for keys in replicas}) == 1


async def test_no_key_stands_in_the_database_unwrapped(database: Database) -> None:
    keys = DataKeys(database, [LocalKeys(OLD)])
    await keys.open()
    stored = b"".join([batch async for batch in database.collection("notification_data_keys").find_raw_batches({})])
    assert not any(keys.key(purpose).material[8:] in stored for purpose in PURPOSES)
    assert OLD.encode() not in stored


@pytest.mark.parametrize("settings", [{"JWT_SECRET_KEY": NEW}, {"FIELD_ENCRYPTION_KEY": NEW, "JWT_SECRET_KEY": OLD}])
async def test_a_wrong_key_is_refused_at_the_start(start: Start, settings: dict[str, Any]) -> None:
    await start()
    with pytest.raises(ConfigurationError, match=r"^FIELD_ENCRYPTION_KEY: .*JWT_SECRET_KEY"):
        await start(**settings)


async def test_a_first_master_key_of_its_own_opens_what_the_token_key_wrapped(start: Start) -> None:
    running = await start()
    await declared(running)
    notification_id = await running.accept(sensitive(channels=["in_app"]))
    later = await start(FIELD_ENCRYPTION_KEY=NEW)
    assert (await later.engine.notifications.get(READER, notification_id)).title == TITLE


async def test_secrets_of_an_engine_before_the_data_keys_open_and_are_brought_over(
    start: Start, receiver: Receiver
) -> None:
    running = await start()
    endpoint = await running.register(receiver.address + "/in")
    database = running.engine.database
    old = FieldCipher.from_secret(SECRET).encrypt(endpoint["secret"].encode())
    match = {"_id": endpoint["webhook_id"]}
    await database.collection("notification_webhook_endpoints").update_one(match, {"$set": {"secret": old}})
    await database.collection("notification_data_keys").delete_many({})
    with pytest.raises(ConfigurationError, match=r"^FIELD_ENCRYPTION_KEY"):
        await start(JWT_SECRET_KEY=NEW)
    assert await database.collection("notification_data_keys").count_documents({}) == 0, "none was made beside them"
    upgraded = await start()
    assert (await upgraded.engine.endpoints.get(endpoint["webhook_id"])).secret == endpoint["secret"]
    assert await upgraded.engine.endpoints.legacy() == 1
    assert [await upgraded.engine.endpoints.reseal(), await upgraded.engine.endpoints.reseal()] == [1, 0]
    assert (await upgraded.engine.endpoints.get(endpoint["webhook_id"])).secret == endpoint["secret"]


async def test_links_to_unsubscribe_outlive_every_master_key(start: Start) -> None:
    first = await start(FIELD_ENCRYPTION_KEY=OLD, PUBLIC_URL="https://engine.example.org")
    links = [
        first.engine.unsubscribe_tokens.seal("u1", "shop.offer", Channel.EMAIL),
        UnsubscribeTokens(SECRET).seal("u1", "shop.offer", Channel.EMAIL),
    ]
    await (await start(FIELD_ENCRYPTION_KEY=NEW, FIELD_ENCRYPTION_KEY_PREVIOUS=OLD)).engine.data_keys.rotate()
    last = await start(FIELD_ENCRYPTION_KEY=NEW)
    assert [last.engine.unsubscribe_tokens.open(link) is not None for link in links] == [True, True]
    status, _ = await last.call("GET", "/types", as_=token("op", Role.OPERATOR))
    assert status == 200


async def test_no_second_set_of_keys_is_made_where_the_first_is_lost(start: Start) -> None:
    running = await start()
    await running.accept(message("u1"))
    await running.engine.database.collection("notification_data_keys").delete_many({})
    with pytest.raises(ConfigurationError, match=r"^notification_data_keys: the data keys are gone"):
        await start()
    assert await running.engine.database.collection("notification_data_keys").count_documents({}) == 0
