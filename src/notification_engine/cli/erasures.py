"""`erasures apply`: erases again whom a list outside the database names, after a restore by other means."""

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from notification_engine.cli.database import Bars, with_database
from notification_engine.domain.errors import ConfigurationError
from notification_engine.kit.clock import Clock
from notification_engine.settings import Settings
from notification_engine.storage.connection import Database
from notification_engine.storage.erasure_log import CHECKED, Entry, read_erasures
from notification_engine.wiring import lone_data_protection, opened_keys, pseudonyms_by

MARGIN = timedelta(seconds=60)  # the list's clock is the server's, the backup's moment its cluster time
Files = Annotated[list[Path] | None, typer.Argument(help="Default: ERASURE_LOG_FILE.", show_default=False)]
AsOf = Annotated[str, typer.Option("--as-of", help="The moment that the data is of, ISO 8601 with its offset.")]


def apply(as_of: AsOf, files: Files = None) -> None:
    """Erase again whom the lists name, after a restore that was not made by `restore`. No engine may run."""
    moment = _moment(as_of)

    async def run(database: Database, _: Bars, settings: Settings) -> None:
        paths = files or ([settings.ERASURE_LOG_FILE] if settings.ERASURE_LOG_FILE else [])
        if not paths:
            raise ConfigurationError("ERASURE_LOG_FILE: not set; give it or name the files.")
        typer.echo(await apply_listed(database, settings, paths, moment))

    asyncio.run(with_database(run))


def _moment(text: str) -> datetime:
    try:
        if (moment := datetime.fromisoformat(text)).tzinfo is not None:
            return moment
    except ValueError:
        pass  # told below
    raise ConfigurationError("--as-of: must be a moment with its offset, e.g. 2026-11-25T08:00:00+00:00.")


async def apply_listed(database: Database, settings: Settings, paths: Sequence[Path], moment: datetime) -> str:
    """`moment`: what was erased before it is gone in the data already; who came back since then stays."""
    clock = Clock()
    await database.synchronise(clock)
    async with opened_keys(settings, database) as keys:
        entries = read_erasures(paths, pseudonyms_by(settings, keys).of(CHECKED))
        subjects = {entry.subject for entry in entries if _concerns(entry, moment)}
        found = await lone_data_protection(settings, database, clock, keys).apply(subjects)
    return f"Erasures applied again: {found} users, of {len(subjects)} listed since {moment:%Y-%m-%d %H:%M:%S %Z}"


def _concerns(entry: Entry, moment: datetime) -> bool:
    return entry.done_at is None or entry.done_at > moment - MARGIN
