"""What the doctor says of databases: well, behind, damaged, standalone, leaking, away, and of keys that do not open."""

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.canaries import canary
from tests.integration.doctor.conftest import SECRETS, Ask

from notification_engine.cli.doctor.database import look_at_clock, look_at_members, look_at_version
from notification_engine.security.envelope import LocalKeys
from notification_engine.storage.connection import Database
from notification_engine.storage.data_keys import PURPOSES, DataKeys
from notification_engine.storage.embedded import find_binary
from notification_engine.storage.inspection import ServerState
from notification_engine.storage.migrations import MIGRATIONS, missing_indexes

NAMES = [name for name, _ in MIGRATIONS]


@pytest.fixture
async def standalone(tmp_path: Path) -> AsyncIterator[str]:
    """A mongod as its package starts it: no replica set, zlib among its compressors."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    arguments = ["--dbpath", str(tmp_path), "--port", str(port), "--bind_ip", "127.0.0.1", "--nounixsocket"]
    quiet = {"stdout": asyncio.subprocess.DEVNULL, "stderr": asyncio.subprocess.DEVNULL}
    process = await asyncio.create_subprocess_exec(str(find_binary(None)), *arguments, **quiet)
    yield f"mongodb://127.0.0.1:{port}"
    process.kill()
    await process.wait()


async def test_a_database_that_is_well_is_said_to_be(ask: Ask, database: Database) -> None:
    await DataKeys(database, [LocalKeys(SECRETS["FIELD_ENCRYPTION_KEY"])]).open()
    code, found = await ask()
    assert code == 0
    well = (
        "configuration",
        "database",
        "clock",
        "migrations",
        "indexes",
        "data keys",
        "redis",
        "webhook guard",
        "disk",
    )
    assert {name: found[name]["level"] for name in well} == dict.fromkeys(well, "ok")
    assert found["data keys"]["seen"].startswith(f"{len(PURPOSES)} open")
    assert (found["replica set"]["level"], found["replica set"]["seen"]) == ("warn", "rs0: 1 member(s)")
    assert found["mongod version"]["seen"].endswith("zlib off")
    assert (found["e-mail"]["level"], "SENDGRID_API_KEY" in found["e-mail"]["todo"]) == ("warn", True)


async def test_it_writes_nothing(ask: Ask, database: Database) -> None:
    await database.drop()
    code, found = await ask()
    assert code == 0
    assert found["migrations"]["level"] == found["indexes"]["level"] == "warn"
    assert found["data keys"]["seen"] == "none yet; the first start makes them"
    assert await database.collection_names() == []


async def test_migrations_that_wait_are_named(ask: Ask, database: Database) -> None:
    await database.collection("notification_migrations").delete_one({"_id": NAMES[-1]})
    _, found = await ask()
    assert found["migrations"]["level"] == "warn"
    assert NAMES[-1] in found["migrations"]["seen"]
    assert "init-db" in found["migrations"]["todo"]


async def test_the_trace_of_a_newer_version_is_told(ask: Ask, database: Database) -> None:
    await database.collection("notification_migrations").insert_many([{"_id": "9999_from_the_future"}])
    _, found = await ask()
    assert (found["migrations"]["level"], "9999_from_the_future" in found["migrations"]["seen"]) == ("warn", True)
    assert "roll-back" in found["migrations"]["todo"]


async def test_a_dropped_index_fails_and_the_advice_mends_it(
    ask: Ask, database: Database, given: dict[str, str]
) -> None:
    await database.collection("notifications").drop_index("queue")
    code, found = await ask()
    assert (code, found["indexes"]["level"]) == (1, "fail")
    assert "notifications.queue" in found["indexes"]["seen"]
    assert "init-db --again" in found["indexes"]["todo"]
    from typer.testing import CliRunner

    from notification_engine.cli.main import app

    ran = await asyncio.to_thread(CliRunner().invoke, app, ["init-db", "--again"], env=given)
    assert ran.stdout.split() == NAMES
    assert await missing_indexes(database) == []


async def test_a_wrong_master_key_fails(ask: Ask, database: Database) -> None:
    await DataKeys(database, [LocalKeys(canary("another-master-key"))]).open()
    code, found = await ask()
    assert (code, found["data keys"]["level"]) == (1, "fail")
    assert found["data keys"]["seen"].startswith("FIELD_ENCRYPTION_KEY")


async def test_keys_of_the_former_master_key_want_a_rotation(ask: Ask, database: Database) -> None:
    former = canary("former-master-key")
    await DataKeys(database, [LocalKeys(former)]).open()
    code, found = await ask(FIELD_ENCRYPTION_KEY_PREVIOUS=former)
    assert (code, found["data keys"]["level"]) == (0, "warn")
    assert "keys rotate" in found["data keys"]["todo"]


async def test_a_standalone_server_with_zlib_fails_twice(ask: Ask, standalone: str) -> None:
    code, found = await ask(MONGODB_URL=standalone)
    assert (code, found["database"]["level"], found["replica set"]["level"]) == (1, "ok", "fail")
    assert "replica set is needed" in found["replica set"]["seen"]
    version = found["mongod version"]
    assert (version["level"], "zlib on" in version["seen"], "CVE-2025-14847" in version["seen"]) == ("fail", True, True)
    assert "--networkMessageCompressors" in version["todo"]


async def test_a_database_that_is_away_fails_and_the_rest_is_looked_at(ask: Ask) -> None:
    password = canary("database-password")
    code, found = await ask(MONGODB_URL=f"mongodb://engine:{password}@127.0.0.1:1/?replicaSet=rs0")
    assert (code, found["database"]["level"]) == (1, "fail")
    assert "MONGODB_URL" in found["database"]["todo"]
    assert found["webhook guard"]["level"] == "ok"


@pytest.mark.parametrize(
    ("version", "zlib", "level"),
    [
        ("6.0.26", True, "fail"),
        ("6.0.27", True, "ok"),
        ("6.0.5", False, "ok"),
        ("4.2.25", True, "fail"),
        ("8.1.0", True, "fail"),
        ("8.2.3", True, "ok"),
        ("9.0.0-rc1", True, "ok"),
        ("5.0.32", True, "warn"),
    ],
)
def test_versions_that_leak_by_zlib_fail(version: str, zlib: bool, level: str) -> None:
    assert look_at_version(ServerState(version, zlib, "rs0", 3, {})).level == level


def test_an_ill_member_is_named() -> None:
    members = {"a:1": "PRIMARY", "b:1": "SECONDARY", "c:1": "(not reachable/healthy)"}
    found = look_at_members(ServerState("7.0.30", False, "rs0", 3, members))
    assert (found.level, "c:1 (not reachable/healthy)" in found.seen, "b:1" in found.seen) == ("warn", True, False)
    assert look_at_members(ServerState("7.0.30", False, "rs0", 3, members | {"c:1": "SECONDARY"})).level == "ok"
    assert "clusterMonitor" in look_at_members(ServerState("7.0.30", False, "rs0", 3, {})).seen


@pytest.mark.parametrize(("skew", "level"), [(0.2, "ok"), (-1.5, "warn"), (90.0, "fail"), (-90.0, "fail")])
def test_a_clock_that_is_off_is_told(skew: float, level: str) -> None:
    found = look_at_clock(skew)
    assert found.level == level
    assert ("ahead" if skew > 0 else "behind") in found.seen
