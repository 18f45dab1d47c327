"""The command line. A wrong setting is said in plain lines on standard error; the exit code is then 2."""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from functools import partial, wraps
from typing import Annotated, Any, ParamSpec

import typer
from aiohttp import ClientError, ClientSession

from notification_engine.cli import audit as audits
from notification_engine.cli import backup as backups
from notification_engine.cli import child as children
from notification_engine.cli import dev as development
from notification_engine.cli import doctor as doctors
from notification_engine.cli import erasures as erasing
from notification_engine.cli import keys, server, supervisor
from notification_engine.cli.cli_reference import cli_reference
from notification_engine.cli.client import NOTIFICATIONS, bearer
from notification_engine.cli.metrics_reference import metrics_reference
from notification_engine.cli.reference import configuration_reference
from notification_engine.cli.types_reference import types_reference
from notification_engine.domain.caller import Role
from notification_engine.domain.errors import ConfigurationError, Unavailable
from notification_engine.security.tokens import Tokens
from notification_engine.settings import Settings, load_settings, masked
from notification_engine.storage.connection import Database
from notification_engine.storage.migrations import MIGRATIONS, migrate, pending
from notification_engine.wiring import Engine, EngineRole, refuse_disabled_daemon

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
P = ParamSpec("P")

Host = Annotated[str, typer.Option(help="Address to listen on.")]
Port = Annotated[int, typer.Option(min=0, max=65_535, help="Port to listen on; 0 chooses a free one.")]
Sub = Annotated[str, typer.Option(help="The caller's id (`sub`).")]
Roles = Annotated[list[Role] | None, typer.Option("--role", help="Default: user. Repeat it for several.")]


def plainly(command: Callable[P, None]) -> Callable[P, None]:
    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except ConfigurationError as error:
            typer.echo(str(error), err=True)
            raise typer.Exit(2) from None
        except (asyncio.CancelledError, KeyboardInterrupt):
            raise typer.Exit(130) from None

    return run


@app.command()
@plainly
def dev(host: Host = "127.0.0.1", port: Port = 8000) -> None:
    """Start everything for development: embedded MongoDB, engine, webhook receiver, one welcome notification."""
    settings = load_settings(development=True)
    if not settings.development:
        raise ConfigurationError("ENVIRONMENT: production is given; use `notification-engine serve`.")

    async def once_serving(engine: Engine, address: str) -> None:
        await development.welcome(engine, address, partial(print, flush=True))

    server.run(server.serve(settings, host=host, port=port, once_serving=once_serving))


@app.command()
@plainly
def serve(
    host: Host = "127.0.0.1",
    port: Port = 8000,
    role: Annotated[EngineRole, typer.Option(help="What this process does.")] = EngineRole.ALL,
    processes: Annotated[int, typer.Option(min=1, max=64, help="Engine processes on this port.")] = 1,
) -> None:
    """Serve the API, the delivery daemon, or both."""
    settings = load_settings()
    if processes == 1:
        server.run(server.serve(settings, host=host, port=port, role=role))
        return
    refuse_disabled_daemon(settings, role)
    if code := server.run(supervisor.supervise(settings, host=host, port=port, role=role, processes=processes)):
        raise typer.Exit(code)


@app.command(hidden=True)
@plainly
def child(order: str) -> None:
    """One process of `serve --processes`; the supervisor starts it."""
    given = children.order(order)
    server.run(children.serve(load_settings(), given))


@app.command()
@plainly
def token(
    sub: Sub = "dev",
    role: Roles = None,
    minutes: Annotated[float | None, typer.Option(min=0.1, help="Default: JWT_ACCESS_TOKEN_EXPIRE_MINUTES.")] = None,
) -> None:
    """Print a token, signed with JWT_SECRET_KEY or with the development secret."""
    typer.echo(_issue(load_settings(development=True), sub, role or [Role.USER], minutes))


@app.command()
@plainly
def send(
    user: Annotated[str, typer.Option(help="The recipient's user id.")],
    title: Annotated[str, typer.Option(help="Title, or subject of the e-mail.")],
    body: Annotated[str, typer.Option(help="Text.")] = "",
    notification_type: Annotated[str, typer.Option("--type", help="Of the form word.word.")] = "manual.message",
    channel: Annotated[list[str] | None, typer.Option(help="Repeat it; default: the type's own.")] = None,
    email: Annotated[str | None, typer.Option(help="The recipient's e-mail address.")] = None,
    priority: Annotated[str, typer.Option(help="low, medium, high, urgent or critical.")] = "medium",
    url: Annotated[str, typer.Option(help="Address of the engine.")] = "http://127.0.0.1:8000",
) -> None:
    """Send one notification through a running engine and print its answer."""
    recipient = {"user_id": user} | ({"email": email} if email else {})
    message: dict[str, Any] = {
        "notification_type": notification_type,
        "recipients": [recipient],
        "title": title,
        "body": body,
        "priority": priority,
    } | ({"channels": channel} if channel else {})
    status, answer = asyncio.run(_post(url, _issue(load_settings(development=True), "cli", [Role.SERVICE], 1), message))
    typer.echo(json.dumps(answer, indent=2))
    if status != 202:
        raise typer.Exit(1)


@app.command()
@plainly
def check_config() -> None:
    """Print the effective settings, secrets masked; exit 2 with what is wrong."""
    for name, value in masked(load_settings()).items():
        typer.echo(f"{name}={value}")


@app.command()
@plainly
def init_db(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print which ones would run; change nothing.")] = False,
    again: Annotated[bool, typer.Option("--again", help="All of them, e.g. when an index was dropped.")] = False,
) -> None:
    """Run the migrations (collections, indexes) and print which ones ran; harmless when repeated."""

    async def work(database: Database) -> list[str]:
        if dry_run:
            return [name for name, _ in MIGRATIONS] if again else await pending(database)
        return await migrate(database, again=again)

    try:
        names = asyncio.run(_with_database(load_settings(development=True), work))
    except Unavailable as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None
    typer.echo("\n".join(names) if names else "Nothing to do: every migration has run.")


app.command()(plainly(doctors.doctor))
app.command()(plainly(backups.backup))
app.command()(plainly(backups.restore))
_keys = typer.Typer(no_args_is_help=True, help="The keys of what is encrypted at rest.")
_keys.command()(plainly(keys.status))
_keys.command()(plainly(keys.rotate))
app.add_typer(_keys, name="keys")
_audit = typer.Typer(no_args_is_help=True, help="Check and export the audit log.")
_audit.command("verify")(plainly(audits.verify))
_audit.command("export")(plainly(audits.export))
app.add_typer(_audit, name="audit")
_erasures = typer.Typer(no_args_is_help=True, help="Erasures of users.")
_erasures.callback()(lambda: None)
_erasures.command("apply")(plainly(erasing.apply))
app.add_typer(_erasures, name="erasures")


@app.command(hidden=True)
def reference(
    types: Annotated[bool, typer.Option("--types", help="docs/types.md instead.")] = False,
    metrics: Annotated[bool, typer.Option("--metrics", help="docs/metrics.md instead.")] = False,
    cli: Annotated[bool, typer.Option("--cli", help="docs/cli.md instead.")] = False,
) -> None:
    """Print docs/configuration.md."""
    if cli:
        text = cli_reference(app)
    else:
        text = (types_reference if types else metrics_reference if metrics else configuration_reference)()
    typer.echo(text, nl=False)


def _issue(settings: Settings, sub: str, roles: list[Role], minutes: float | None) -> str:
    tokens = Tokens(
        settings.jwt_secret, settings.JWT_ALGORITHM, issuer=settings.JWT_ISSUER, audience=settings.JWT_AUDIENCE
    )
    return tokens.issue(sub, roles, minutes or settings.JWT_ACCESS_TOKEN_EXPIRE_MINUTES)


async def _post(url: str, token: str, message: dict[str, Any]) -> tuple[int, Any]:
    try:
        async with (
            ClientSession(headers=bearer(token)) as session,
            session.post(url + NOTIFICATIONS, json=message) as answer,
        ):
            return answer.status, await answer.json(content_type=None)
    except ClientError as error:
        raise ConfigurationError(f"--url {url}: no engine answers there ({error}).") from None


async def _with_database(settings: Settings, work: Callable[[Database], Awaitable[list[str]]]) -> list[str]:
    async with server.database(settings) as (url, _):
        database = Database(url, settings.MONGODB_DATABASE, pool_size=1)
        try:
            return await work(database)
        finally:
            await database.close()


if __name__ == "__main__":
    sys.exit(app())
