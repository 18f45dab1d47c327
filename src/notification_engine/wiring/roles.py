"""Which part of the work a process has, and what it is called among the others."""

import os
import socket
from dataclasses import dataclass
from enum import StrEnum

from notification_engine.domain.errors import ConfigurationError
from notification_engine.health.group import Group
from notification_engine.health.metrics import Metrics
from notification_engine.kit.clock import Clock
from notification_engine.kit.ids import new_ulid
from notification_engine.settings import Settings


class EngineRole(StrEnum):
    ALL = "all"
    API = "api"
    DAEMON = "daemon"


@dataclass(frozen=True, slots=True)
class Process:
    """One of those that may share a database. `exclusive`: there is no other, ever. `group`: those beside it under one
    supervisor."""

    replica: str
    serves: bool
    delivers: bool
    exclusive: bool
    group: Group | None
    clock: Clock
    metrics: Metrics


def this_process(s: Settings, role: EngineRole, *, exclusive: bool, group: Group | None) -> Process:
    refuse_disabled_daemon(s, role)
    return Process(
        replica=f"{socket.gethostname()}-{os.getpid()}-{new_ulid()[-6:]}",
        serves=role is not EngineRole.DAEMON,
        delivers=role is not EngineRole.API and s.NOTIFICATION_DAEMON_ENABLED,
        exclusive=exclusive,
        group=group,
        clock=Clock(),
        metrics=Metrics(group),
    )


def refuse_disabled_daemon(settings: Settings, role: EngineRole) -> None:
    if role is EngineRole.DAEMON and not settings.NOTIFICATION_DAEMON_ENABLED:
        raise ConfigurationError("NOTIFICATION_DAEMON_ENABLED: false contradicts --role daemon.")
