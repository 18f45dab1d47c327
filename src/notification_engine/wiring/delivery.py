"""The use cases from accept to settle, and what tells of them."""

from dataclasses import dataclass

from notification_engine.daemon.dispatcher import Dispatcher
from notification_engine.domain.caller import Caller
from notification_engine.domain.delivery import Channel
from notification_engine.domain.retry import RetryPolicy
from notification_engine.health.ledger import Ledger
from notification_engine.realtime.hub import Hub
from notification_engine.services.announce import Announce
from notification_engine.services.content import Contents
from notification_engine.services.endpoint_watch import EndpointWatch
from notification_engine.services.feedback import Feedback
from notification_engine.services.intake import Intake
from notification_engine.services.requests import AcceptedEvent, NotificationRequest
from notification_engine.services.send import Send
from notification_engine.services.settle import Settle
from notification_engine.settings import Settings
from notification_engine.wiring.channels import Channels
from notification_engine.wiring.content import Content
from notification_engine.wiring.roles import Process
from notification_engine.wiring.signals import Signals
from notification_engine.wiring.stores import Stores

SETTLE_WAITERS = 100_000


@dataclass(frozen=True, slots=True)
class Delivery:
    """`dispatcher`: of a process that delivers."""

    hub: Hub
    ledger: Ledger
    announce: Announce
    feedback: Feedback
    dispatcher: Dispatcher | None
    intake: Intake


def build_delivery(
    s: Settings, process: Process, signals: Signals, stores: Stores, content: Content, channels: Channels
) -> Delivery:
    async def accept_own(caller: Caller, request: NotificationRequest) -> AcceptedEvent:
        """What the engine itself has to tell; bound late, because accepting needs the lanes that tell it."""
        return await intake.accept(caller, request, idempotency_key=None)

    hub = Hub(s.WEBSOCKET_MAX_CONNECTIONS, bus=signals.bus, inbox=stores.notifications, now=process.clock.now)
    ledger = Ledger(stores.books)
    announce = Announce(stores.history, process.metrics, ledger, process.clock)
    settle = _settle(s, process, stores, hub)
    watch = EndpointWatch(stores.endpoints, process.clock, accept_own)
    send = _send(s, process, stores, channels, settle, watch)
    dispatcher = _dispatcher(s, process, stores, channels, send, settle) if process.delivers else None
    intake = Intake(
        stores.notifications,
        stores.preferences,
        stores.endpoints,
        stores.attachments,
        content.catalogue,
        Contents(content.templates, content.renderer),
        process.clock,
        announce,
        hub,
        email_available=bool(channels.email.provider_names),
        handover=dispatcher,
        left_due=signals.wake.due,
    )
    return Delivery(hub, ledger, announce, _feedback(process, stores), dispatcher, intake)


def _settle(s: Settings, process: Process, stores: Stores, hub: Hub) -> Settle:
    return Settle(
        stores.notifications,
        stores.history,
        process.clock,
        process.metrics,
        hub,
        retry_policies(s),
        lease_seconds=s.LEASE_SECONDS,
        max_waiting=SETTLE_WAITERS,
    )


def _send(
    s: Settings, process: Process, stores: Stores, channels: Channels, settle: Settle, watch: EndpointWatch
) -> Send:
    return Send(
        channels.senders,
        settle,
        stores.notifications,
        stores.history,
        watch,
        stores.suppressions,
        process.clock,
        patience_seconds=s.LEASE_SECONDS,
        departed=stores.departed,
    )


def _dispatcher(
    s: Settings, process: Process, stores: Stores, channels: Channels, send: Send, settle: Settle
) -> Dispatcher:
    return Dispatcher(
        stores.notifications,
        send,
        settle,
        list(channels.senders),
        process.clock,
        owner=process.replica,
        lane_bound=s.NOTIFICATION_DAEMON_WORKERS * s.NOTIFICATION_DAEMON_BATCH_SIZE,
        queue_size=s.NOTIFICATION_QUEUE_SIZE,
        lease_seconds=s.LEASE_SECONDS,
        processing_timeout=s.NOTIFICATION_PROCESSING_TIMEOUT,
    )


def _feedback(process: Process, stores: Stores) -> Feedback:
    return Feedback(
        stores.events,
        stores.notifications,
        stores.history,
        stores.suppressions,
        stores.preferences,
        process.metrics,
        process.clock,
    )


def retry_policies(s: Settings) -> dict[Channel, RetryPolicy]:
    ours = RetryPolicy(s.NOTIFICATION_RETRY_MAX_ATTEMPTS, s.NOTIFICATION_RETRY_DELAY_SECONDS)
    webhook = RetryPolicy(s.WEBHOOK_MAX_RETRIES + 1, s.WEBHOOK_RETRY_DELAY_SECONDS)
    return {channel: webhook if channel is Channel.WEBHOOK else ours for channel in Channel}
