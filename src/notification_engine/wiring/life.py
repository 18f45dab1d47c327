"""How a process's life begins and ends: the wait for a primary, and how long an end may take."""

import asyncio
from typing import TYPE_CHECKING

from notification_engine.channels.in_app import InAppChannel
from notification_engine.domain.errors import ConfigurationError, Unavailable
from notification_engine.kit import tracing
from notification_engine.kit.clock import Clock
from notification_engine.kit.logging import get_logger
from notification_engine.settings import Settings
from notification_engine.storage.claims import Claims
from notification_engine.storage.connection import Database
from notification_engine.storage.migrations import migrate

DATABASE_SECONDS = 30.0  # how long a start waits for a primary
DRAIN_MARGIN_SECONDS = 5.0
STOP_SECONDS = 15.0  # open requests get five; closing loops, pools and the driver takes the rest on a slow machine

if TYPE_CHECKING:
    from notification_engine.wiring.traces import Traces

log = get_logger("engine")


async def open_traces(s: Settings, replica: str) -> "Traces | None":
    """None where no collector is named; then nothing of the SDK is imported. Raises ConfigurationError."""
    if s.traces_endpoint is None:
        return None
    from notification_engine.wiring.traces import Traces

    traces = Traces(s, replica)
    await traces.start()
    tracing.record(traces)
    return traces


async def until_primary(database: Database, clock: Clock) -> None:
    """Raises ConfigurationError when no primary of a replica set answers in time."""
    try:
        async with asyncio.timeout(DATABASE_SECONDS):
            while True:
                try:
                    return await database.synchronise(clock)
                except Unavailable as error:
                    log.warning("The database does not answer yet", error=str(error))
                await asyncio.sleep(0.5)
    except TimeoutError:
        raise ConfigurationError(
            f"MONGODB_URL: no primary of a replica set answered within {DATABASE_SECONDS:.0f} s."
        ) from None


async def free_leases(settings: Settings, url: str) -> None:
    """For a supervisor that alone holds the embedded database, before it starts its processes: nobody else can be
    alive. Not for a process that takes a dead one's place; the others beside it hold leases."""
    clock, database = Clock(), Database(url, settings.MONGODB_DATABASE, pool_size=1)
    try:
        await until_primary(database, clock)
        await migrate(database)
        if freed := await Claims(database, clock).free_all():
            log.info("Leases of processes that ended are free again", count=freed)
    finally:
        await database.close()


def drain_seconds(settings: Settings) -> float:
    """How long `drain` and `stop` of one process may take."""
    longest = max(settings.SMTP_TIMEOUT_SECONDS, settings.WEBHOOK_TIMEOUT_SECONDS, InAppChannel.attempt_seconds)
    return settings.DRAIN_DELAY_SECONDS + longest + 2 * DRAIN_MARGIN_SECONDS + STOP_SECONDS
