"""Which e-mail providers the settings name, in the order in which they are asked."""

from notification_engine.channels.email.breaker import Breaker
from notification_engine.channels.email.bucket import TokenBucket
from notification_engine.channels.email.channel import Relay
from notification_engine.channels.email.console import ConsoleProvider
from notification_engine.channels.email.provider import EmailProvider
from notification_engine.channels.email.sendgrid import SendGridConfig, SendGridProvider
from notification_engine.channels.email.smtp import SmtpConfig, SmtpProvider
from notification_engine.domain.breaker import BreakerPolicy
from notification_engine.net.exchange import Session
from notification_engine.settings import Settings
from notification_engine.storage.breakers import Breakers
from notification_engine.wiring.keys import revealed

CONSOLE_SENDER = "notifications@localhost"


def relays(s: Settings, session: Session, store: Breakers) -> list[Relay]:
    """Each provider behind a breaker that the fleet shares and a bucket of this process."""
    per_second = {
        "sendgrid": s.SENDGRID_MAX_PER_SECOND,
        "ses": s.SES_MAX_PER_SECOND,
        "smtp": s.SMTP_MAX_PER_SECOND,
    }
    timeouts = dict.fromkeys(("sendgrid", "ses"), s.EMAIL_TIMEOUT_SECONDS)
    return [
        Relay(
            provider,
            Breaker(provider.name, BreakerPolicy(), store),
            TokenBucket(per_second.get(provider.name, 0.0)),
            timeouts.get(provider.name, s.SMTP_TIMEOUT_SECONDS),
        )
        for provider in email_providers(s, session)
    ]


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
        api_key=revealed(s.SENDGRID_API_KEY) or "",
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
            access_key_id=revealed(s.AWS_ACCESS_KEY_ID),
            secret_access_key=revealed(s.AWS_SECRET_ACCESS_KEY),
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
        password=revealed(s.SMTP_PASSWORD),
        starttls=s.SMTP_STARTTLS,
        sender=s.SMTP_FROM_EMAIL or "",
        sender_name=s.SENDGRID_FROM_NAME,
    )
    return SmtpProvider(config)
