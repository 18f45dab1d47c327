"""A restore: a checked backup becomes the engine's collections.

Invariant: the file is read whole and compared with its checksum before anything is written, and everything is written
beside the engine's collections first; these are put in their place at the end. A restore that fails before that leaves
the database as it was.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from bson.errors import BSONError
from bson.raw_bson import RawBSONDocument
from pymongo.errors import PyMongoError

from notification_engine.domain.errors import ConfigurationError, Unavailable
from notification_engine.storage.archive import Archive, Counts, Header
from notification_engine.storage.backup import MIGRATIONS, MOMENTARY, Progress, is_ours
from notification_engine.storage.connection import Database, translated
from notification_engine.storage.migrations import MIGRATIONS as KNOWN
from notification_engine.storage.migrations import migrate
from notification_engine.storage.pipelines import another_world_pipeline

STAGED = "restoring_"
FENCES = 1000  # more than any worker of the other world can have raised by claiming since the backup
BATCH_DOCUMENTS = 1000
BATCH_BYTES = 8 * 1024 * 1024
_REMADE = MOMENTARY | {MIGRATIONS, "notification_metrics", "notification_watermarks"}  # no reason to refuse


async def restore(database: Database, path: Path, *, replace: bool, progress: Progress) -> tuple[Header, Counts]:
    """Raises ConfigurationError for what the operator has to change, Unavailable when the database went away."""
    with _opened(path) as archive:
        _check(archive, progress)
        with translated():
            await _refuse_engines(database)
            await _refuse_data(database, replace)
            try:
                counts = await _stage(database, archive, progress)
                await _refuse_engines(database)
            except Exception:
                with suppress(PyMongoError):
                    await _drop_staged(database)
                raise
            await _put_in_place(database, counts)
        await migrate(database)
    return archive.header, counts


@contextmanager
def _opened(path: Path) -> Iterator[Archive]:
    try:
        if not path.is_file():
            raise ConfigurationError(f"{path} is not a file.")
        with path.open("rb") as file:
            yield Archive(file, str(path))
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}.") from None


def _check(archive: Archive, progress: Progress) -> None:
    unknown = sorted(set(archive.header.migrations) - {name for name, _ in KNOWN})
    if unknown:
        raise ConfigurationError(
            f"The backup was taken by engine {archive.header.engine}, with migrations that this one does not know "
            f"({', '.join(unknown)}); restore it with that engine or a newer one."
        )
    progress.begin("Checksum", archive.size)
    for count in archive.check():
        progress.advance(count)


async def _refuse_engines(database: Database) -> None:
    """A living engine would claim half of a restore, and keep caches of what is gone."""
    alive = {"$expr": {"$gt": ["$expires_at", "$$NOW"]}}
    found = await database.majority("notification_replicas").find_one(alive, sort=[("expires_at", -1)])
    if found is not None:
        until = f"{found['expires_at']:%H:%M:%S} UTC"
        raise ConfigurationError(
            f"An engine runs on the database {database.name} ({found['_id']}): stop every engine, then restore. One "
            f"that was killed counts as running until {until}."
        )


async def _refuse_data(database: Database, replace: bool) -> None:
    if replace:
        return
    for name in reversed(await database.collection_names()):  # the notifications first
        if is_ours(name) and name not in _REMADE and (count := await database.majority(name).count_documents({})):
            raise ConfigurationError(
                f"The database {database.name} already holds data of an engine ({name}: {count}). Give --replace to "
                "remove it and put the backup in its place, or name another database with MONGODB_DATABASE."
            )


async def _drop_staged(database: Database) -> None:
    """Of a restore that did not end."""
    for name in await database.collection_names():
        if name.startswith(STAGED) and is_ours(name.removeprefix(STAGED)):
            await database.collection(name).drop()


async def _stage(database: Database, archive: Archive, progress: Progress) -> Counts:
    """Everything beside its place, complete, with no lease of the other world."""
    await _drop_staged(database)
    counts = await _load(database, archive, progress)
    await _compare(database, counts)
    open_ones = {"due_at": {"$exists": True}}
    await database.collection(STAGED + "notifications").update_many(open_ones, another_world_pipeline(FENCES))
    return counts


async def _load(database: Database, archive: Archive, progress: Progress) -> Counts:
    progress.begin("Restore", sum(archive.header.expected.values()))
    counts: Counts = dict.fromkeys(archive.header.expected, 0)
    for name, documents in _batches(archive.documents()):
        if not is_ours(name):
            raise ConfigurationError(f"The backup holds a collection that is not the engine's: {name}.")
        await database.collection(STAGED + name).insert_many(documents, ordered=False)
        counts[name] = counts.get(name, 0) + len(documents)
        progress.advance(len(documents))
    return counts


def _batches(documents: Iterator[tuple[str, bytes]]) -> Iterator[tuple[str, Sequence[Any]]]:
    batch: list[Any] = []
    current, size = "", 0
    for name, document in documents:
        if batch and (name != current or len(batch) >= BATCH_DOCUMENTS or size >= BATCH_BYTES):
            yield current, batch
            batch, size = [], 0
        current = name
        size += len(document)
        batch.append(_raw(document))
    if batch:
        yield current, batch


def _raw(document: bytes) -> RawBSONDocument:
    try:
        return RawBSONDocument(document)
    except BSONError:
        raise ConfigurationError("The backup holds what is no document.") from None


async def _compare(database: Database, counts: Counts) -> None:
    for name, count in counts.items():
        stored = await database.majority(STAGED + name).count_documents({})
        if stored != count:
            raise Unavailable(f"{stored} of {count} documents of {name} were stored; nothing was changed.")


async def _put_in_place(database: Database, counts: Counts) -> None:
    """The notifications last: until they stand there, no engine finds work."""
    for name in await database.collection_names():
        if is_ours(name) and not counts.get(name):
            await database.collection(name).drop()
    for name in sorted(counts, key=lambda name: name == "notifications"):
        if counts[name]:
            await database.collection(STAGED + name).rename(name, dropTarget=True)
