"""Migrations: the guide's indexes word for word, in order, recorded, harmless when repeated or run at once."""

import asyncio
import json
import re
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from notification_engine.storage import migrations
from notification_engine.storage.connection import Database
from notification_engine.storage.migrations import ALL_INDEXES, MIGRATIONS, foreign, migrate, missing_indexes, pending

GUIDE_TEXT = Path(__file__).parents[3] / "docs" / "deployment-guide.md"
NAMES = [name for name, _ in MIGRATIONS]


@pytest.fixture
async def empty(mongod: str) -> AsyncIterator[Database]:
    database = Database(mongod, f"test_{uuid.uuid4().hex[:12]}", pool_size=20)
    yield database
    await database.drop()
    await database.close()


def _guides_lines() -> list[tuple[str, list[tuple[str, int]], bool]]:
    """Collection, keys and uniqueness of each `createIndex` of the section."""
    section = GUIDE_TEXT.read_text().partition("#### Indexes Creation")[2].partition("####")[0]
    lines = re.findall(r"db\.(\w+)\.createIndex\((\{.*?\})(?:, (\{.*\}))?\)", section)
    return [(name, list(json.loads(keys).items()), "unique: true" in options) for name, keys, options in lines]


async def _indexes(database: Database, name: str) -> list[tuple[list[tuple[str, int]], dict[str, Any]]]:
    found = await database.collection(name).index_information()
    return [(list(index["key"]), index) for index in found.values()]


async def test_the_guides_indexes_exist_exactly(empty: Database) -> None:
    await migrate(empty)
    lines = _guides_lines()
    assert len(lines) == 12
    for collection, keys, unique in lines:
        [index] = [i for k, i in await _indexes(empty, collection) if k == keys and "partialFilterExpression" not in i]
        assert bool(index.get("unique")) == unique, (collection, keys)
        assert "sparse" not in index
        assert "expireAfterSeconds" not in index


async def test_nothing_but_the_guides_and_the_engines_own_indexes_is_made(empty: Database) -> None:
    await migrate(empty)
    for name in {name for indexes in ALL_INDEXES for name in indexes}:
        wanted = {m.document["name"] for indexes in ALL_INDEXES for m in indexes.get(name, [])} | {"_id_"}
        assert set(await empty.collection(name).index_information()) == wanted


async def test_migrations_run_in_order_once_and_are_recorded(empty: Database) -> None:
    assert await migrate(empty) == NAMES == sorted(NAMES)
    assert await migrate(empty) == []
    records = [r async for r in empty.majority("notification_migrations").find(sort=[("_id", 1)])]
    assert [r["_id"] for r in records] == NAMES
    assert all(r["applied_at"] for r in records)


async def test_what_is_not_recorded_runs_again_harmlessly(empty: Database) -> None:
    await migrate(empty)
    await empty.collection("notification_migrations").delete_one({"_id": NAMES[0]})
    assert await migrate(empty) == NAMES[:1]
    assert await missing_indexes(empty) == []


async def test_a_migration_that_failed_is_not_recorded(empty: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fails(database: Database) -> None:
        raise RuntimeError("half-way")

    monkeypatch.setattr(migrations, "MIGRATIONS", (MIGRATIONS[0], ("0002_fails", fails), ("0003_later", fails)))
    with pytest.raises(RuntimeError):
        await migrate(empty)
    monkeypatch.undo()
    assert await migrate(empty) == NAMES[1:]


async def test_several_processes_may_migrate_at_once(mongod: str, empty: Database) -> None:
    others = [Database(mongod, empty.name, pool_size=2) for _ in range(4)]
    try:
        ran = await asyncio.gather(*(migrate(database) for database in (empty, *others)))
    finally:
        for database in others:
            await database.close()
    assert {name for names in ran for name in names} == set(NAMES)
    assert await missing_indexes(empty) == []
    assert await empty.collection("notification_migrations").count_documents({}) == len(NAMES)


@pytest.mark.parametrize("index", ["user_id_1_created_at_-1", "queue", "unread"])
async def test_a_dropped_index_is_missed(empty: Database, index: str) -> None:
    await migrate(empty)
    await empty.collection("notifications").drop_index(index)
    assert await missing_indexes(empty) == [f"notifications.{index}"]


async def test_the_queue_index_holds_the_backlog_only(database: Database) -> None:
    """What has no due time is not in it, so that the queue does not grow with the history."""
    plain = {"rank": 1, "status": "delivered"}
    await database.collection("notifications").insert_many([dict(plain) for _ in range(100)])
    plan = await database.collection("notifications").find({"due_at": {"$exists": True}}).hint("queue").explain()
    assert plan["executionStats"]["totalKeysExamined"] == 0


async def test_what_a_newer_version_left_is_not_touched(empty: Database) -> None:
    """The roll-back plan: this version runs on a database that a newer one has migrated."""
    await migrate(empty)
    await empty.collection("notification_migrations").insert_one({"_id": "9999_from_the_future"})
    await empty.collection("notifications").create_index([("future", 1)], name="future")
    await empty.collection("notification_preferences").insert_one({"_id": "u1", "user_id": "u1", "future": True})
    assert await migrate(empty) == []
    assert await migrate(empty, again=True) == NAMES
    assert await foreign(empty) == ["9999_from_the_future"]
    assert await missing_indexes(empty) == []
    assert "future" in await empty.collection("notifications").index_information()
    kept = await empty.collection("notification_preferences").find_one({})
    assert kept == {"_id": "u1", "user_id": "u1", "future": True}


async def test_what_would_run_is_told_without_running(empty: Database) -> None:
    assert await pending(empty) == NAMES
    assert await empty.collection_names() == []
    await migrate(empty)
    assert await pending(empty) == []


async def test_migrations_only_add_to_what_is_stored(empty: Database) -> None:
    """Every document stays, with every field that it had: the version before reads on."""
    await migrate(empty)
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    rows: dict[str, Any] = {
        "notifications": {"_id": "ntfy_1", "status": "failed", "deliveries": [{"id": "d", "status": "failed"}]},
        "notification_audit_logs": {"_id": "a1", "timestamp": moment, "user_id": "u", "action": "x.y", "target": "t"},
        "notification_preferences": {"_id": "u1", "user_id": "u1", "updated_at": moment},
        "notification_provider_events": {"_id": "e1", "received_at": moment, "address": "sealed"},
        "notification_suppressions": {"_id": "s1", "created_at": moment},
    }
    for name, row in rows.items():
        await empty.collection(name).insert_one(dict(row))
    assert await migrate(empty, again=True) == NAMES
    for name, row in rows.items():
        found = await empty.collection(name).find_one({"_id": row["_id"]})
        assert found is not None, name
        assert row.keys() <= found.keys(), name
