"""The channels, and the ways out of the house that they and the rest may use. A new channel is a line here."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from aiohttp.abc import AbstractResolver

from notification_engine.api.app import PREFIX
from notification_engine.channels.email.attachments import Attacher
from notification_engine.channels.email.channel import EmailChannel
from notification_engine.channels.in_app import InAppChannel
from notification_engine.channels.webhook import WebhookChannel
from notification_engine.domain.delivery import Channel
from notification_engine.domain.outcome import Message
from notification_engine.net.fetch import Fetcher
from notification_engine.net.guard import Guard
from notification_engine.net.session import Outbound
from notification_engine.rendering.email import EmailRenderer
from notification_engine.security.unsubscribe import UnsubscribeTokens
from notification_engine.services.ports import Sender
from notification_engine.settings import Settings
from notification_engine.storage.breakers import Breakers
from notification_engine.storage.data_keys import DERIVED, DataKeys
from notification_engine.wiring.content import Content
from notification_engine.wiring.providers import relays
from notification_engine.wiring.stores import Stores


@dataclass(frozen=True, slots=True)
class WaysOut:
    """`callers`: to addresses that callers name, guarded. `providers`: to those that the settings name. `aws`: for
    SNS's certificates, asked by `fetcher`."""

    guard: Guard
    callers: Outbound
    providers: Outbound
    aws: Outbound
    fetcher: Fetcher

    async def close(self) -> None:
        await self.callers.close()
        await self.providers.close()
        await self.aws.close()


@dataclass(frozen=True, slots=True)
class Channels:
    email: EmailChannel
    webhook: WebhookChannel
    senders: Mapping[Channel, Sender]
    unsubscribe_tokens: UnsubscribeTokens


def build_ways_out(s: Settings, *, fetcher: Fetcher | None, resolver: Callable[[], AbstractResolver] | None) -> WaysOut:
    guard = Guard(s.WEBHOOK_ALLOWED_NETWORKS, https_only=s.WEBHOOK_HTTPS_ONLY, ports=s.webhook_ports)
    aws = Outbound(Guard(ports=(443,)), limit=4)
    return WaysOut(guard, Outbound(guard, resolver=resolver), Outbound(None), aws, fetcher or Fetcher(aws.session))


def build_channels(s: Settings, stores: Stores, content: Content, out: WaysOut) -> Channels:
    tokens = _unsubscribe_tokens(s, stores.data_keys)
    email = EmailChannel(
        relays(s, out.providers.session, Breakers(stores.database)),
        Attacher(stores.attachments, out.callers.session),
        attempt_seconds=s.SMTP_TIMEOUT_SECONDS,
        render=EmailRenderer(content.templates, content.renderer).render,
        unsubscribe_url=_unsubscribe_url(s.PUBLIC_URL, tokens) if s.PUBLIC_URL else None,
    )
    webhook = WebhookChannel(out.callers.session, stores.endpoints, timeout_seconds=s.WEBHOOK_TIMEOUT_SECONDS)
    senders: dict[Channel, Sender] = {
        Channel.IN_APP: InAppChannel(),
        Channel.EMAIL: email,
        Channel.WEBHOOK: webhook,
    }
    return Channels(email, webhook, senders, tokens)


def _unsubscribe_tokens(s: Settings, keys: DataKeys) -> UnsubscribeTokens:
    return UnsubscribeTokens(late=lambda: (keys.key(DERIVED).secret("unsubscribe"), s.field_key, *s.former_field_keys))


def _unsubscribe_url(public_url: str, tokens: UnsubscribeTokens) -> Callable[[Message], str]:
    def of(message: Message) -> str:
        token = tokens.seal(message.user_id, message.notification_type, message.channel)
        return f"{public_url.rstrip('/')}{PREFIX}/unsubscribe/{token}"

    return of
