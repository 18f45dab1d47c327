"""The repositories on a fresh database."""

from collections.abc import AsyncIterator

import pytest
from tests.integration.storage.stores import Stores, notifications_of
from tests.servers.proxy import Proxy

from notification_engine.kit.clock import Clock
from notification_engine.storage.connection import Database
from notification_engine.storage.history import History


@pytest.fixture
async def stores(database: Database, clock: Clock) -> Stores:
    return Stores(database, clock, notifications_of(database, clock), History(database))


@pytest.fixture
async def proxy(mongod: str) -> AsyncIterator[Proxy]:
    server = Proxy(mongod)
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def proxied(proxy: Proxy, stores: Stores) -> AsyncIterator[Stores]:
    """The same database as `stores`, through the proxy."""
    database = Database(proxy.url, stores.database.name, pool_size=5)
    await database.synchronise(stores.clock)
    yield Stores(database, stores.clock, notifications_of(database, stores.clock), History(database))
    await database.close()
