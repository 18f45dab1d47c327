"""`backup` and `restore`, against MONGODB_URL or against the embedded database, which then runs for the command."""

import asyncio
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from notification_engine.cli.database import Bars, with_database
from notification_engine.cli.erasures import apply_listed
from notification_engine.domain.errors import ConfigurationError, EngineError, Unavailable
from notification_engine.kit.clock import Clock
from notification_engine.services.data_protection import ENGINE
from notification_engine.settings import Settings
from notification_engine.storage import backup as storing
from notification_engine.storage import restore as restoring
from notification_engine.storage.archive import Counts, Header
from notification_engine.storage.audit import AuditLog
from notification_engine.storage.connection import Database
from notification_engine.storage.data_keys import WEBHOOKS
from notification_engine.storage.endpoints import Endpoints
from notification_engine.wiring import opened_keys

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

    asyncio.run(with_database(take))


def restore(file: File, replace: Replace = False) -> None:
    """Check FILE, then put its data into the database. No engine may run on it."""

    async def put(database: Database, progress: Bars, settings: Settings) -> None:
        header, counts = await restoring.restore(database, file, replace=replace, progress=progress)
        progress.end()
        typer.echo(_told(f"Restored into {database.name}: {header.database} as of {_moment(header)}", counts))
        await _warn_of_key(database, settings)
        await _audit(database, settings, header)
        await _erase_again(database, settings, header)

    asyncio.run(with_database(put))


async def _audit(database: Database, settings: Settings, header: Header) -> None:
    """What was audited since the backup is gone with the data; who compares the logged heads finds this row."""
    clock = Clock()
    await database.synchronise(clock)
    audit = AuditLog(database, clock)
    await audit.append(ENGINE, "database.restore", header.database, after={"as_of": _moment(header)})


async def _erase_again(database: Database, settings: Settings, header: Header) -> None:
    """What was erased since the backup was taken."""
    if settings.ERASURE_LOG_FILE is None:
        typer.echo("ERASURE_LOG_FILE is not set: users who were erased since the backup are there again.")
        return
    moment = datetime.fromtimestamp(header.cluster_time[0], UTC)
    try:
        told = await apply_listed(database, settings, [settings.ERASURE_LOG_FILE], moment)
    except (ConfigurationError, Unavailable):
        again = f"notification-engine erasures apply --as-of {moment.isoformat()}"
        typer.echo(f"Restored, but users who were erased since are there again. Before any engine: {again}", err=True)
        raise
    typer.echo(told)


async def _warn_of_key(database: Database, settings: Settings) -> None:
    try:
        async with opened_keys(settings, database) as keys:
            await Endpoints(database, keys.sealer(WEBHOOKS)).list()
    except (ConfigurationError, EngineError) as error:
        typer.echo(f"Restored, but the engine will not start yet: {error}", err=True)


def _told(head: str, counts: Counts) -> str:
    width = max((len(name) for name in counts), default=0)
    return "\n".join([head, *(f"  {name:<{width}}  {count}" for name, count in counts.items())])


def _moment(header: Header) -> str:
    seconds, increment = header.cluster_time
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC (cluster time {seconds}.{increment})"
