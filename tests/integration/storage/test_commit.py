"""The group commit: what cannot be stored fails alone, and nothing counts as stored that a majority did not confirm."""

import asyncio
import gc
from typing import Any

import pytest
from tests.integration.storage.stores import Stores, fail_command
from tests.servers.proxy import Proxy

from notification_engine.domain.errors import InvalidRequest, Unavailable
from notification_engine.domain.notification import Idempotency, Notification
from notification_engine.services.ports import Inserted, KeyTaken
from notification_engine.storage import notifications as module


def _nested(levels: int) -> dict[str, Any]:
    data: dict[str, Any] = {}
    for _ in range(levels):
        data = {"d": data}
    return data


_BAD = {
    "more than 64 bits": {"data": {"n": 2**70}},
    "lone surrogate": {"title": "\ud800"},
    "NUL in a key": {"data": {"a\0b": 1}},
    "too deep": {"data": _nested(150)},
    "deeper than the stack": {"data": _nested(100_000)},
    "no BSON type": {"data": {"x": object()}},
    "too large": {"data": {"x": "y" * (16 * 1024 * 1024)}},
}


async def _insert_one(stores: Stores, notification: Notification) -> Inserted | KeyTaken:
    [result] = await stores.notifications.insert([(notification.id, stores.notifications.encode(notification))])
    return result


@pytest.mark.parametrize("bad", list(_BAD))
async def test_what_cannot_be_stored_fails_alone_among_strangers(stores: Stores, bad: str) -> None:
    everybody = [stores.due() for _ in range(50)] + [stores.due(**_BAD[bad])] + [stores.due() for _ in range(49)]
    results = await asyncio.gather(*(_insert_one(stores, n) for n in everybody), return_exceptions=True)
    assert isinstance(results[50], InvalidRequest)
    assert [r for i, r in enumerate(results) if i != 50] == [Inserted()] * 99
    assert await stores.count() == 99


async def test_the_field_that_cannot_be_stored_is_named(stores: Stores) -> None:
    for bad, fields in _BAD.items():
        with pytest.raises(InvalidRequest) as caught:
            stores.notifications.encode(stores.due(**fields))
        assert caught.value.field == next(iter(fields)), bad


async def test_what_the_server_alone_refuses_fails_alone_too(stores: Stores) -> None:
    """A document validator stands for whatever only the server can know."""
    validator = {"validator": {"title": {"$ne": "refused"}}}
    await stores.database._db.command("collMod", "notifications", **validator)
    everybody = [stores.due() for _ in range(99)] + [stores.due(title="refused")]
    results = await asyncio.gather(*(_insert_one(stores, n) for n in everybody), return_exceptions=True)
    assert isinstance(results.pop(), InvalidRequest)
    assert results == [Inserted()] * 99
    assert await stores.count() == 99


_UNCONFIRMED = {"code": 64, "errmsg": "waiting for replication timed out", "codeName": "WriteConcernFailed"}


async def test_a_write_concern_error_is_never_an_answer(mongod: str, stores: Stores) -> None:
    data = {"failCommands": ["insert"], "writeConcernError": _UNCONFIRMED}
    async with fail_command(mongod, stores.database, "notifications", "alwaysOn", **data):
        with pytest.raises(Unavailable):
            await _insert_one(stores, stores.due())


async def test_every_waiter_of_a_failed_commit_is_told_and_no_error_is_left_over(mongod: str, stores: Stores) -> None:
    """An error that nobody fetched is logged by asyncio, with the traceback and without anybody's request id."""
    left_over: list[Any] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: left_over.append(context))
    rows = [(n.id, stores.notifications.encode(n)) for n in (stores.due() for _ in range(5))]
    data = {"failCommands": ["insert"], "writeConcernError": _UNCONFIRMED}
    try:
        async with fail_command(mongod, stores.database, "notifications", "alwaysOn", **data):
            with pytest.raises(Unavailable):
                await stores.notifications.insert(rows)
        gc.collect()
    finally:
        loop.set_exception_handler(None)
    assert left_over == []


async def test_a_write_concern_error_behind_the_drivers_retry_is_not_hidden(mongod: str, stores: Stores) -> None:
    """The trap: the first try is applied but unconfirmed, the driver tries again and meets its own duplicate key."""
    notification = stores.due()
    unconfirmed = _UNCONFIRMED | {"code": 91, "codeName": "ShutdownInProgress", "errorLabels": ["RetryableWriteError"]}
    data = {"failCommands": ["insert"], "writeConcernError": unconfirmed, "errorLabels": ["RetryableWriteError"]}
    async with fail_command(mongod, stores.database, "notifications", "alwaysOn", **data):
        with pytest.raises(Unavailable):
            await _insert_one(stores, notification)
    assert await _insert_one(stores, notification) == Inserted()
    assert await stores.count() == 1


async def test_a_duplicate_of_our_own_with_an_unconfirmed_write_is_unavailable(mongod: str, stores: Stores) -> None:
    notification = stores.due()
    await stores.put([notification])
    data = {"failCommands": ["insert"], "writeConcernError": _UNCONFIRMED}
    async with fail_command(mongod, stores.database, "notifications", "alwaysOn", **data):
        with pytest.raises(Unavailable):
            await _insert_one(stores, notification)


async def test_a_connection_closed_before_the_write_is_tried_again(mongod: str, stores: Stores) -> None:
    data = {"failCommands": ["insert"], "closeConnection": True}
    async with fail_command(mongod, stores.database, "notifications", {"times": 5}, **data):
        await stores.put([stores.due() for _ in range(20)])
    assert await stores.count() == 20


async def test_a_connection_closed_after_the_write_stores_once(stores: Stores, proxied: Stores, proxy: Proxy) -> None:
    made = [stores.due(idempotency=Idempotency(f"key-{i}", "body")) for i in range(20)]
    proxy.lose("insert", 5)
    await proxied.put(made)
    assert proxy.left == 0
    assert await stores.count() == 20


async def test_an_unknown_fate_at_the_deadline_is_unavailable(
    mongod: str, stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ACCEPT_SECONDS", 1.0)
    notification = stores.due()
    data = {"failCommands": ["insert"], "closeConnection": True}
    async with fail_command(mongod, stores.database, "notifications", "alwaysOn", **data):
        with pytest.raises(Unavailable):
            await _insert_one(stores, notification)
    assert await stores.count() == 0
    assert await _insert_one(stores, notification) == Inserted()


async def test_the_key_of_another_is_told_from_our_own_repeated_insert(stores: Stores) -> None:
    first, second = (stores.due(idempotency=Idempotency("key", "body")) for _ in range(2))
    assert await _insert_one(stores, first) == Inserted()
    assert await _insert_one(stores, first) == Inserted()
    assert await _insert_one(stores, second) == KeyTaken()
    assert await stores.count() == 1


async def test_singles_travel_together(stores: Stores) -> None:
    sizes: list[int] = []
    stores.notifications._observe_batch = sizes.append
    await asyncio.gather(*(_insert_one(stores, stores.due()) for _ in range(500)))
    assert sum(sizes) == 500
    assert len(sizes) < 50
