"""The repositories on a fresh database, and a daemon over them."""

import pytest
from tests.integration.daemon.daemons import Daemon, a_daemon
from tests.integration.storage.stores import Stores, notifications_of

from notification_engine.kit.clock import Clock
from notification_engine.storage.connection import Database
from notification_engine.storage.history import History


@pytest.fixture
async def stores(database: Database, clock: Clock) -> Stores:
    return Stores(database, clock, notifications_of(database, clock), History(database))


@pytest.fixture
async def daemon(stores: Stores) -> Daemon:
    return a_daemon(stores)
