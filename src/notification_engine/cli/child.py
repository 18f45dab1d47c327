"""One process of several: what its supervisor tells it, and its life.

It listens only once its engine has started, so that the kernel sends it no connection before. SIGTERM and SIGINT drain
however often they come, because a service manager may send one beside the supervisor's; SIGQUIT ends at once.
"""

import contextlib
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import orjson

from notification_engine.cli import server
from notification_engine.domain.errors import ConfigurationError
from notification_engine.health.group import Group
from notification_engine.kit.logging import configure_logging, get_logger
from notification_engine.settings import Settings
from notification_engine.wiring import EngineRole

log = get_logger("engine")


@dataclass(frozen=True, slots=True)
class Order:
    """As an argument of the command line. `ready_fd`: a pipe that gets a byte once this process serves."""

    host: str
    port: int
    role: EngineRole
    directory: str
    slot: int
    count: int
    began: float
    ready_fd: int

    def text(self) -> str:
        return orjson.dumps(asdict(self)).decode()

    @property
    def group(self) -> Group:
        return Group(Path(self.directory), self.slot, self.count, self.began)


def order(text: str) -> Order:
    """Raises ConfigurationError for what no supervisor wrote."""
    try:
        values: Mapping[str, Any] = orjson.loads(text)
        return Order(**{**values, "role": EngineRole(values["role"])})
    except (orjson.JSONDecodeError, TypeError, KeyError, ValueError):
        raise ConfigurationError("This command is the supervisor's; use `serve --processes`.") from None


async def serve(settings: Settings, given: Order) -> None:
    """Until a signal, against the database that the supervisor named."""
    configure_logging(settings.log_level, settings.LOG_FORMAT, settings.LOG_FILE)
    url = settings.MONGODB_URL or ""
    async with server.engine(settings, url, given.role, group=given.group) as engine:
        with server.bind(given.host, given.port, shared=True) as listener:
            told = partial(_told_ready, given, engine.replica)
            await server.until_stopped(engine, listener, told, supervised=True)


def _told_ready(given: Order, replica: str) -> None:
    log.info("A process serves", process=given.slot, pid=os.getpid(), replica=replica)
    with contextlib.suppress(BrokenPipeError):  # the supervisor is gone, and the kernel's signal is on its way
        os.write(given.ready_fd, b"1")
    os.close(given.ready_fd)
