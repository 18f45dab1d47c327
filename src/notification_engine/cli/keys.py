"""`keys status` and `keys rotate`: which master key wraps the data keys, and wrapping them by the present one."""

import asyncio
from collections.abc import Awaitable, Callable

import typer

from notification_engine.cli.database import Bars, with_database
from notification_engine.settings import Settings
from notification_engine.storage.audit import AuditLog
from notification_engine.storage.connection import Database
from notification_engine.storage.data_keys import SUPPRESSIONS, WEBHOOKS, DataKeys
from notification_engine.storage.endpoints import Endpoints
from notification_engine.storage.suppressions import Suppressions
from notification_engine.wiring import key_wrappers

Work = Callable[[Database, DataKeys, Bars], Awaitable[None]]


def status() -> None:
    """Print each data key with the master key that wraps it. Exit 1 when one waits for `keys rotate`."""

    async def show(database: Database, keys: DataKeys, _: Bars) -> None:
        states = await keys.status()
        for state in states:
            told = "current" if state.current else "needs `keys rotate`"
            typer.echo(f"{state.purpose:<16}  {state.master}  since {state.created_at:%Y-%m-%d}  {told}")
        waiting = await Endpoints(database, keys.sealer(WEBHOOKS)).legacy() + await _list(database, keys).legacy()
        if waiting:
            typer.echo(f"webhook secrets and suppressed addresses of the former format: {waiting}  needs `keys rotate`")
        if not states:
            typer.echo("There are no data keys yet; the engine's first start makes them.")
        if waiting or not all(state.current for state in states):
            raise typer.Exit(1)

    _run(show)


def rotate(
    everything: bool = typer.Option(False, "--all", help="Also those that this master key wraps already."),
) -> None:
    """Wrap every data key by the present master key; engines may run. Repeat it after an interruption."""

    async def work(database: Database, keys: DataKeys, bars: Bars) -> None:
        await keys.open()
        total = len(await keys.status())
        bars.begin("Data keys", total)
        done = await keys.rotate(everything=everything, advance=bars.advance)
        bars.end()
        typer.echo(f"Data keys wrapped by {keys.wrapper.master}: {done} of {total}; the others were already.")
        resealed = await Endpoints(database, keys.sealer(WEBHOOKS)).reseal()
        typer.echo(f"Webhook secrets brought to the present format: {resealed}")
        listed = _list(database, keys)
        bars.begin("Suppressed addresses", await listed.legacy())
        brought = await listed.reseal(bars.advance)
        bars.end()
        typer.echo(f"Suppressed addresses brought to the present format: {brought}")

    _run(work)


def _list(database: Database, keys: DataKeys) -> Suppressions:
    return Suppressions(database, AuditLog(database), keys.sealer(SUPPRESSIONS))


def _run(work: Work) -> None:
    async def run(database: Database, bars: Bars, settings: Settings) -> None:
        keys = DataKeys(database, key_wrappers(settings))
        try:
            await work(database, keys, bars)
        finally:
            await keys.close()

    asyncio.run(with_database(run))
