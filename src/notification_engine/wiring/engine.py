"""The engine: one process's whole, from its settings.

Order of life: `start` (database, migrations, loops), `drain` (readiness off, sockets closed, lanes emptied), `stop`.
"""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from aiohttp.abc import AbstractResolver
from fastapi import FastAPI

from notification_engine.api.app import create_app
from notification_engine.domain.errors import ConfigurationError, Unavailable
from notification_engine.health.group import Group
from notification_engine.kit.logging import get_logger
from notification_engine.net.fetch import Fetcher
from notification_engine.net.secret_refresh import SecretRefresh
from notification_engine.settings import Settings
from notification_engine.storage.migrations import migrate
from notification_engine.wiring.controller import api_services
from notification_engine.wiring.life import DRAIN_MARGIN_SECONDS, open_traces, until_primary
from notification_engine.wiring.loops import Loops, build_loops
from notification_engine.wiring.parts import Parts, assemble
from notification_engine.wiring.renewal import Renewal
from notification_engine.wiring.roles import EngineRole, this_process

if TYPE_CHECKING:
    from notification_engine.wiring.traces import Traces

log = get_logger("engine")


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
        process = this_process(settings, role, exclusive=exclusive, group=group)
        parts = assemble(settings, url, process, sweep=self._sweep, fetcher=fetcher, resolver=resolver)
        loops = build_loops(settings, parts)
        self.parts = parts
        self._renewal = Renewal(settings, parts)
        self._traces: Traces | None = None
        self._name(parts, loops)
        self._loops = list(loops.all)
        if settings.SECRETS_REFRESH_SECONDS and settings.sources.names:
            self._loops.append(self._refresh())
        services = api_services(settings, parts, loops.health)
        self.app: FastAPI = create_app(services, only_health=role is EngineRole.DAEMON)

    def _name(self, parts: Parts, loops: Loops) -> None:
        """What is asked for by name, here and by who holds an engine."""
        process, stores, delivery = parts.process, parts.stores, parts.delivery
        self.replica, self.clock, self.metrics = process.replica, process.clock, process.metrics
        self.bus, self.wake, self._invalidation = parts.signals.bus, parts.signals.wake, parts.signals.invalidation
        self.database, self.data_keys, self.user_keys = stores.database, stores.data_keys, stores.user_keys
        self.sealing, self.pseudonyms, self.audit = stores.sealing, stores.pseudonyms, stores.audit
        self.notifications, self.history, self.attachments = stores.notifications, stores.history, stores.attachments
        self.preferences, self.suppressions, self.endpoints = stores.preferences, stores.suppressions, stores.endpoints
        self.revocations, self._books, self._reports = stores.revocations, stores.books, stores.reports
        self.pool, self.renderer = parts.content.pool, parts.content.renderer
        self.templates, self.catalogue = parts.content.templates, parts.content.catalogue
        self.email, self.webhook, self.senders = parts.channels.email, parts.channels.webhook, parts.channels.senders
        self.unsubscribe_tokens = parts.channels.unsubscribe_tokens
        self.hub, self.ledger, self._announce = delivery.hub, delivery.ledger, delivery.announce
        self.feedback, self.intake, self.dispatcher = delivery.feedback, delivery.intake, delivery.dispatcher
        self.data_protection, self.erasures = parts.data_protection, parts.erasures
        self.tokens, self._access_watch = parts.entrance.tokens, parts.entrance.watch
        self.health, self.sweeper, self._checks = loops.health, loops.sweeper, loops.checks

    @property
    def settings(self) -> Settings:
        """With the secrets as they are now."""
        return self._renewal.settings

    async def start(self) -> None:
        """Raises ConfigurationError when no primary of a replica set answers in time."""
        self._traces = await open_traces(self.settings, self.replica)
        await until_primary(self.database, self.clock)
        if ran := await migrate(self.database):
            log.info("Migrations were run", migrations=ran)
        await self._open_keys()
        if self.parts.process.exclusive and (freed := await self.notifications.free_all()):
            log.info("Leases of a process that ended are free again", count=freed)
        await self.revocations.refresh()
        await self.parts.signals.start()
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
        await self.parts.signals.stop()
        await self.email.close()
        await self.pool.close()
        await self.parts.out.close()
        await self.data_keys.close()
        await self.database.close()
        if self._traces is not None:
            await self._traces.close()

    def _refresh(self) -> SecretRefresh:
        return self._renewal.loop()

    def _sweep(self) -> None:
        if self.sweeper is not None:
            self.sweeper.wake()
