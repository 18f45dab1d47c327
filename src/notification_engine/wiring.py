"""Wiring: the only place where objects meet. An `Engine` is one process's whole, from its settings.

Order of life: `start` (database, migrations, loops), `drain` (readiness off, sockets closed, lanes emptied), `stop`.
"""

import asyncio
import os
import socket
from collections.abc import Mapping
from enum import StrEnum
from importlib.metadata import version as package_version

from fastapi import FastAPI

from notification_engine.api.app import create_app
from notification_engine.api.dependencies import ApiConfig, ApiServices
from notification_engine.channels.email.channel import EmailChannel
from notification_engine.channels.email.console import ConsoleProvider
from notification_engine.channels.email.provider import EmailProvider
from notification_engine.channels.email.smtp import SmtpConfig, SmtpProvider
from notification_engine.channels.in_app import InAppChannel
from notification_engine.channels.webhook import WebhookChannel
from notification_engine.daemon.dispatcher import Dispatcher
from notification_engine.daemon.janitor import Janitor
from notification_engine.daemon.leases import Leases
from notification_engine.daemon.sweeper import Sweeper
from notification_engine.domain.delivery import Channel
from notification_engine.domain.errors import ConfigurationError, Unavailable
from notification_engine.domain.retry import RetryPolicy
from notification_engine.health.background import Checks, Heartbeat, Sampler
from notification_engine.health.metrics import Metrics
from notification_engine.health.probe import Health
from notification_engine.kit.clock import Clock
from notification_engine.kit.ids import new_ulid
from notification_engine.kit.logging import get_logger
from notification_engine.kit.loop import Loop
from notification_engine.net.guard import Guard
from notification_engine.net.session import Outbound
from notification_engine.realtime.hub import Hub
from notification_engine.security.field_encryption import FieldCipher
from notification_engine.security.tokens import Tokens
from notification_engine.services.announce import Announce
from notification_engine.services.intake import Intake
from notification_engine.services.ports import Sender
from notification_engine.services.send import Send
from notification_engine.services.settle import Settle
from notification_engine.settings import Settings
from notification_engine.storage.audit import AuditLog
from notification_engine.storage.connection import Database
from notification_engine.storage.endpoints import Endpoints
from notification_engine.storage.history import History
from notification_engine.storage.migrations import migrate, missing_indexes
from notification_engine.storage.notifications import Notifications
from notification_engine.storage.preferences import Preferences
from notification_engine.storage.reports import Reports
from notification_engine.storage.tickets import Tickets
from notification_engine.storage.walk import Walk

CONSOLE_SENDER = "notifications@localhost"
DATABASE_SECONDS = 30.0  # how long a start waits for a primary
COMMIT_WAITERS = 20_000
SETTLE_WAITERS = 100_000
DRAIN_MARGIN_SECONDS = 5.0

log = get_logger("engine")


class EngineRole(StrEnum):
    ALL = "all"
    API = "api"
    DAEMON = "daemon"


class Engine:
    """`exclusive`: this process alone holds the (embedded) database, so its start may free old leases."""

    def __init__(self, settings: Settings, url: str, *, role: EngineRole = EngineRole.ALL, exclusive: bool = False):
        if role is EngineRole.DAEMON and not settings.NOTIFICATION_DAEMON_ENABLED:
            raise ConfigurationError("NOTIFICATION_DAEMON_ENABLED: false contradicts --role daemon.")
        self.settings = settings
        self.replica = f"{socket.gethostname()}-{os.getpid()}-{new_ulid()[-6:]}"
        self._exclusive = exclusive
        self._delivers = role is not EngineRole.API and settings.NOTIFICATION_DAEMON_ENABLED
        self._build_stores(url)
        self._build_channels()
        self._build_services()
        self._build_loops()
        self.app: FastAPI = create_app(self._api_services(), only_health=role is EngineRole.DAEMON)

    async def start(self) -> None:
        """Raises ConfigurationError when no primary of a replica set answers in time."""
        await self._until_primary()
        if ran := await migrate(self.database):
            log.info("Migrations were run", migrations=ran)
        if self._exclusive and (freed := await self.notifications.free_all()):
            log.info("Leases of a process that ended are free again", count=freed)
        await self.health.run_once()
        for loop in self._loops:
            await loop.start()

    async def drain(self) -> None:
        """Nothing new is begun; what is in flight may end."""
        self.health.draining = True
        await asyncio.sleep(self.settings.DRAIN_DELAY_SECONDS)
        self.hub.close_all(1012)
        if self.sweeper is not None:
            await self.sweeper.stop()
        if self.dispatcher is not None:
            longest = max(sender.attempt_seconds for sender in self.senders.values())
            await self.dispatcher.drain(longest + DRAIN_MARGIN_SECONDS)
        await self._announce.drain()

    async def stop(self) -> None:
        """After `drain` and the server's end."""
        for loop in reversed(self._loops):
            await loop.stop()
        await self._announce.drain()
        try:
            await self._reports.gone()
        except Unavailable:
            log.warning("The heartbeat could not be withdrawn; it expires")
        await self.outbound.close()
        await self.database.close()

    def _build_stores(self, url: str) -> None:
        s = self.settings
        self.clock = Clock()
        self.metrics = Metrics()
        self.database = Database(url, s.MONGODB_DATABASE, pool_size=s.DATABASE_CONNECTION_POOL_SIZE)
        self.notifications = Notifications(
            self.database,
            self.clock,
            max_waiting=COMMIT_WAITERS,
            several_daemons=not self._exclusive,
            observe_batch=self.metrics.committed,
        )
        self.history = History(self.database)
        self.preferences = Preferences(self.database)
        self.endpoints = Endpoints(self.database, FieldCipher.from_secret(s.field_key))
        self._reports = Reports(self.database, self.replica)

    def _build_channels(self) -> None:
        s = self.settings
        self.guard = Guard(s.WEBHOOK_ALLOWED_NETWORKS, https_only=s.WEBHOOK_HTTPS_ONLY)
        self.outbound = Outbound(self.guard)
        self.email = EmailChannel(email_providers(s), attempt_seconds=s.SMTP_TIMEOUT_SECONDS)
        self.webhook = WebhookChannel(self.outbound.session, self.endpoints, timeout_seconds=s.WEBHOOK_TIMEOUT_SECONDS)
        self.senders: Mapping[Channel, Sender] = {
            Channel.IN_APP: InAppChannel(),
            Channel.EMAIL: self.email,
            Channel.WEBHOOK: self.webhook,
        }

    def _build_services(self) -> None:
        s = self.settings
        self.hub = Hub(s.WEBSOCKET_MAX_CONNECTIONS)
        self._announce = Announce(self.history, self.metrics, self.clock)
        self.settle = Settle(
            self.notifications,
            self.history,
            self.clock,
            self.metrics,
            self.hub,
            retry_policies(s),
            lease_seconds=s.LEASE_SECONDS,
            max_waiting=SETTLE_WAITERS,
        )
        self.send = Send(self.senders, self.settle, self.notifications, self.history, self.endpoints, self.clock)
        self.dispatcher = self._build_dispatcher() if self._delivers else None
        self.intake = Intake(
            self.notifications,
            self.preferences,
            self.endpoints,
            self.clock,
            self._announce,
            self.hub,
            email_available=bool(self.email.provider_names),
            handover=self.dispatcher,
        )

    def _build_dispatcher(self) -> Dispatcher:
        s = self.settings
        return Dispatcher(
            self.notifications,
            self.send,
            self.settle,
            list(self.senders),
            self.clock,
            owner=self.replica,
            lane_bound=s.NOTIFICATION_DAEMON_WORKERS * s.NOTIFICATION_DAEMON_BATCH_SIZE,
            queue_size=s.NOTIFICATION_QUEUE_SIZE,
            lease_seconds=s.LEASE_SECONDS,
            processing_timeout=s.NOTIFICATION_PROCESSING_TIMEOUT,
        )

    def _build_loops(self) -> None:
        s = self.settings
        self._checks = Checks(lambda: missing_indexes(self.database), self.clock, s.HEALTH_CHECK_INTERVAL)
        self.health = Health(
            self.database,
            self.notifications,
            self.metrics,
            self.clock,
            daemon=lambda: self.dispatcher.snapshot() if self.dispatcher else {},
            connections=self.hub.counts,
            providers={"in_app": ["in_app"], "email": self.email.provider_names, "webhook": ["webhook"]},
            heartbeat_seconds=s.NOTIFICATION_DAEMON_HEALTH_CHECK_INTERVAL,
            version=package_version("notification-engine"),
            checks=self._checks.shown,
        )
        self.sweeper: Sweeper | None = None
        daemon: list[Loop] = []
        if self.dispatcher is not None:
            self.sweeper = Sweeper(
                self.notifications,
                self.dispatcher,
                interval_seconds=s.SWEEP_INTERVAL_SECONDS,
                batch_size=s.NOTIFICATION_DAEMON_BATCH_SIZE,
            )
            walk = Walk(self.database, "history")
            daemon = [self.sweeper, Leases(self.dispatcher), Janitor(walk, self.history, self.clock)]
        heartbeat = Heartbeat(self._reports, self.health, s.NOTIFICATION_DAEMON_HEALTH_CHECK_INTERVAL)
        self._loops: list[Loop] = [self.health, heartbeat, *daemon]
        if s.METRICS_COLLECTION_ENABLED:
            self._loops.append(Sampler(self._reports, self.health, s.METRICS_RETENTION_DAYS))
        if s.HEALTH_CHECK_ENABLED:
            self._loops.append(self._checks)
        self.health.loops = daemon

    def _api_services(self) -> ApiServices:
        s = self.settings
        return ApiServices(
            intake=self.intake,
            notifications=self.notifications,
            history=self.history,
            preferences=self.preferences,
            endpoints=self.endpoints,
            check_url=self.guard.check_url,
            webhook=self.webhook,
            audit=AuditLog(self.database),
            tickets=Tickets(self.database),
            tokens=Tokens(s.jwt_secret, s.JWT_ALGORITHM),
            hub=self.hub,
            health=self.health,
            config=ApiConfig(
                version=package_version("notification-engine"),
                development=s.development,
                cors_origins=tuple(s.CORS_ORIGINS),
                cors_enabled=s.CORS_ENABLED,
                trusted_hosts=tuple(s.TRUSTED_HOSTS),
                heartbeat_seconds=s.WEBSOCKET_HEARTBEAT_INTERVAL,
                silence_seconds=s.WEBSOCKET_CONNECTION_TIMEOUT,
                token_minutes=s.JWT_ACCESS_TOKEN_EXPIRE_MINUTES,
            ),
        )

    async def _until_primary(self) -> None:
        try:
            async with asyncio.timeout(DATABASE_SECONDS):
                while True:
                    try:
                        return await self.database.synchronise(self.clock)
                    except Unavailable as error:
                        log.warning("The database does not answer yet", error=str(error))
                    await asyncio.sleep(0.5)
        except TimeoutError:
            raise ConfigurationError(
                f"MONGODB_URL: no primary of a replica set answered within {DATABASE_SECONDS:.0f} s."
            ) from None


def email_providers(s: Settings) -> list[EmailProvider]:
    """In the order in which they are tried; the guide's `EMAIL_PROVIDER`."""
    if s.EMAIL_PROVIDER in {"auto", "smtp"} and s.SMTP_HOST and s.SMTP_FROM_EMAIL:
        config = SmtpConfig(
            host=s.SMTP_HOST,
            port=s.SMTP_PORT,
            username=s.SMTP_USERNAME,
            password=s.SMTP_PASSWORD.get_secret_value() if s.SMTP_PASSWORD else None,
            starttls=s.SMTP_STARTTLS,
            sender=s.SMTP_FROM_EMAIL,
            sender_name=s.SENDGRID_FROM_NAME,
        )
        return [SmtpProvider(config)]
    if s.EMAIL_PROVIDER == "console" or (s.EMAIL_PROVIDER == "auto" and s.development):
        return [ConsoleProvider(s.SMTP_FROM_EMAIL or CONSOLE_SENDER, s.SENDGRID_FROM_NAME)]
    return []


def retry_policies(s: Settings) -> dict[Channel, RetryPolicy]:
    ours = RetryPolicy(s.NOTIFICATION_RETRY_MAX_ATTEMPTS, s.NOTIFICATION_RETRY_DELAY_SECONDS)
    webhook = RetryPolicy(s.WEBHOOK_MAX_RETRIES + 1, s.WEBHOOK_RETRY_DELAY_SECONDS)
    return {channel: webhook if channel is Channel.WEBHOOK else ours for channel in Channel}
