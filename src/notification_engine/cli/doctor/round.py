"""The doctor's round: configuration first, because everything else needs it; then each check, whatever the others say.

Nothing is written to the database, no key is made, no migration run, no message sent.
"""

import asyncio

from notification_engine.cli import server
from notification_engine.cli.doctor import host, outside
from notification_engine.cli.doctor.database import look_at_database
from notification_engine.cli.doctor.finding import Finding, fail, ok, warn
from notification_engine.domain.errors import ConfigurationError
from notification_engine.settings import Settings, load_settings


async def examine(*, development: bool = False) -> list[Finding]:
    try:
        settings = await asyncio.to_thread(load_settings, development=development)
    except ConfigurationError as error:
        todo = "Change it, look with `notification-engine check-config`; the other checks wait for it."
        return [fail("configuration", line, todo) for line in str(error).splitlines()]
    findings = [*_configuration(settings), *host.look(settings)]
    findings += await _database(settings)
    findings += await outside.look_at_email(settings)
    findings += await outside.look_at_signing_keys(settings)
    findings.append(await outside.look_at_redis(settings))
    findings += outside.look_at_guard(settings)
    return findings


def _configuration(s: Settings) -> list[Finding]:
    found = [ok("configuration", f"valid, ENVIRONMENT={s.ENVIRONMENT}")]
    if s.FIELD_ENCRYPTION_KEY is None and s.MASTER_KEY_PROVIDER == "local" and not s.development:
        todo = "Set FIELD_ENCRYPTION_KEY; keep a copy apart from the backups (docs/secrets.md)."
        found.append(warn("master key", "derived from JWT_SECRET_KEY: who changes that must keep the old one", todo))
    return found


async def _database(settings: Settings) -> list[Finding]:
    try:
        async with server.database(settings) as (url, _):
            return await look_at_database(settings, url)
    except ConfigurationError as error:  # the embedded one does not start, or another engine has it
        return [fail("database", str(error), "Stop the other engine, or name its database in MONGODB_URL.")]
