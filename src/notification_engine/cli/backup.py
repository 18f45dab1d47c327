"""`backup` and `restore`, against MONGODB_URL or against the embedded database, which then runs for the command."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer

from notification_engine.cli import server
from notification_engine.domain.errors import ConfigurationError, Unavailable
from notification_engine.kit.clock import Clock
from notification_engine.security.field_encryption import FieldCipher
from notification_engine.settings import Settings, load_settings
from notification_engine.storage import backup as storing
from notification_engine.storage import restore as restoring
from notification_engine.storage.archive import Counts, Header
from notification_engine.storage.connection import Database
from notification_engine.storage.endpoints import Endpoints

EMBEDDED_WINDOW = "minSnapshotHistoryWindowInSeconds=86400"  # nothing else writes: keeping a moment costs nothing
File = Annotated[Path, typer.Argument(metavar="FILE", help="The backup.", show_default=False)]
Replace = Annotated[bool, typer.Option("--replace", help="Remove the data that is there.")]
KeepDays = Annotated[
    int | None,
    typer.Option(min=1, help="Then remove the backups beside FILE that are older; default: none.", show_default=False),
]


def backup(file: File, keep_days: KeepDays = None) -> None:
    """Write all data, as of one moment, to FILE: compressed, with a checksum. The engine may run meanwhile."""

    async def take(database: Database, progress: Bars, _: Settings) -> None:
        engine = version("notification-engine")
        header, counts = await storing.backup(database, file, engine=engine, progress=progress)
        progress.end()
        typer.echo(_told(f"Backup of {header.database} as of {_moment(header)}: {file}", counts))
        if keep_days is not None:
            for old in storing.forget(file.parent, older_than_days=keep_days, but=file):
                typer.echo(f"Removed, older than {keep_days} days: {old}")

    asyncio.run(_with_database(take))


def restore(file: File, replace: Replace = False) -> None:
    """Check FILE, then put its data into the database. No engine may run on it."""

    async def put(database: Database, progress: Bars, settings: Settings) -> None:
        header, counts = await restoring.restore(database, file, replace=replace, progress=progress)
        progress.end()
        typer.echo(_told(f"Restored into {database.name}: {header.database} as of {_moment(header)}", counts))
        await _warn_of_key(database, settings)

    asyncio.run(_with_database(put))


class Bars:
    """Progress bars on standard error, one after the other; none where that is no terminal."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._bar: Any = None

    def begin(self, label: str, total: int) -> None:
        self.end()
        bar = typer.progressbar(length=total, label=label, file=sys.stderr, hidden=not sys.stderr.isatty())
        self._bar = self._stack.enter_context(bar)

    def advance(self, count: int) -> None:
        self._bar.update(count)

    def end(self) -> None:
        self._stack.close()


async def _with_database(work: Callable[[Database, Bars, Settings], Awaitable[None]]) -> None:
    settings = load_settings(development=True)
    bars = Bars()
    try:
        async with server.database(settings, parameters=[EMBEDDED_WINDOW]) as (url, _):
            database = Database(url, settings.MONGODB_DATABASE, pool_size=2)
            try:
                await database.synchronise(Clock())  # refuses a standalone server, which knows no snapshots
                await work(database, bars, settings)
            finally:
                await database.close()
    except Unavailable as error:
        bars.end()
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None
    finally:
        bars.end()


async def _warn_of_key(database: Database, settings: Settings) -> None:
    try:
        await Endpoints(database, FieldCipher.from_secret(settings.field_key)).list()
    except ConfigurationError as error:
        typer.echo(f"Restored, but webhooks cannot be sent yet: {error}", err=True)


def _told(head: str, counts: Counts) -> str:
    width = max((len(name) for name in counts), default=0)
    return "\n".join([head, *(f"  {name:<{width}}  {count}" for name, count in counts.items())])


def _moment(header: Header) -> str:
    seconds, increment = header.cluster_time
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC (cluster time {seconds}.{increment})"
