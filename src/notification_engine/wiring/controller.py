"""What the Notification Controller is handed."""

from importlib.metadata import version as package_version

from notification_engine.api.dependencies import ApiConfig, ApiServices, Callbacks
from notification_engine.health.probe import Health
from notification_engine.kit.clock import Clock
from notification_engine.net.fetch import Fetcher
from notification_engine.security.sendgrid import SendGridSignature
from notification_engine.security.sns import SnsSignature
from notification_engine.services.intervene import Intervene
from notification_engine.services.unsubscribe import Unsubscribe
from notification_engine.settings import Settings
from notification_engine.wiring.parts import Parts


def api_services(s: Settings, parts: Parts, health: Health) -> ApiServices:
    stores, delivery, entrance, content = parts.stores, parts.delivery, parts.entrance, parts.content
    return ApiServices(
        intake=delivery.intake,
        notifications=stores.notifications,
        history=stores.history,
        interventions=stores.interventions,
        intervene=Intervene(stores.interventions, parts.signals.wake.due),
        preferences=stores.preferences,
        suppressions=stores.suppressions,
        feedback=delivery.feedback,
        callbacks=_callbacks(s, parts.process.clock, parts.out.fetcher),
        unsubscribe=Unsubscribe(parts.channels.unsubscribe_tokens, stores.preferences, content.catalogue),
        endpoints=stores.endpoints,
        templates=content.templates,
        catalogue=content.catalogue,
        check_url=parts.out.guard.check_url,
        check_name=parts.out.callers.check_name,
        webhook=parts.channels.webhook,
        audit=stores.audit,
        data_protection=parts.data_protection,
        tickets=stores.tickets,
        tokens=entrance.tokens,
        access=entrance.access,
        credentials=entrance.credentials,
        api_keys=stores.api_keys,
        denials=entrance.denials,
        hub=delivery.hub,
        limits=parts.signals.limits,
        health=health,
        answered=parts.process.metrics.answered,
        config=_config(s),
    )


def _config(s: Settings) -> ApiConfig:
    return ApiConfig(
        version=package_version("notification-engine"),
        development=s.development,
        cors_origins=tuple(s.CORS_ORIGINS),
        cors_enabled=s.CORS_ENABLED,
        trusted_hosts=tuple(s.TRUSTED_HOSTS),
        trusted_proxies=tuple(s.TRUSTED_PROXIES),
        forwarded_header=s.FORWARDED_HEADER,
        traces=s.traces_endpoint is not None,
        max_in_flight=s.HTTP_MAX_IN_FLIGHT,
        heartbeat_seconds=s.WEBSOCKET_HEARTBEAT_INTERVAL,
        silence_seconds=s.WEBSOCKET_CONNECTION_TIMEOUT,
        token_minutes=s.JWT_ACCESS_TOKEN_EXPIRE_MINUTES,
    )


def _callbacks(s: Settings, clock: Clock, fetcher: Fetcher) -> Callbacks:
    key, topic = s.SENDGRID_WEBHOOK_PUBLIC_KEY, s.SES_SNS_TOPIC_ARN
    return Callbacks(
        clock=clock,
        confirm=fetcher.confirm,
        sendgrid=SendGridSignature(key) if key else None,
        ses=SnsSignature(topic, fetcher.certificate) if topic else None,
    )
