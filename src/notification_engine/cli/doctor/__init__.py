"""`notification-engine doctor`: what an operator would look at one by one, and what to do about each."""

import asyncio
import json

import typer

from notification_engine.cli.doctor.finding import Level, table


def doctor(
    dev: bool = typer.Option(False, "--dev", help="Check what `notification-engine dev` would run with."),
    as_json: bool = typer.Option(False, "--json", help="One JSON array instead of a table."),
) -> None:
    """Check configuration, database, keys, providers, Redis, guard and disk; send nothing. Exit 1 when one failed."""
    from notification_engine.cli.doctor.round import examine  # heavy, with Redis: only where it is asked for

    findings = asyncio.run(examine(development=dev))
    typer.echo(json.dumps([finding.shown() for finding in findings], indent=2) if as_json else table(findings))
    if any(finding.level is Level.FAIL for finding in findings):
        raise typer.Exit(1)
