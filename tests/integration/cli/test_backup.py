"""Backup and restore: one moment whatever is written, nothing lost with the data directory, nothing sent twice."""

import asyncio
import os
import resource
import shutil
import sys
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pymongo
import pytest
from pymongo.errors import OperationFailure
from tests.conftest import SNAPSHOT_SECONDS
from tests.integration.conftest import FAST, SECRET, Running, Start, message, serving, token
from tests.servers.receiver import Receiver

from notification_engine.domain.caller import Role
from notification_engine.domain.delivery import DeliveryStatus
from notification_engine.domain.errors import ConfigurationError, Unavailable
from notification_engine.kit.clock import Clock
from notification_engine.services.ports import Change
from notification_engine.settings import Settings
from notification_engine.storage import backup as storing
from notification_engine.storage.archive import Header
from notification_engine.storage.backup import backup
from notification_engine.storage.connection import Database
from notification_engine.storage.embedded import EmbeddedMongod, find_binary
from notification_engine.storage.migrations import migrate, missing_indexes
from notification_engine.storage.notifications import Notifications
from notification_engine.storage.reports import Reports
from notification_engine.storage.restore import restore

Sync = pymongo.MongoClient[dict[str, Any]]
FILLER = 5_000  # documents between the first and the last collection: several batches


class Quiet:
    """A `Progress` that runs what the test gave it, once for each batch: between two reads of a backup."""

    def __init__(self, between: Callable[[], None] = lambda: None) -> None:
        self._between = between
        self.calls = 0

    def begin(self, label: str, total: int) -> None: ...

    def advance(self, count: int) -> None:
        self.calls += 1
        self._between()


@dataclass
class Ended:
    code: int
    out: str
    err: str


async def command(*words: str | Path, limit: int | None = None, **environment: str) -> Ended:
    """The real command in a process of its own. `limit`: the largest file it may write, in bytes."""
    given = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path), "JWT_SECRET_KEY": SECRET}

    def limited() -> None:
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-B", "-m", "notification_engine.cli.main", *map(str, words)),
        env=given | environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        preexec_fn=limited,
    )
    out, err = await process.communicate()
    return Ended(process.returncode or 0, out.decode(), err.decode())


async def taken(database: Database, path: Path, between: Callable[[], None] = lambda: None) -> Header:
    header, _ = await backup(database, path, engine="test", progress=Quiet(between))
    return header


def names(directory: Path) -> list[str]:
    return [path.name for path in directory.iterdir()]


async def content(database: Database) -> dict[str, list[Any]]:
    """Every document of the database, by collection and id."""
    return {
        name: sorted([d async for d in database.majority(name).find({})], key=lambda d: str(d["_id"]))
        for name in await database.collection_names()
        if name != storing.MIGRATIONS
    }


@pytest.fixture
async def other(mongod: str) -> AsyncIterator[Database]:
    """An empty database to restore into."""
    database = Database(mongod, f"other_{uuid.uuid4().hex[:12]}", pool_size=5)
    yield database
    await database.drop()
    await database.close()


@pytest.fixture
def sync(mongod: str) -> Iterator[Sync]:
    with pymongo.MongoClient(mongod) as client:
        yield client


async def test_a_restored_database_is_the_same(database: Database, other: Database, tmp_path: Path) -> None:
    rows: list[Any] = [{"_id": f"{i:05}", "at": i * 1.5, "deep": {"list": [i, None, b"\x00"]}} for i in range(2_500)]
    await database.collection("notification_history").insert_many(rows)
    await database.collection("notification_empty").create_index("a")
    await database.collection("someone_elses").insert_one({"_id": 1})
    await database.collection("notification_tickets").insert_one({"_id": "one-time"})
    header = await taken(database, tmp_path / "a")
    assert header.database == database.name
    assert (await restore(other, tmp_path / "a", replace=False, progress=Quiet()))[1]["notification_history"] == 2_500
    restored = await content(other)
    assert restored["notification_history"] == rows
    assert "someone_elses" not in restored
    assert not restored.get("notification_tickets")
    assert await missing_indexes(other) == []
    assert await migrate(other) == []
    assert not [name for name in restored if name.startswith("restoring")]


async def test_writes_between_any_two_reads_do_not_show(
    database: Database, other: Database, sync: Sync, tmp_path: Path
) -> None:
    """A pair in two collections that one transaction changes, and ids that ascend over both: the first collection is
    read before each write, the last one after all of them."""
    db = sync[database.name]
    first, last = db["notification_a"], db["notification_z"]
    db["notification_m"].insert_many([{"_id": i, "text": "x" * 200} for i in range(FILLER)])
    for end in (first, last):
        end.insert_one({"_id": "pair", "value": 0})
    ascending = 0

    def write() -> None:
        nonlocal ascending
        with sync.start_session() as session, session.start_transaction():
            for end in (first, last):
                end.update_one({"_id": "pair"}, {"$inc": {"value": 1}}, session=session)
        for end in (first, last):
            end.insert_one({"_id": ascending})
            ascending += 1
        db["notification_m"].update_many({"_id": {"$gt": FILLER - 100}}, {"$inc": {"written": 1}})

    for _ in range(3):
        write()
    await taken(database, tmp_path / "a", write)
    assert ascending > 10, "nothing was written during the backup"
    await restore(other, tmp_path / "a", replace=False, progress=Quiet())
    restored = await content(other)
    pair = [d["value"] for end in "az" for d in restored[f"notification_{end}"] if d["_id"] == "pair"]
    assert pair == [3, 3]
    ids = [d["_id"] for end in "az" for d in restored[f"notification_{end}"] if d["_id"] != "pair"]
    assert sorted(ids) == list(range(6))
    assert {d.get("written", 0) for d in restored["notification_m"]} == {0, 3}


async def test_a_backup_of_a_busy_engine_is_a_prefix_of_what_it_accepted(
    start: Start, other: Database, tmp_path: Path
) -> None:
    running = await start()
    accepted: list[str] = []
    enough = asyncio.Event()

    stop = False

    async def accept() -> None:
        while not stop:
            accepted.append(await running.accept(message("u1")))
            if len(accepted) >= 50:
                enough.set()

    async with asyncio.TaskGroup() as group:
        group.create_task(accept())
        await enough.wait()
        before = len(accepted)
        await taken(running.engine.database, tmp_path / "a")
        after = len(accepted)
        stop = True
    await restore(other, tmp_path / "a", replace=False, progress=Quiet())
    restored = {d["_id"] for d in (await content(other))["notifications"]}
    assert restored == set(accepted[: len(restored)])
    assert before <= len(restored) <= after + 1


async def test_a_lost_data_directory_comes_back(tmp_path: Path, receiver: Receiver) -> None:
    directory, file = tmp_path / "data", tmp_path / "a"
    environment = {"MONGODB_DATA_DIR": str(directory), "ENVIRONMENT": "development", "MONGODB_DATABASE": "kept"}
    async with _embedded(directory) as running:
        endpoint = await running.register(f"{receiver.address}/a")
        receiver.secrets["/a"] = endpoint["secret"]
        await running.call("PUT", "/preferences", {"mute": False, "types": {"a.b": {"email": False}}})
        notification_id = await running.accept(message("u1", channels=["in_app", "webhook"]))
        await running.settled(notification_id)
        told = await _told(running, notification_id)
    result = await command("backup", file, **environment)
    assert result.code == 0, result.err
    assert (result.err, file.stat().st_mode & 0o777) == ("", 0o600)
    assert "Backup of kept as of 20" in result.out
    shutil.rmtree(directory)
    result = await command("restore", file, **environment)
    assert (result.code, result.err) == (0, "")
    assert ["notifications", "1"] in [line.split() for line in result.out.splitlines()]
    async with _embedded(directory) as running:
        assert await _told(running, notification_id) == told
        await running.settled(await running.accept(message("u1", channels=["webhook"])))
        assert len(await receiver.received(2)) == 2, "the signature is right only if the secret was decrypted"


async def _told(running: Running, notification_id: str) -> list[Any]:
    paths = (f"/{notification_id}", f"/{notification_id}/timeline", "/preferences", "/webhooks", "/history?user_id=u1")
    answers = [await running.call("GET", path) for path in (*paths, "")]
    answers.append(await running.call("GET", "", as_=token("u1", Role.USER)))
    assert [status for status, _ in answers] == [200] * len(answers), answers
    return [body for _, body in answers]


class _embedded:
    """An engine on an embedded database, both ended at the end."""

    def __init__(self, directory: Path) -> None:
        self._mongod = EmbeddedMongod(directory, find_binary(None))

    async def __aenter__(self) -> Running:
        settings = Settings(**(FAST | {"EMAIL_PROVIDER": "console", "MONGODB_DATABASE": "kept"}))
        self._serving = serving(settings, await self._mongod.start(), exclusive=True)
        return await self._serving.__aenter__()

    async def __aexit__(self, *error: Any) -> None:
        await self._serving.__aexit__(*error)
        await self._mongod.stop()


async def test_what_was_pending_is_delivered_once_and_the_old_world_settles_nothing(
    start: Start, other: Database, receiver: Receiver, tmp_path: Path
) -> None:
    """One is free; one is leased by a worker for longer than the test runs."""
    running = await start(NOTIFICATION_DAEMON_ENABLED=False)
    await running.register(f"{receiver.address}/a")
    leased = await running.accept(message("u1", channels=["webhook"]))
    store = running.engine.notifications
    [claimed] = await store.claim("a worker of the old world", 1, 3600)
    free = await running.accept(message("u1", channels=["webhook"]))
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).replace(microsecond=0)
    later = await running.accept(message("u1", channels=["webhook"], scheduled_at=tomorrow.isoformat()))
    await taken(running.engine.database, tmp_path / "a")
    await store.claim("claimed after the backup", 1, 3600)
    await restore(other, tmp_path / "a", replace=False, progress=Quiet())

    old = Notifications(other, Clock(), max_waiting_bytes=1)
    settled = Change(leased, claimed.deliveries[0].id, claimed.lease.fence, DeliveryStatus.DELIVERED)
    assert await old.apply([settled]) == [False]
    again = await start(MONGODB_DATABASE=other.name)
    for notification_id in (leased, free):
        shown = await again.settled(notification_id)
        assert [(d["status"], d["attempts"]) for d in shown["deliveries"]] == [("delivered", 1)]
    assert len(receiver.calls) == len({c.headers["webhook-id"] for c in receiver.calls}) == 2
    documents = {d["_id"]: d for d in (await content(other))["notifications"]}
    assert documents[leased]["lease"]["abandoned"] == 0, "a restore is not the death of a worker"
    assert documents[later]["due_at"] == tomorrow


async def test_data_that_is_there_is_refused_and_replaced_only_when_told(
    database: Database, other: Database, mongod: str, tmp_path: Path
) -> None:
    await database.collection("notification_history").insert_one({"_id": "from the backup"})
    await taken(database, tmp_path / "a")
    await other.collection("notifications").insert_one({"_id": "present"})
    await other.collection("notification_later").insert_one({"_id": "unknown to the backup"})
    environment = {"MONGODB_URL": mongod, "MONGODB_DATABASE": other.name}
    before = await content(other)
    refused = await command("restore", tmp_path / "a", **environment)
    assert refused.code == 2
    assert f"{other.name} already holds data of an engine (notifications: 1). Give --replace" in refused.err
    assert await content(other) == before
    replaced = await command("restore", tmp_path / "a", "--replace", **environment)
    assert replaced.code == 0, replaced.err
    restored = await content(other)
    assert [row["action"] for row in restored.pop("notification_audit_logs")] == ["database.restore"]
    del restored["notification_audit_heads"]
    del restored["notification_data_keys"]  # made when they were looked for: this backup is of no engine
    assert {name: docs for name, docs in restored.items() if docs} == {
        "notification_history": [{"_id": "from the backup"}]
    }


async def test_a_database_with_a_running_engine_is_refused(database: Database, other: Database, tmp_path: Path) -> None:
    await taken(database, tmp_path / "a")
    await Reports(other, "ended-1").beat({}, timedelta(seconds=-1))
    await Reports(other, "running-1").beat({}, timedelta(seconds=60))
    with pytest.raises(ConfigurationError, match=rf"An engine runs on the database {other.name} \(running-1\)"):
        await restore(other, tmp_path / "a", replace=True, progress=Quiet())
    await Reports(other, "running-1").gone()
    await restore(other, tmp_path / "a", replace=False, progress=Quiet())


def _cut(whole: bytes) -> bytes:
    return whole[:-1]


def _altered(whole: bytes) -> bytes:
    return whole[:-200] + bytes([whole[-200] ^ 0xFF]) + whole[-199:]


def _foreign(whole: bytes) -> bytes:
    return b"PK\x03\x04" + whole


def _newer(whole: bytes) -> bytes:
    return whole.replace(b'"format": 1', b'"format": 9')


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        (_cut, "is cut short"),
        (_altered, "was altered or damaged"),
        (_foreign, "is not a backup"),
        (_newer, "has format 9, made by a newer engine"),
    ],
)
async def test_a_file_that_is_not_whole_writes_nothing(
    database: Database, other: Database, tmp_path: Path, change: Callable[[bytes], bytes], wrong: str
) -> None:
    await database.collection("notifications").insert_one({"_id": "from the backup"})
    await taken(database, tmp_path / "a")
    (tmp_path / "b").write_bytes(change((tmp_path / "a").read_bytes()))
    await other.collection("notifications").insert_one({"_id": "present"})
    before = await content(other)
    with pytest.raises(ConfigurationError, match=f"{tmp_path}/b {wrong}"):
        await restore(other, tmp_path / "b", replace=True, progress=Quiet())
    assert await content(other) == before


async def test_a_backup_with_migrations_of_a_newer_engine_is_refused(
    database: Database, other: Database, tmp_path: Path
) -> None:
    await database.collection(storing.MIGRATIONS).insert_one({"_id": "9999_of_tomorrow"})
    await taken(database, tmp_path / "a")
    with pytest.raises(ConfigurationError, match=r"does not know \(9999_of_tomorrow\)"):
        await restore(other, tmp_path / "a", replace=False, progress=Quiet())
    assert await other.collection_names() == []


async def test_a_restore_that_fails_half_way_leaves_the_database_as_it_was(
    database: Database, other: Database, tmp_path: Path
) -> None:
    """The backup holds an id twice, as no database does: its second insert fails."""
    await database.collection("notification_history").insert_many([{"_id": i} for i in range(3)])
    name = tmp_path / "a"
    original = storing.Writer.add
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(storing.Writer, "add", lambda writer, batch: original(writer, batch) + original(writer, batch))
        await taken(database, name)
    await other.collection("notifications").insert_one({"_id": "present"})
    before = await content(other)
    with pytest.raises(Unavailable):
        await restore(other, name, replace=True, progress=Quiet())
    assert await content(other) == before


@pytest.mark.parametrize("place", ["missing/a", "directory"])
async def test_a_path_that_cannot_be_written_is_named(
    database: Database, mongod: str, tmp_path: Path, place: str
) -> None:
    (tmp_path / "directory").mkdir()
    ended = await command("backup", tmp_path / place, MONGODB_URL=mongod, MONGODB_DATABASE=database.name)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith(f"{tmp_path / place} cannot be written: ")


async def test_a_full_disk_leaves_the_former_backup(database: Database, mongod: str, tmp_path: Path) -> None:
    await taken(database, tmp_path / "a")
    former = (tmp_path / "a").read_bytes()
    await database.collection("notification_history").insert_many([{"x": os.urandom(1000)} for _ in range(100)])
    environment = {"MONGODB_URL": mongod, "MONGODB_DATABASE": database.name}
    ended = await command("backup", tmp_path / "a", limit=20_000, **environment)
    assert (ended.code, ended.err) == (2, f"{tmp_path}/a cannot be written: File too large.\n")
    assert (tmp_path / "a").read_bytes() == former
    assert names(tmp_path) == ["a"]


async def test_old_backups_are_removed_once_the_new_one_is_whole(
    database: Database, mongod: str, tmp_path: Path
) -> None:
    """Known by their content, not by their name: nothing else in the folder is touched."""
    now = time.time()
    for name, days in {"old": 31, "young": 29}.items():
        await taken(database, tmp_path / name)
        os.utime(tmp_path / name, (now, now - days * 86_400))
    (tmp_path / "thesis.backup").write_text("years of work")
    os.utime(tmp_path / "thesis.backup", (now, now - 4_000 * 86_400))
    environment = {"MONGODB_URL": mongod, "MONGODB_DATABASE": database.name}
    failed = await command("backup", tmp_path / "x/new", "--keep-days", "30", **environment)
    assert (failed.code, "old" in names(tmp_path)) == (2, True)
    ended = await command("backup", tmp_path / "new", "--keep-days", "30", **environment)
    assert ended.code == 0, ended.err
    assert f"Removed, older than 30 days: {tmp_path}/old" in ended.out
    assert sorted(names(tmp_path)) == ["new", "thesis.backup", "young"]


async def test_a_file_that_is_no_backup_is_not_overwritten(database: Database, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ConfigurationError, match="is there and is not a backup"):
        await taken(database, tmp_path / "thesis.txt")
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


async def test_a_database_without_an_engine_is_not_backed_up(other: Database, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=f"MONGODB_DATABASE: {other.name} holds no data"):
        await taken(other, tmp_path / "a")
    assert names(tmp_path) == []


async def test_the_running_engines_directory_names_its_address(tmp_path: Path) -> None:
    directory = tmp_path / "data"
    async with _embedded(directory):
        port = (directory / "port").read_text()
        for words in (["backup"], ["restore", "--replace"]):
            ended = await command(*words, tmp_path / "a", MONGODB_DATA_DIR=str(directory), ENVIRONMENT="development")
            assert ended.code == 2
            assert "another engine runs on" in ended.err
            assert f"MONGODB_URL=mongodb://127.0.0.1:{port}/?replicaSet=rs0" in ended.err


async def test_a_database_that_does_not_answer_is_said_plainly(tmp_path: Path) -> None:
    ended = await command("backup", tmp_path / "a", MONGODB_URL="mongodb://127.0.0.1:1/")
    assert (ended.code, ended.out) == (1, "")
    assert ended.err.startswith("The database did not answer")
    assert names(tmp_path) == []


async def test_another_key_is_warned_of(start: Start, other: Database, mongod: str, tmp_path: Path) -> None:
    running = await start()
    await running.register("http://127.0.0.1:9/a")
    await taken(running.engine.database, tmp_path / "a")
    ended = await command(
        *("restore", tmp_path / "a"),
        MONGODB_URL=mongod,
        MONGODB_DATABASE=other.name,
        JWT_SECRET_KEY="another key than before, 32 bytes or more",
    )
    assert ended.code == 0
    assert "Restored, but the engine will not start yet: FIELD_ENCRYPTION_KEY" in ended.err


async def test_a_moment_that_is_gone_says_how_to_keep_it(database: Database, sync: Sync, tmp_path: Path) -> None:
    db = sync[database.name]
    db["notification_a"].insert_many([{"_id": i} for i in range(10)])
    asked = False

    def until_gone() -> None:
        nonlocal asked
        if asked:
            return
        asked = True
        moment = sync.admin.command("hello")["$clusterTime"]["clusterTime"]
        read = {"find": "notification_a", "readConcern": {"level": "snapshot", "atClusterTime": moment}}
        while True:
            db["notification_z"].insert_one({})
            try:
                db.command(read)
            except OperationFailure as error:
                if error.code == 239:
                    return
                raise

    db["notification_z"].insert_one({})
    sync.admin.command({"setParameter": 1, "minSnapshotHistoryWindowInSeconds": 1})
    try:
        with pytest.raises(ConfigurationError, match="setParameter: 1, minSnapshotHistoryWindowInSeconds: 3600"):
            await taken(database, tmp_path / "a", until_gone)
    finally:
        sync.admin.command({"setParameter": 1, "minSnapshotHistoryWindowInSeconds": SNAPSHOT_SECONDS})
    assert names(tmp_path) == []


@contextmanager
def unreadable(sync: Sync, namespace: str, mode: dict[str, int]) -> Iterator[None]:
    """The server answers reads of a collection as when that was made after the moment that is read."""
    fail = {"failCommands": ["find"], "errorCode": 246, "namespace": namespace}
    sync.admin.command({"configureFailPoint": "failCommand", "mode": mode, "data": fail})
    try:
        yield
    finally:
        sync.admin.command({"configureFailPoint": "failCommand", "mode": "off"})


async def test_a_collection_of_this_very_moment_is_waited_for(
    database: Database, sync: Sync, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storing, "_PAUSE_SECONDS", 0)
    with unreadable(sync, f"{database.name}.notifications", {"times": 3}):
        await taken(database, tmp_path / "a")
        await database.collection("notifications").find_one({})  # all three are used up
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize("mode", [{"times": 1000}, {"skip": 1}], ids=["from the start", "after the start"])
async def test_a_collection_that_cannot_be_read_at_the_moment_says_to_take_it_again(
    database: Database, sync: Sync, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: dict[str, int]
) -> None:
    monkeypatch.setattr(storing, "_PAUSE_SECONDS", 0)
    with unreadable(sync, f"{database.name}.notifications", mode), pytest.raises(Unavailable, match="take it again"):
        await taken(database, tmp_path / "a")
    assert names(tmp_path) == []
