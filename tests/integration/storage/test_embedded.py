"""The embedded server keeps its data over restarts, on another port too, and refuses a second engine."""

import socket
from pathlib import Path

import pytest

from notification_engine.domain.errors import ConfigurationError
from notification_engine.storage.connection import Database
from notification_engine.storage.embedded import EmbeddedMongod, find_binary


async def _written_and_read(directory: Path, *, write: bool) -> int:
    server = EmbeddedMongod(directory, find_binary(None))
    database = Database(await server.start(), "kept", pool_size=2)
    try:
        if write:
            await database.collection("things").insert_one({"kept": True})
        return await database.majority("things").count_documents({})
    finally:
        await database.close()
        await server.stop()


async def test_data_survives_a_restart_and_a_changed_port(tmp_path: Path) -> None:
    assert await _written_and_read(tmp_path, write=True) == 1
    assert await _written_and_read(tmp_path, write=False) == 1
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", int((tmp_path / "port").read_text())))
        assert await _written_and_read(tmp_path, write=True) == 2


async def test_a_second_engine_on_the_directory_is_refused(tmp_path: Path) -> None:
    first = EmbeddedMongod(tmp_path, find_binary(None))
    await first.start()
    try:
        with pytest.raises(ConfigurationError, match="MONGODB_DATA_DIR"):
            await EmbeddedMongod(tmp_path, find_binary(None)).start()
    finally:
        await first.stop()


def test_a_wrong_binary_is_named() -> None:
    with pytest.raises(ConfigurationError, match="MONGOD_BINARY"):
        find_binary("/nonexistent/mongod")
