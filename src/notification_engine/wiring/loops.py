"""The loops of a process by its role, in the order in which they start."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version as package_version

from notification_engine.daemon.breakers import Breakers as BreakerLoop
from notification_engine.daemon.dispatcher import Dispatcher
from notification_engine.daemon.janitor import Janitor
from notification_engine.daemon.leases import Leases
from notification_engine.daemon.retention import Periods
from notification_engine.daemon.retention import Retention as RetentionLoop
from notification_engine.daemon.sweeper import Sweeper
from notification_engine.health.background import Checks, Heartbeat, Sampler
from notification_engine.health.conservation import Conservation
from notification_engine.health.presence import Presence
from notification_engine.health.probe import Health
from notification_engine.kit.loop import Loop
from notification_engine.realtime.live_poll import LivePoll
from notification_engine.settings import Settings
from notification_engine.storage.migrations import missing_indexes
from notification_engine.storage.retention import Retention
from notification_engine.storage.walk import Walk
from notification_engine.wiring.parts import Parts


@dataclass(frozen=True, slots=True)
class Loops:
    """`sweeper`: of a process that delivers. `all`: in their order, those that are named here among them."""

    health: Health
    checks: Checks
    sweeper: Sweeper | None
    all: Sequence[Loop]


def build_loops(s: Settings, parts: Parts) -> Loops:
    checks = _checks(s, parts)
    health = _health(s, parts, checks)
    sweeper: Sweeper | None = None
    daemon: list[Loop] = []
    if (dispatcher := parts.delivery.dispatcher) is not None:
        sweeper = Sweeper(
            parts.stores.notifications,
            dispatcher,
            interval_seconds=s.SWEEP_INTERVAL_SECONDS,
            batch_size=s.NOTIFICATION_DAEMON_BATCH_SIZE,
        )
        parts.signals.wake.listen()
        daemon = [sweeper, *_beside_the_sweeper(s, parts, dispatcher)]
    heartbeat = Heartbeat(parts.stores.reports, health, s.NOTIFICATION_DAEMON_HEALTH_CHECK_INTERVAL)
    loops: list[Loop] = [health, heartbeat, parts.delivery.ledger, *daemon]
    if parts.process.serves:
        loops += _of_the_controller(s, parts)
    if s.METRICS_COLLECTION_ENABLED:
        loops.append(Sampler(parts.stores.reports, health, s.METRICS_RETENTION_DAYS))
    if s.HEALTH_CHECK_ENABLED:
        loops.append(checks)
    health.loops = daemon
    return Loops(health, checks, sweeper, loops)


def _checks(s: Settings, parts: Parts) -> Checks:
    stores, process = parts.stores, parts.process
    conservation = Conservation(stores.books, process.metrics, process.clock, lease_seconds=s.LEASE_SECONDS)
    return Checks(
        lambda: missing_indexes(stores.database),
        conservation.check,
        process.clock,
        s.HEALTH_CHECK_INTERVAL,
        process.metrics.checked,
    )


def _health(s: Settings, parts: Parts, checks: Checks) -> Health:
    process, email = parts.process, parts.channels.email
    hub, dispatcher = parts.delivery.hub, parts.delivery.dispatcher
    return Health(
        parts.stores.database,
        parts.stores.notifications,
        process.metrics,
        process.clock,
        daemon=lambda: dispatcher.snapshot() if dispatcher else {},
        connections=hub.counts,
        breakers=email.breakers,
        providers={"in_app": ["in_app"], "email": email.provider_names, "webhook": ["webhook"]},
        heartbeat_seconds=s.NOTIFICATION_DAEMON_HEALTH_CHECK_INTERVAL,
        version=package_version("notification-engine"),
        checks=checks.shown,
        limits=parts.signals.limits.figures,
        bus=parts.signals.bus,
        presence=Presence(parts.stores.reports, process.replica, hub.counts),
        group=process.group,
    )


def _beside_the_sweeper(s: Settings, parts: Parts, dispatcher: Dispatcher) -> list[Loop]:
    janitor = Janitor(Walk(parts.stores.database, "history"), parts.stores.history, parts.process.clock)
    breakers = BreakerLoop([relay.breaker for relay in parts.channels.email.relays])
    return [Leases(dispatcher), janitor, breakers, _retention(s, parts)]


def _retention(s: Settings, parts: Parts) -> RetentionLoop:
    periods = Periods(
        s.NOTIFICATION_RETENTION_DAYS,
        s.HISTORY_RETENTION_DAYS,
        s.PROVIDER_EVENT_RETENTION_DAYS,
        s.SUPPRESSION_RETENTION_DAYS,
    )
    store = Retention(parts.stores.database, parts.process.clock)
    audit, catalogue = parts.stores.audit, parts.content.catalogue
    return RetentionLoop(store, periods, catalogue.retention_days, parts.erasures.sweep, audit.close_day)


def _of_the_controller(s: Settings, parts: Parts) -> list[Loop]:
    keys = parts.entrance.keys
    poll = LivePoll(parts.delivery.hub, parts.stores.notifications, parts.process.clock, s.LIVE_POLL_SECONDS)
    return [poll, parts.entrance.watch, *([keys] if keys else [])]
