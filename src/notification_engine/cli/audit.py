"""`audit verify` and `audit export`, against MONGODB_URL or against the embedded database."""

import asyncio
import re
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated

import typer

from notification_engine.api.audit import json_line
from notification_engine.cli.database import Bars, with_database
from notification_engine.domain.errors import ConfigurationError
from notification_engine.services.ports import AuditFilter
from notification_engine.settings import Settings
from notification_engine.storage.audit import AuditLog, Verified
from notification_engine.storage.connection import Database
from notification_engine.wiring import opened_keys, pseudonyms_by

DAY = r"\d{4}-\d\d-\d\d"
From = Annotated[str | None, typer.Option("--from", help="The first day, YYYY-MM-DD (UTC).")]
To = Annotated[str | None, typer.Option("--to", help="The last day.")]
Heads = Annotated[list[str] | None, typer.Option("--head", help="DAY:SEQ:HASH, as it was logged. Repeat it.")]
Output = Annotated[Path | None, typer.Option(help="Default: standard output.")]


def verify(since: From = None, until: To = None, head: Heads = None) -> None:
    """Check the audit log's chain; exit 1 naming the first row that was altered, moved, added or taken away."""
    heads = [_head(text) for text in head or []]

    async def check(audit: AuditLog) -> None:
        _tell(await audit.verify(_day("--from", since), _day("--to", until), heads))

    asyncio.run(_with_audit(check))


def export(since: From = None, until: To = None, output: Output = None) -> None:
    """Write the audit log as JSON lines, oldest first, each row as it is stored."""
    first, last = _day("--from", since), _day("--to", until)

    async def write(audit: AuditLog) -> None:
        file = output.open("w", encoding="utf-8") if output else sys.stdout
        try:
            async for batch in audit.rows(AuditFilter()):
                chosen = [row for row in batch if (first or "") <= row["day"] and (not last or row["day"] <= last)]
                file.writelines(json_line(row) for row in chosen)
        finally:
            if output:
                file.close()

    asyncio.run(_with_audit(write))


async def _with_audit(work: Callable[[AuditLog], Awaitable[None]]) -> None:
    async def run(database: Database, _: Bars, settings: Settings) -> None:
        async with opened_keys(settings, database) as keys:
            await work(AuditLog(database, pseudonyms=pseudonyms_by(settings, keys)))

    await with_database(run)


def _tell(found: Verified) -> None:
    if found.fault:
        typer.echo(f"The audit log does not hold after {found.rows} rows: {found.fault}.", err=True)
        raise typer.Exit(1)
    end = f"; head {found.head.day}:{found.head.seq}:{found.head.hash}" if found.head else ""
    typer.echo(f"{found.rows} rows hold{end}")


def _day(option: str, text: str | None) -> str | None:
    if text is not None and not re.fullmatch(DAY, text):
        raise ConfigurationError(f"{option}: must be a day, YYYY-MM-DD.")
    return text


def _head(text: str) -> tuple[str, int, str]:
    found = re.fullmatch(rf"({DAY}):(\d+):([0-9a-f]{{64}})", text)
    if found is None:
        raise ConfigurationError("--head: must be DAY:SEQ:HASH, as the log shows it.")
    return found[1], int(found[2]), found[3]
