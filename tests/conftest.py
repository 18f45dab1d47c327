"""Shared fixtures: a real mongod as a replica set, and a fresh database for each test that asks for one."""

import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from pymongo import AsyncMongoClient
from tests import outcome
from tests.canaries import (  # noqa: F401 - hooks
    pytest_runtest_logreport,
    pytest_sessionfinish,
    pytest_terminal_summary,
    pytest_testnodedown,
)
from tests.outcome import pytest_configure, pytest_runtest_makereport  # noqa: F401 - hooks

from notification_engine.kit.clock import Clock
from notification_engine.storage.connection import Database
from notification_engine.storage.embedded import EmbeddedMongod, find_binary
from notification_engine.storage.migrations import migrate

SNAPSHOT_SECONDS, CHECKPOINT_SECONDS = 30, 10
_configure = structlog.configure


def _configure_without_cache(**settings: Any) -> None:
    """A logger that keeps its first configuration would not be seen by `capture_logs` in a later test."""
    _configure(**(settings | {"cache_logger_on_first_use": False}))


structlog.configure = _configure_without_cache
structlog.configure(  # until a test configures more: the default prints the values of a traceback's variables
    processors=[
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback),
    ]
)


@pytest.fixture(scope="session")
async def mongod(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """What a test dropped is closed and deleted within a minute: by its defaults the server keeps 66 open files of each
    test for five, which is more than a process may open (`too many open files` ends a mongod)."""
    directory: Path = tmp_path_factory.mktemp("mongod")
    parameters = ["enableTestCommands=1", f"minSnapshotHistoryWindowInSeconds={SNAPSHOT_SECONDS}"]
    server = EmbeddedMongod(directory, find_binary(None), parameters=parameters)
    address = await server.start()
    async with AsyncMongoClient[dict[str, Any]](address) as client:
        await client.admin.command({"setParameter": 1, "syncdelay": CHECKPOINT_SECONDS})
    assert server.pid
    outcome.servers[server.pid] = directory / "mongod.log"
    yield address
    del outcome.servers[server.pid]
    await server.stop()


@pytest.fixture
async def database(mongod: str) -> AsyncIterator[Database]:
    """Opened and migrated; dropped afterwards."""
    database = Database(mongod, f"test_{uuid.uuid4().hex[:12]}", pool_size=20)
    await migrate(database)
    yield database
    await database.drop()
    await database.close()


@pytest.fixture
async def clock(database: Database) -> Clock:
    clock = Clock()
    await database.synchronise(clock)
    return clock
