"""The database of a command: MONGODB_URL, or the embedded one, which then runs for the command; and progress bars."""

import sys
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from typing import Any

import typer

from notification_engine.cli import server
from notification_engine.domain.errors import Unavailable
from notification_engine.kit.clock import Clock
from notification_engine.settings import Settings, load_settings
from notification_engine.storage.connection import Database

EMBEDDED_WINDOW = "minSnapshotHistoryWindowInSeconds=86400"  # nothing else writes: keeping a moment costs nothing


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


async def with_database(work: Callable[[Database, Bars, Settings], Awaitable[None]]) -> None:
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
