"""A backup: all collections of the engine as they were at one moment in cluster time, streamed into one file.

Invariant: every document is read in one snapshot session, so the file is what the database was at `cluster_time`,
whatever was written meanwhile. Nothing is locked. The server keeps a moment readable for
`minSnapshotHistoryWindowInSeconds` (MongoDB manual, "Read Concern snapshot"); a backup that takes longer is refused.
"""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.errors import OperationFailure

from notification_engine.domain.errors import ConfigurationError, Unavailable
from notification_engine.kit.files import whole_file
from notification_engine.storage.archive import MAGIC, Counts, Header, Writer
from notification_engine.storage.connection import Database, translated

MIGRATIONS = "notification_migrations"
MOMENTARY = frozenset({"notification_replicas", "notification_tickets"})  # of running processes, gone within a minute
SNAPSHOT_TRIES = 20
_PAUSE_SECONDS = 0.5
_BATCH_DOCUMENTS = 1000
_SNAPSHOT_TOO_OLD, _SNAPSHOT_UNAVAILABLE = 239, 246
_TOO_OLD = (
    "minSnapshotHistoryWindowInSeconds: the backup took longer than the server keeps a moment readable (300 s unless "
    "set). Raise it on every member while a backup runs, it costs disk space for what is overwritten meanwhile: "
    "db.adminCommand({setParameter: 1, minSnapshotHistoryWindowInSeconds: 3600})"
)


class Progress(Protocol):
    def begin(self, label: str, total: int) -> None: ...
    def advance(self, count: int) -> None: ...


def is_ours(collection: str) -> bool:
    return collection == "notifications" or collection.startswith("notification_")


async def backup(database: Database, path: Path, *, engine: str, progress: Progress) -> tuple[Header, Counts]:
    """Raises ConfigurationError for what the operator has to change, Unavailable when the database went away; the file
    is then not there, and one that was there before still is."""
    _refuse_foreign(path)
    with _file_errors(path), whole_file(path) as file:
        for last in (*[False] * (SNAPSHOT_TRIES - 1), True):
            async with database.snapshot() as session:
                with _snapshot_errors():
                    header = await _open(database, session, engine=engine, last=last)
                    if header is not None:
                        return header, await _stream(database, session, Writer(file, header), header, progress)
            await asyncio.sleep(_PAUSE_SECONDS)
    raise AssertionError("the last try opens or raises")


def forget(folder: Path, *, older_than_days: int, but: Path) -> list[Path]:
    """Removes former backups of that folder, known by what they begin with, and names them. Raises ConfigurationError
    for what the operator has to change."""
    oldest = time.time() - older_than_days * 86_400
    gone = []
    for path in sorted(folder.iterdir()):
        with _file_errors(path):
            if path == but or not path.is_file() or path.is_symlink() or path.stat().st_mtime >= oldest:
                continue
            with path.open("rb") as file:
                ours = file.read(len(MAGIC)) == MAGIC
            if ours:
                path.unlink()
                gone.append(path)
    return gone


async def _open(database: Database, session: AsyncClientSession, *, engine: str, last: bool) -> Header | None:
    """The moment, once every collection can be read at it. None: a collection was created or got an index so lately
    that the server has no such moment yet."""
    names = [name for name in await database.collection_names() if is_ours(name)]
    try:
        reply = await database.command({"find": MIGRATIONS}, session)
        for name in names:
            await database.collection(name).find_one({}, {"_id": 1}, session=session)
    except OperationFailure as error:
        if error.code != _SNAPSHOT_UNAVAILABLE or last:
            raise
        return None
    if not reply["cursor"]["firstBatch"]:
        raise ConfigurationError(f"MONGODB_DATABASE: {database.name} holds no data of an engine; nothing to back up.")
    kept = [name for name in names if name not in MOMENTARY | {MIGRATIONS}]
    moment = reply["cursor"]["atClusterTime"]
    return Header(
        database=database.name,
        cluster_time=(moment.time, moment.inc),
        taken_at=datetime.now(UTC).isoformat(timespec="seconds"),
        engine=engine,
        migrations=tuple(sorted(row["_id"] for row in reply["cursor"]["firstBatch"])),
        expected={name: await database.collection(name).estimated_document_count() for name in kept},
    )


async def _stream(
    database: Database, session: AsyncClientSession, writer: Writer, header: Header, progress: Progress
) -> Counts:
    progress.begin("Backup", sum(header.expected.values()))
    for name in header.expected:
        writer.begin(name)
        found: Any = database.collection(name).find_raw_batches({}, session=session, batch_size=_BATCH_DOCUMENTS)
        async for batch in found:  # bytes: BSON documents, one after the other
            progress.advance(writer.add(batch))
        writer.end()
    return writer.finish()


@contextmanager
def _snapshot_errors() -> Iterator[None]:
    with translated():
        try:
            yield
        except OperationFailure as error:
            if error.code == _SNAPSHOT_TOO_OLD:
                raise ConfigurationError(_TOO_OLD) from error
            if error.code == _SNAPSHOT_UNAVAILABLE:
                raise Unavailable("Collections or indexes were changed during the backup; take it again.") from error
            raise


@contextmanager
def _file_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except BlockingIOError:
        raise ConfigurationError(f"{path}: another backup writes this file.") from None
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be written: {error.strerror}.") from None


def _refuse_foreign(path: Path) -> None:
    """A former backup is replaced; anything else may be somebody's work."""
    with _file_errors(path):
        if not path.exists():
            return
        with path.open("rb") as file:
            if file.read(len(MAGIC)) != MAGIC:
                raise ConfigurationError(f"{path} is there and is not a backup; remove it or give another name.")
