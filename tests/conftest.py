"""Shared fixtures: a real mongod as a replica set, and a fresh database for each test that asks for one."""

import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import structlog
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
    directory: Path = tmp_path_factory.mktemp("mongod")
    server = EmbeddedMongod(directory, find_binary(None), parameters=["enableTestCommands=1"])
    address = await server.start()
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
