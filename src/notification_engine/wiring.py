"""Wiring: the only place where objects meet. An `Engine` is one process's whole, from its settings.

Order of life: `start` (database, migrations, loops), `drain` (readiness off, sockets closed, lanes emptied), `stop`.
"""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from importlib.metadata import version as package_version
from typing import TYPE_CHECKING

from aiohttp.abc import AbstractResolver
from fastapi import FastAPI
from pydantic import SecretStr

from notification_engine.api.app import PREFIX, create_app
from notification_engine.api.dependencies import ApiConfig, ApiServices, Callbacks
from notification_engine.channels.email.attachments import Attacher
from notification_engine.channels.email.breaker import Breaker
from notification_engine.channels.email.bucket import TokenBucket
from notification_engine.channels.email.channel import EmailChannel, Relay
from notification_engine.channels.email.console import ConsoleProvider
from notification_engine.channels.email.provider import EmailProvider
from notification_engine.channels.email.sendgrid import SendGridConfig, SendGridProvider
from notification_engine.channels.email.smtp import SmtpConfig, SmtpProvider
from notification_engine.channels.in_app import InAppChannel
from notification_engine.channels.webhook import WebhookChannel
from notification_engine.daemon.breakers import Breakers as BreakerLoop
from notification_engine.daemon.dispatcher import Dispatcher
from notification_engine.daemon.janitor import Janitor
from notification_engine.daemon.leases import Leases
from notification_engine.daemon.retention import Periods
from notification_engine.daemon.retention import Retention as RetentionLoop
from notification_engine.daemon.sweeper import Sweeper
from notification_engine.domain.breaker import BreakerPolicy
from notification_engine.domain.caller import Caller
from notification_engine.domain.delivery import Channel
from notification_engine.domain.errors import ConfigurationError, Unavailable
from notification_engine.domain.outcome import Message
from notification_engine.domain.retry import RetryPolicy
from notification_engine.health.background import Checks, Heartbeat, Sampler
from notification_engine.health.conservation import Conservation
from notification_engine.health.group import Group
from notification_engine.health.ledger import Ledger
from notification_engine.health.metrics import Metrics
from notification_engine.health.presence import Presence
from notification_engine.health.probe import Health
from notification_engine.kit.clock import Clock
from notification_engine.kit.ids import new_ulid
from notification_engine.kit.logging import get_logger
from notification_engine.kit.loop import Loop
from notification_engine.net.exchange import Session
from notification_engine.net.fetch import Fetcher
from notification_engine.net.guard import Guard
from notification_engine.net.jwks import fetch_keys
from notification_engine.net.secret_refresh import Apply, SecretRefresh
from notification_engine.net.session import Outbound
from notification_engine.realtime.hub import Hub
from notification_engine.realtime.invalidation import Invalidation
from notification_engine.realtime.live_poll import LivePoll
from notification_engine.realtime.local_bus import LocalBus
from notification_engine.realtime.rate_limits import RateLimits
from notification_engine.realtime.wake import Wake
from notification_engine.rendering.builtin import builtin_templates
from notification_engine.rendering.email import EmailRenderer
from notification_engine.rendering.pool import Pool, PoolLimits
from notification_engine.rendering.renderer import PoolRenderer
from notification_engine.security.api_keys import ApiKeyHash
from notification_engine.security.envelope import KeyWrapper, LocalKeys
from notification_engine.security.jwks import KeyRing
from notification_engine.security.pseudonyms import Pseudonyms
from notification_engine.security.sendgrid import SendGridSignature
from notification_engine.security.sns import SnsSignature
from notification_engine.security.tokens import Tokens
from notification_engine.security.unsubscribe import UnsubscribeTokens
from notification_engine.services.access import Access
from notification_engine.services.access_watch import AccessWatch
from notification_engine.services.announce import Announce
from notification_engine.services.catalogue import Catalogue
from notification_engine.services.content import Contents
from notification_engine.services.credentials import Credentials
from notification_engine.services.data_protection import DataProtection
from notification_engine.services.denials import Denials
from notification_engine.services.departed import Departed
from notification_engine.services.endpoint_watch import EndpointWatch
from notification_engine.services.feedback import Feedback
from notification_engine.services.intake import Intake
from notification_engine.services.intervene import Intervene
from notification_engine.services.ports import PersonalData, Sender
from notification_engine.services.requests import AcceptedEvent, NotificationRequest
from notification_engine.services.send import Send
from notification_engine.services.settle import Settle
from notification_engine.services.templates import Templates
from notification_engine.services.unsubscribe import Unsubscribe
from notification_engine.settings import Settings
from notification_engine.storage.api_keys import ApiKeys
from notification_engine.storage.attachments import Attachments
from notification_engine.storage.audit import AuditLog
from notification_engine.storage.breakers import Breakers
from notification_engine.storage.claims import Claims
from notification_engine.storage.connection import Database
from notification_engine.storage.data_keys import DERIVED, EVENTS, SUPPRESSIONS, USERS, WEBHOOKS, DataKeys
from notification_engine.storage.endpoints import Endpoints
from notification_engine.storage.erasure_log import CHECKED, ErasureLog
from notification_engine.storage.erasures import Erasures
from notification_engine.storage.feedback import Feedback as FeedbackStore
from notification_engine.storage.history import History
from notification_engine.storage.interventions import Interventions
from notification_engine.storage.ledgers import Ledgers
from notification_engine.storage.migrations import migrate, missing_indexes
from notification_engine.storage.notifications import Notifications
from notification_engine.storage.personal_notifications import PersonalNotifications
from notification_engine.storage.preferences import Preferences
from notification_engine.storage.reports import Reports
from notification_engine.storage.retention import Retention
from notification_engine.storage.revocations import Revocations
from notification_engine.storage.sealing import Sealing
from notification_engine.storage.suppressions import PersonalSuppressions, Suppressions
from notification_engine.storage.templates import TemplateDocuments
from notification_engine.storage.tickets import Tickets
from notification_engine.storage.types import Types
from notification_engine.storage.user_keys import UserKeys
from notification_engine.storage.walk import Walk

if TYPE_CHECKING:
    from notification_engine.realtime.redis_bus import RedisBus
    from notification_engine.realtime.redis_counters import RedisCounters

CONSOLE_SENDER = "notifications@localhost"
DATABASE_SECONDS = 30.0  # how long a start waits for a primary
COMMIT_WAITING_BYTES = 64 * 1024 * 1024
SETTLE_WAITERS = 100_000
DRAIN_MARGIN_SECONDS = 5.0
MAX_REVOCATION_SECONDS = 5.0  # how late a revocation may come where the bus does not bring it
STOP_SECONDS = 15.0  # open requests get five; closing loops, pools and the driver takes the rest on a slow machine

log = get_logger("engine")


class EngineRole(StrEnum):
    ALL = "all"
    API = "api"
    DAEMON = "daemon"


class Engine:
    """`exclusive`: this process alone holds the (embedded) database, so its start may free old leases. `group`: the
    processes beside it under one supervisor. `fetcher`: what asks AWS for certificates, if it is not the guarded way
    out; `resolver`: what asks for the addresses of callers' names, if not the system."""

    def __init__(
        self,
        settings: Settings,
        url: str,
        *,
        role: EngineRole = EngineRole.ALL,
        exclusive: bool = False,
        group: Group | None = None,
        fetcher: Fetcher | None = None,
        resolver: Callable[[], AbstractResolver] | None = None,
    ) -> None:
        refuse_disabled_daemon(settings, role)
        self.settings = settings
        self.replica = f"{socket.gethostname()}-{os.getpid()}-{new_ulid()[-6:]}"
        self._exclusive = exclusive
        self._serves = role is not EngineRole.DAEMON
        self._group = group
        self._resolver = resolver
        self._delivers = role is not EngineRole.API and settings.NOTIFICATION_DAEMON_ENABLED
        self.bus = self._build_bus()
        self._counters = self._build_counters()
        tell = self._counters.tell if self._counters else None
        self.limits = RateLimits(settings.rate_limits, key=settings.field_key, tell=tell)
        self._build_stores(url)
        self._build_templates()
        self._build_channels()
        self._fetcher = fetcher or Fetcher(self.aws_out.session)
        self._build_services()
        self._build_access()
        self._build_loops()
        self.app: FastAPI = create_app(self._api_services(), only_health=role is EngineRole.DAEMON)

    async def start(self) -> None:
        """Raises ConfigurationError when no primary of a replica set answers in time."""
        await until_primary(self.database, self.clock)
        if ran := await migrate(self.database):
            log.info("Migrations were run", migrations=ran)
        await self._open_keys()
        if self._exclusive and (freed := await self.notifications.free_all()):
            log.info("Leases of a process that ended are free again", count=freed)
        await self.revocations.refresh()
        await self.bus.start()
        if self._counters is not None:
            await self._counters.start()
        await self.health.run_once()
        for loop in self._loops:
            await loop.start()

    async def _open_keys(self) -> None:
        try:
            await self.data_keys.open()
        except (ConfigurationError, Unavailable) as error:
            await self.data_keys.close()
            if isinstance(error, ConfigurationError):
                raise
            raise ConfigurationError(f"The data keys cannot be read, so nothing is sent. {error}") from None

    async def drain(self) -> None:
        """Nothing new is begun; what is in flight may end."""
        self.health.draining = True
        await asyncio.sleep(self.settings.DRAIN_DELAY_SECONDS)
        self.hub.close_all(1012)
        if self.dispatcher is not None and self.sweeper is not None:
            # A claim that is cut off would leave leases that nobody holds, and count as a death when they expire.
            self.dispatcher.draining = True
            await self.sweeper.finish(DRAIN_MARGIN_SECONDS)
        if self.dispatcher is not None:
            longest = max(sender.attempt_seconds for sender in self.senders.values())
            await self.dispatcher.drain(longest + DRAIN_MARGIN_SECONDS)
            self.wake.due()  # what was given back is for the others
        await self._announce.drain()

    async def stop(self) -> None:
        """After `drain` and the server's end."""
        for loop in reversed(self._loops):
            await loop.stop()
        if self.dispatcher is not None:
            await self.dispatcher.abandon()
        await self._announce.drain()
        try:
            await self.ledger.run_once()
            await self._access_watch.run_once()
            await self._reports.gone()
        except Unavailable:
            log.warning("The last figures could not be written; the heartbeat expires by itself")
        if self._counters is not None:
            await self._counters.stop()
        await self.bus.stop()
        await self.email.close()
        await self.pool.close()
        await self.outbound.close()
        await self.providers_out.close()
        await self.aws_out.close()
        await self.data_keys.close()
        await self.database.close()

    def _build_bus(self) -> "LocalBus | RedisBus":
        address = self.settings.redis_address
        if address is None:
            return LocalBus()
        from notification_engine.realtime.redis_bus import RedisBus  # heavy: only where Redis is configured

        return RedisBus(address, namespace=f"ne:{self.settings.MONGODB_DATABASE}", replica=self.replica)

    def _build_counters(self) -> "RedisCounters | None":
        address = self.settings.redis_address
        if address is None or not self._serves or not self.settings.rate_limits:
            return None
        from notification_engine.realtime.redis_counters import RedisCounters

        return RedisCounters(address, namespace=f"ne:{self.settings.MONGODB_DATABASE}")

    def _build_stores(self, url: str) -> None:
        s = self.settings
        self.clock = Clock()
        self.metrics = Metrics(self._group)
        pool_size = s.DATABASE_CONNECTION_POOL_SIZE
        self.database = Database(url, s.MONGODB_DATABASE, pool_size=pool_size, observe=self.metrics.commanded)
        self.data_keys = DataKeys(self.database, key_wrappers(s))
        self.user_keys = UserKeys(self.database, self.data_keys.sealer(USERS))
        self.sealing = Sealing(self.user_keys)
        self.notifications = Notifications(
            self.database,
            self.clock,
            max_waiting_bytes=COMMIT_WAITING_BYTES,
            several_daemons=not self._exclusive,
            observe_batch=self.metrics.committed,
            observe_claim=self.metrics.claimed,
            sealing=self.sealing,
        )
        self.history = History(self.database)
        self.attachments = Attachments(self.database)
        self.tickets = Tickets(self.database)
        self.pseudonyms = pseudonyms_by(s, self.data_keys)
        self.audit = AuditLog(self.database, self.clock, self.pseudonyms)
        self.preferences = Preferences(self.database, self.audit)
        self.suppressions = Suppressions(self.database, self.audit, self.data_keys.sealer(SUPPRESSIONS))
        self.endpoints = Endpoints(self.database, self.data_keys.sealer(WEBHOOKS))
        self.interventions = Interventions(self.database, self.clock, self.audit)
        self._books = Ledgers(self.database, self.replica, self.clock)
        self.ledger = Ledger(self._books)
        self._reports = Reports(self.database, self.replica)
        self.api_keys = ApiKeys(self.database, self.audit, self.pseudonyms.of)
        self.revocations = Revocations(self.database)
        self.wake = Wake(self.bus, self._wake)
        self._invalidation = Invalidation(self.bus)
        self._invalidation.join("preferences", self.preferences)
        self._invalidation.join("endpoints", self.endpoints)
        self._invalidation.join("api-keys", self.api_keys)
        self._invalidation.join("revocations", self.revocations)
        self.departed = Departed(self.clock)
        self._invalidation.join("departed", self.departed)
        self._invalidation.join("user_keys", self.user_keys)

    def _build_templates(self) -> None:
        s = self.settings
        limits = PoolLimits(s.RENDER_PROCESSES, s.RENDER_MEMORY_MB, s.RENDER_CPU_SECONDS, s.RENDER_CPU_SECONDS * 10)
        self.pool = Pool(limits)
        self.renderer = PoolRenderer(self.pool)
        pseudonym = self.pseudonyms.of
        documents, types = TemplateDocuments(self.database, pseudonym), Types(self.database, pseudonym)
        self._configured = (documents, types)
        self._invalidation.join("templates", documents)
        self._invalidation.join("types", types)
        self.templates = Templates(documents, self.renderer, builtin_templates())
        self.catalogue = Catalogue(types)

    def _build_channels(self) -> None:
        s = self.settings
        self.guard = Guard(s.WEBHOOK_ALLOWED_NETWORKS, https_only=s.WEBHOOK_HTTPS_ONLY, ports=s.webhook_ports)
        self.outbound = Outbound(self.guard, resolver=self._resolver)
        self.providers_out = Outbound(None)
        self.aws_out = Outbound(Guard(ports=(443,)), limit=4)
        self.unsubscribe_tokens = UnsubscribeTokens(
            late=lambda: (self.data_keys.key(DERIVED).secret("unsubscribe"), s.field_key, *s.former_field_keys)
        )
        self.email = EmailChannel(
            self._relays(),
            Attacher(self.attachments, self.outbound.session),
            attempt_seconds=s.SMTP_TIMEOUT_SECONDS,
            render=EmailRenderer(self.templates, self.renderer).render,
            unsubscribe_url=self._unsubscribe_url if s.PUBLIC_URL else None,
        )
        self.webhook = WebhookChannel(self.outbound.session, self.endpoints, timeout_seconds=s.WEBHOOK_TIMEOUT_SECONDS)
        self.senders: Mapping[Channel, Sender] = {
            Channel.IN_APP: InAppChannel(),
            Channel.EMAIL: self.email,
            Channel.WEBHOOK: self.webhook,
        }

    def _unsubscribe_url(self, message: Message) -> str:
        token = self.unsubscribe_tokens.seal(message.user_id, message.notification_type, message.channel)
        return f"{(self.settings.PUBLIC_URL or '').rstrip('/')}{PREFIX}/unsubscribe/{token}"

    def _relays(self) -> list[Relay]:
        """Each provider behind a breaker that the fleet shares and a bucket of this process."""
        store = Breakers(self.database)
        per_second = {
            "sendgrid": self.settings.SENDGRID_MAX_PER_SECOND,
            "ses": self.settings.SES_MAX_PER_SECOND,
            "smtp": self.settings.SMTP_MAX_PER_SECOND,
        }
        timeouts = dict.fromkeys(("sendgrid", "ses"), self.settings.EMAIL_TIMEOUT_SECONDS)
        return [
            Relay(
                provider,
                Breaker(provider.name, BreakerPolicy(), store),
                TokenBucket(per_second.get(provider.name, 0.0)),
                timeouts.get(provider.name, self.settings.SMTP_TIMEOUT_SECONDS),
            )
            for provider in email_providers(self.settings, self.providers_out.session)
        ]

    def _build_services(self) -> None:
        s = self.settings
        self.hub = Hub(s.WEBSOCKET_MAX_CONNECTIONS, bus=self.bus, inbox=self.notifications, now=self.clock.now)
        self._announce = Announce(self.history, self.metrics, self.ledger, self.clock)
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
        self.send = Send(
            self.senders,
            self.settle,
            self.notifications,
            self.history,
            EndpointWatch(self.endpoints, self.clock, self._accept_own),
            self.suppressions,
            self.clock,
            patience_seconds=s.LEASE_SECONDS,
            departed=self.departed,
        )
        self._events = FeedbackStore(self.database, self.clock, self.sealing, self.data_keys.sealer(EVENTS))
        others = (
            self._events,
            self.history,
            self.preferences,
            self.tickets,
            self.endpoints,
            self.api_keys,
            *self._configured,
        )
        stores = Personal(
            self.audit,
            self.attachments,
            self.suppressions,
            self.sealing,
            self.user_keys,
            self.pseudonyms,
            others,
            self.departed,
        )
        self.data_protection, self.erasures = data_protection(s, self.database, self.clock, stores)
        self.feedback = Feedback(
            self._events,
            self.notifications,
            self.history,
            self.suppressions,
            self.preferences,
            self.metrics,
            self.clock,
        )
        self.dispatcher = self._build_dispatcher() if self._delivers else None
        self.intake = Intake(
            self.notifications,
            self.preferences,
            self.endpoints,
            self.attachments,
            self.catalogue,
            Contents(self.templates, self.renderer),
            self.clock,
            self._announce,
            self.hub,
            email_available=bool(self.email.provider_names),
            handover=self.dispatcher,
            left_due=self.wake.due,
        )

    def _build_access(self) -> None:
        """Who calls, what no longer opens anything, and the book of who was refused."""
        s = self.settings
        self.keys: KeyRing | None = None
        if s.JWT_JWKS_URL is not None:
            self.keys = KeyRing(partial(fetch_keys, self.providers_out.session, s.JWT_JWKS_URL), s.JWT_ALGORITHM)
        self.tokens = Tokens(
            s.jwt_secret,
            s.JWT_ALGORITHM,
            issuer=s.JWT_ISSUER,
            audience=s.JWT_AUDIENCE,
            leeway=s.JWT_LEEWAY_SECONDS,
            keys=self.keys,
        )
        hashing = ApiKeyHash(lambda: self.data_keys.key(DERIVED).secret("api keys"))
        self.access = Access(self.tokens, hashing, self.api_keys, self.revocations, leeway_seconds=s.JWT_LEEWAY_SECONDS)
        self.credentials = Credentials(
            self.tokens,
            hashing,
            self.api_keys,
            self.revocations,
            self.audit,
            token_minutes=s.JWT_ACCESS_TOKEN_EXPIRE_MINUTES,
        )
        self.denials = Denials(self.audit, self.metrics.denied)
        interval = min(s.LIVE_POLL_SECONDS, MAX_REVOCATION_SECONDS)
        self._access_watch = AccessWatch(self.revocations, self.api_keys, self.denials, interval)
        self.revocations.on_hint = self._access_watch.wake
        self.revocations.on_revoked = lambda: self.hub.close_denied(self.access.denies)

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
        conservation = Conservation(self._books, self.metrics, self.clock, lease_seconds=s.LEASE_SECONDS)
        self._checks = Checks(
            lambda: missing_indexes(self.database),
            conservation.check,
            self.clock,
            s.HEALTH_CHECK_INTERVAL,
            self.metrics.checked,
        )
        self.health = Health(
            self.database,
            self.notifications,
            self.metrics,
            self.clock,
            daemon=lambda: self.dispatcher.snapshot() if self.dispatcher else {},
            connections=self.hub.counts,
            breakers=self.email.breakers,
            providers={"in_app": ["in_app"], "email": self.email.provider_names, "webhook": ["webhook"]},
            heartbeat_seconds=s.NOTIFICATION_DAEMON_HEALTH_CHECK_INTERVAL,
            version=package_version("notification-engine"),
            checks=self._checks.shown,
            limits=self.limits.figures,
            bus=self.bus,
            presence=Presence(self._reports, self.replica, self.hub.counts),
            group=self._group,
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
            self.wake.listen()
            walk = Walk(self.database, "history")
            breakers = BreakerLoop([relay.breaker for relay in self.email.relays])
            janitor = Janitor(walk, self.history, self.clock)
            daemon = [self.sweeper, Leases(self.dispatcher), janitor, breakers, self._retention()]
        heartbeat = Heartbeat(self._reports, self.health, s.NOTIFICATION_DAEMON_HEALTH_CHECK_INTERVAL)
        self._loops: list[Loop] = [self.health, heartbeat, self.ledger, *daemon]
        if self._serves:
            self._loops.append(LivePoll(self.hub, self.notifications, self.clock, s.LIVE_POLL_SECONDS))
            self._loops += [self._access_watch, *([self.keys] if self.keys else [])]
        if s.METRICS_COLLECTION_ENABLED:
            self._loops.append(Sampler(self._reports, self.health, s.METRICS_RETENTION_DAYS))
        if s.HEALTH_CHECK_ENABLED:
            self._loops.append(self._checks)
        if s.SECRETS_REFRESH_SECONDS and s.sources.names:
            self.secret_refresh = self._refresh()
            self._loops.append(self.secret_refresh)
        self.health.loops = daemon

    def _retention(self) -> RetentionLoop:
        s = self.settings
        periods = Periods(
            s.NOTIFICATION_RETENTION_DAYS,
            s.HISTORY_RETENTION_DAYS,
            s.PROVIDER_EVENT_RETENTION_DAYS,
            s.SUPPRESSION_RETENTION_DAYS,
        )
        store = Retention(self.database, self.clock)
        return RetentionLoop(store, periods, self.catalogue.retention_days, self.erasures.sweep, self.audit.close_day)

    def _api_services(self) -> ApiServices:
        s = self.settings
        return ApiServices(
            intake=self.intake,
            notifications=self.notifications,
            history=self.history,
            interventions=self.interventions,
            intervene=Intervene(self.interventions, self.wake.due),
            preferences=self.preferences,
            suppressions=self.suppressions,
            feedback=self.feedback,
            callbacks=self._callbacks(),
            unsubscribe=Unsubscribe(self.unsubscribe_tokens, self.preferences, self.catalogue),
            endpoints=self.endpoints,
            templates=self.templates,
            catalogue=self.catalogue,
            check_url=self.guard.check_url,
            check_name=self.outbound.check_name,
            webhook=self.webhook,
            audit=self.audit,
            data_protection=self.data_protection,
            tickets=self.tickets,
            tokens=self.tokens,
            access=self.access,
            credentials=self.credentials,
            api_keys=self.api_keys,
            denials=self.denials,
            hub=self.hub,
            limits=self.limits,
            health=self.health,
            answered=self.metrics.answered,
            config=ApiConfig(
                version=package_version("notification-engine"),
                development=s.development,
                cors_origins=tuple(s.CORS_ORIGINS),
                cors_enabled=s.CORS_ENABLED,
                trusted_hosts=tuple(s.TRUSTED_HOSTS),
                trusted_proxies=tuple(s.TRUSTED_PROXIES),
                forwarded_header=s.FORWARDED_HEADER,
                max_in_flight=s.HTTP_MAX_IN_FLIGHT,
                heartbeat_seconds=s.WEBSOCKET_HEARTBEAT_INTERVAL,
                silence_seconds=s.WEBSOCKET_CONNECTION_TIMEOUT,
                token_minutes=s.JWT_ACCESS_TOKEN_EXPIRE_MINUTES,
            ),
        )

    def _callbacks(self) -> Callbacks:
        s = self.settings
        key, topic = s.SENDGRID_WEBHOOK_PUBLIC_KEY, s.SES_SNS_TOPIC_ARN
        return Callbacks(
            clock=self.clock,
            confirm=self._fetcher.confirm,
            sendgrid=SendGridSignature(key) if key else None,
            ses=SnsSignature(topic, self._fetcher.certificate) if topic else None,
        )

    def _refresh(self) -> SecretRefresh:
        """What takes a new secret while it runs; the rest is told as `restart needed`."""
        apply: dict[str, Apply] = dict.fromkeys(
            ("JWT_SECRET_KEY", "FIELD_ENCRYPTION_KEY", "FIELD_ENCRYPTION_KEY_PREVIOUS"), self._new_keys
        )
        for relay in self.email.relays:
            if isinstance(relay.provider, SendGridProvider | SmtpProvider):
                name = "SENDGRID_API_KEY" if isinstance(relay.provider, SendGridProvider) else "SMTP_PASSWORD"
                apply[name] = partial(self._new_provider_secret, relay.provider)
        apply["VAULT_TOKEN"] = self._new_vault_token
        return SecretRefresh(self.settings.sources, self._renew, apply, self.settings.SECRETS_REFRESH_SECONDS)

    def _renew(self, values: Mapping[str, str]) -> set[str]:
        self.settings, changed = self.settings.renewed(values)
        return changed

    async def _new_keys(self, variable: str) -> None:
        """The data keys are wrapped anew at once, so that a start with the new key alone finds them."""
        s = self.settings
        if variable == "JWT_SECRET_KEY":
            self.tokens.renew(s.jwt_secret, s.JWT_ACCESS_TOKEN_EXPIRE_MINUTES * 60)
        if self.data_keys.local is not None:
            self.data_keys.local.add(s.field_key, s.former_field_keys)
            await self.data_keys.rotate()
            await self.endpoints.reseal()

    async def _new_vault_token(self, variable: str) -> None:
        token = _revealed(self.settings.VAULT_TOKEN) or ""
        self.settings.sources.renew_token(token)
        self.data_keys.renew_token(token)

    async def _new_provider_secret(self, provider: SendGridProvider | SmtpProvider, variable: str) -> None:
        provider.renew(_revealed(getattr(self.settings, variable)) or "")

    async def _accept_own(self, caller: Caller, request: NotificationRequest) -> AcceptedEvent:
        """What the engine itself has to tell; bound late, because accepting needs the lanes that tell it."""
        return await self.intake.accept(caller, request, idempotency_key=None)

    def _wake(self) -> None:
        if self.sweeper is not None:
            self.sweeper.wake()


def refuse_disabled_daemon(settings: Settings, role: EngineRole) -> None:
    if role is EngineRole.DAEMON and not settings.NOTIFICATION_DAEMON_ENABLED:
        raise ConfigurationError("NOTIFICATION_DAEMON_ENABLED: false contradicts --role daemon.")


def pseudonyms_by(s: Settings, keys: DataKeys) -> Pseudonyms:
    """By PSEUDONYM_KEY, or by a secret that outlives each master key; then good once the data keys are open."""
    return Pseudonyms(s.pseudonym_key or (lambda: keys.key(DERIVED).secret("pseudonyms")))


@dataclass(frozen=True, slots=True)
class Personal:
    """What data protection needs of the stores. `others`: those that know a user without its notifications."""

    audit: AuditLog
    attachments: Attachments
    suppressions: Suppressions
    sealing: Sealing
    user_keys: UserKeys
    pseudonyms: Pseudonyms
    others: Sequence[PersonalData]
    departed: Departed | None = None


def data_protection(s: Settings, database: Database, clock: Clock, p: Personal) -> tuple[DataProtection, Erasures]:
    """What is found through a user's notifications comes before them, the user's own key after all that it opens, and
    the audit log last."""
    pseudonym = p.pseudonyms.of
    notifications = PersonalNotifications(database, clock, pseudonym, p.sealing)
    erasures = Erasures(database, p.attachments, clock)
    suppressions = PersonalSuppressions(database, p.suppressions, p.sealing, pseudonym)
    collections: list[PersonalData] = [
        suppressions,
        p.attachments,
        *p.others,
        notifications,
        p.user_keys,
        p.audit,
    ]
    path = s.ERASURE_LOG_FILE
    listed = ErasureLog(path, lambda: pseudonym(CHECKED)) if path else None
    protection = DataProtection(collections, notifications, erasures, p.audit, p.pseudonyms, clock, listed, p.departed)
    return protection, erasures


@asynccontextmanager
async def opened_keys(s: Settings, database: Database) -> AsyncIterator[DataKeys]:
    """Of a command, without an engine. Raises ConfigurationError and Unavailable as a start would."""
    keys = DataKeys(database, key_wrappers(s))
    try:
        await keys.open()
        yield keys
    finally:
        await keys.close()


def lone_data_protection(s: Settings, database: Database, clock: Clock, keys: DataKeys) -> DataProtection:
    """Of a command, without an engine."""
    pseudonyms = pseudonyms_by(s, keys)
    audit = AuditLog(database, clock, pseudonyms)
    user_keys = UserKeys(database, keys.sealer(USERS))
    sealing = Sealing(user_keys)
    others: list[PersonalData] = [
        FeedbackStore(database, clock, sealing, keys.sealer(EVENTS)),
        History(database),
        Preferences(database, audit),
        Tickets(database),
        Endpoints(database, keys.sealer(WEBHOOKS)),
        ApiKeys(database, audit, pseudonyms.of),
        TemplateDocuments(database, pseudonyms.of),
        Types(database, pseudonyms.of),
    ]
    suppressions = Suppressions(database, audit, keys.sealer(SUPPRESSIONS))
    stores = Personal(audit, Attachments(database), suppressions, sealing, user_keys, pseudonyms, others)
    return data_protection(s, database, clock, stores)[0]


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


def email_providers(s: Settings, session: Session) -> list[EmailProvider]:
    """In the order in which they are asked; the guide's `EMAIL_PROVIDER`."""
    auto = s.EMAIL_PROVIDER == "auto"
    providers: list[EmailProvider] = []
    if s.EMAIL_PROVIDER == "sendgrid" or (auto and s.SENDGRID_API_KEY):
        providers.append(_sendgrid(s, session))
    if s.EMAIL_PROVIDER == "ses" or (auto and s.SES_FROM_EMAIL):
        providers.append(_ses(s))
    if s.EMAIL_PROVIDER == "smtp" or (auto and s.SMTP_HOST):
        providers.append(_smtp(s))
    if s.EMAIL_PROVIDER == "console" or (auto and not providers and s.development):
        providers.append(ConsoleProvider(s.SMTP_FROM_EMAIL or CONSOLE_SENDER, s.SENDGRID_FROM_NAME))
    return providers


def _sendgrid(s: Settings, session: Session) -> EmailProvider:
    config = SendGridConfig(
        api_key=_revealed(s.SENDGRID_API_KEY) or "",
        sender=s.SENDGRID_FROM_EMAIL or "",
        sender_name=s.SENDGRID_FROM_NAME,
        base_url=s.SENDGRID_BASE_URL,
    )
    return SendGridProvider(session, config)


def _ses(s: Settings) -> EmailProvider:
    from notification_engine.channels.email.ses import SesConfig, SesProvider  # heavy: only where SES is configured

    return SesProvider(
        SesConfig(
            region=s.AWS_REGION,
            sender=s.SES_FROM_EMAIL or "",
            sender_name=s.SENDGRID_FROM_NAME,
            access_key_id=_revealed(s.AWS_ACCESS_KEY_ID),
            secret_access_key=_revealed(s.AWS_SECRET_ACCESS_KEY),
            endpoint_url=s.SES_ENDPOINT_URL,
            configuration_set=s.SES_CONFIGURATION_SET,
            read_seconds=s.EMAIL_TIMEOUT_SECONDS,
        )
    )


def _smtp(s: Settings) -> EmailProvider:
    config = SmtpConfig(
        host=s.SMTP_HOST or "",
        port=s.SMTP_PORT,
        username=s.SMTP_USERNAME,
        password=_revealed(s.SMTP_PASSWORD),
        starttls=s.SMTP_STARTTLS,
        sender=s.SMTP_FROM_EMAIL or "",
        sender_name=s.SENDGRID_FROM_NAME,
    )
    return SmtpProvider(config)


def _revealed(secret: SecretStr | None) -> str | None:
    return secret.get_secret_value() if secret else None


def key_wrappers(s: Settings) -> list[KeyWrapper]:
    """Every master key that the settings name, the one that wraps first; the others open what they wrapped."""
    wrappers: dict[str, KeyWrapper] = {"local": LocalKeys(s.field_key, s.former_field_keys)}
    if s.AWS_KMS_KEY_ID:
        from notification_engine.net.aws import AwsAccess, KmsKeys  # heavy: only where KMS is configured

        ids = _revealed(s.AWS_ACCESS_KEY_ID), _revealed(s.AWS_SECRET_ACCESS_KEY)
        access = AwsAccess(s.AWS_REGION, *ids, s.AWS_KMS_ENDPOINT_URL)
        wrappers["aws_kms"] = KmsKeys(s.AWS_KMS_KEY_ID, access, previous=s.AWS_KMS_KEY_ID_PREVIOUS)
    if s.VAULT_ADDR and s.VAULT_TRANSIT_KEY:
        from notification_engine.net.vault import Vault, VaultKeys  # as little used

        vault = Vault(s.VAULT_ADDR, _revealed(s.VAULT_TOKEN) or "", namespace=s.VAULT_NAMESPACE)
        wrappers["vault"] = VaultKeys(vault, s.VAULT_TRANSIT_MOUNT, s.VAULT_TRANSIT_KEY)
    first = wrappers.pop(s.MASTER_KEY_PROVIDER)
    return [first, *wrappers.values()]


def retry_policies(s: Settings) -> dict[Channel, RetryPolicy]:
    ours = RetryPolicy(s.NOTIFICATION_RETRY_MAX_ATTEMPTS, s.NOTIFICATION_RETRY_DELAY_SECONDS)
    webhook = RetryPolicy(s.WEBHOOK_MAX_RETRIES + 1, s.WEBHOOK_RETRY_DELAY_SECONDS)
    return {channel: webhook if channel is Channel.WEBHOOK else ours for channel in Channel}
