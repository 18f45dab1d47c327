"""The table of channels: what each is made of, and what its wire does in each situation. A new channel is one row."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import StrEnum

from tests.servers.tcp import Talk, TcpServer, closed_port, http, silent, smtp_until
from tests.unit.builders import AloneBreakers, a_message, an_endpoint, no_attacher

from notification_engine.channels.email.breaker import Breaker
from notification_engine.channels.email.bucket import TokenBucket
from notification_engine.channels.email.channel import EmailChannel, Relay
from notification_engine.channels.email.console import ConsoleProvider
from notification_engine.channels.email.provider import EmailProvider
from notification_engine.channels.email.sendgrid import SendGridConfig, SendGridProvider
from notification_engine.channels.email.ses import SesConfig, SesProvider
from notification_engine.channels.email.smtp import SmtpConfig, SmtpProvider
from notification_engine.channels.in_app import InAppChannel
from notification_engine.channels.webhook import WebhookChannel
from notification_engine.domain.breaker import BreakerPolicy
from notification_engine.domain.delivery import Channel
from notification_engine.domain.outcome import Message
from notification_engine.domain.webhook import WebhookEndpoint
from notification_engine.net.guard import Guard
from notification_engine.net.session import Outbound
from notification_engine.services.ports import Sender


class Situation(StrEnum):
    """The last three after the whole content was handed over."""

    SUCCESS = "success"
    REFUSED = "refused"
    NOBODY_THERE = "connection refused"
    CUT_AT_ONCE = "cut before anything was said"
    TIMEOUT = "no answer within the deadline"
    CUT_MID_ANSWER = "connection cut mid-answer"
    JUNK = "an answer that cannot be read"


S = Situation
NEVER_HANDED_OVER = frozenset({S.NOBODY_THERE, S.CUT_AT_ONCE})
Wire = Mapping[Situation, Talk | None]  # None: nobody listens


async def _hang_up(reader: object, writer: object) -> None: ...


NO_WIRE: Wire = {}
HTTP: Wire = {
    S.SUCCESS: http(b"HTTP/1.1 204 No Content\r\n\r\n"),
    S.REFUSED: http(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n"),
    S.NOBODY_THERE: None,
    S.CUT_AT_ONCE: _hang_up,
    S.TIMEOUT: silent,
    S.CUT_MID_ANSWER: http(b"HTTP/1.1 200 OK\r\ncontent-le"),
    S.JUNK: http(b"\x00\xffwhat?\r\n\r\n"),
}
HTTP_EMAIL: Wire = HTTP | {S.SUCCESS: http(b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n")}
AWS: Wire = HTTP | {
    S.SUCCESS: http(
        b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 19\r\n\r\n{"MessageId":"m-1"}'
    ),
    S.REFUSED: http(
        b"HTTP/1.1 400 Bad Request\r\nx-amzn-errortype: MessageRejected\r\ncontent-type: application/json\r\n"
        b"content-length: 2\r\n\r\n{}"
    ),
}
SMTP: Wire = {
    S.SUCCESS: smtp_until(b"QUIT", b"221 bye\r\n"),
    S.REFUSED: smtp_until(b".", b"554 5.7.1 no\r\n"),
    S.NOBODY_THERE: None,
    S.CUT_AT_ONCE: _hang_up,
    S.TIMEOUT: smtp_until(b".", b"", then_silent=True),
    S.CUT_MID_ANSWER: smtp_until(b".", b"25"),
    S.JUNK: smtp_until(b".", b"\x00\xffwhat?\r\n"),
}


@dataclass
class Place:
    """Where the wire of a situation is, and what a channel may need to get there."""

    port: int
    outbound: Outbound
    printed: list[str] = field(default_factory=list)
    closing: list[Callable[[], Awaitable[None]]] = field(default_factory=list)


@dataclass(frozen=True)
class Row:
    name: str
    channel: Channel
    wire: Wire
    make: Callable[[Place], Sender]
    endpoint: str | None = None
    definite: frozenset[Situation] = NEVER_HANDED_OVER  # where it knows that nothing was handed over

    def message(self, **fields: object) -> Message:
        return a_message(**{"channel": self.channel, "endpoint": self.endpoint} | fields)


class Endpoints:
    """An `EndpointStore` of one endpoint."""

    def __init__(self, url: str) -> None:
        self._endpoint = an_endpoint(url=url)

    async def enabled(self) -> list[WebhookEndpoint]:
        return [self._endpoint]

    async def find(self, endpoint_id: str) -> WebhookEndpoint | None:
        return self._endpoint if endpoint_id == self._endpoint.id else None

    async def disable(self, endpoint_id: str, reason: str) -> None:
        raise AssertionError("a channel answers; settle disables")


def _webhook(place: Place) -> Sender:
    endpoints = Endpoints(f"http://127.0.0.1:{place.port}/in")
    return WebhookChannel(place.outbound.session, endpoints, timeout_seconds=30)


def _email(provider: EmailProvider) -> Sender:
    breaker = Breaker(provider.name, BreakerPolicy(), AloneBreakers())
    return EmailChannel([Relay(provider, breaker, TokenBucket(0), 30)], no_attacher(), attempt_seconds=30)


def _console(place: Place) -> Sender:
    return _email(ConsoleProvider("engine@localhost", "Engine", place.printed.append))


def _smtp(place: Place) -> Sender:
    return _email(SmtpProvider(SmtpConfig("127.0.0.1", place.port, None, None, False, "engine@example.org", "Engine")))


def _sendgrid(place: Place) -> Sender:
    config = SendGridConfig("SG.key", "engine@example.org", "Engine", f"http://127.0.0.1:{place.port}")
    return _email(SendGridProvider(place.outbound.session, config))


def _ses(place: Place) -> Sender:
    """A client of its own, opened at the first call, ends with the place."""
    config = SesConfig("us-east-1", "engine@example.org", "Engine", "a", "b", f"http://127.0.0.1:{place.port}")
    provider = SesProvider(config)
    place.closing.append(provider.close)
    return _email(provider)


ROWS = [
    Row("in_app", Channel.IN_APP, NO_WIRE, lambda place: InAppChannel()),
    Row("email by console", Channel.EMAIL, NO_WIRE, _console, "ada@example.org"),
    Row("email by smtp", Channel.EMAIL, SMTP, _smtp, "ada@example.org"),
    Row("email by sendgrid", Channel.EMAIL, HTTP_EMAIL, _sendgrid, "ada@example.org", frozenset({S.NOBODY_THERE})),
    Row("email by ses", Channel.EMAIL, AWS, _ses, "ada@example.org", frozenset({S.NOBODY_THERE})),
    Row("webhook", Channel.WEBHOOK, HTTP, _webhook, "whk_1"),
]


@asynccontextmanager
async def there(talk: Talk | None) -> AsyncIterator[Place]:
    """The place where this is said; None: a port on which nobody listens."""
    outbound = Outbound(Guard(["127.0.0.0/8"], https_only=False))
    server = TcpServer(talk) if talk else None
    try:
        if server:
            await server.start()
        place = Place(server.port if server else await closed_port(), outbound)
        yield place
        for close in place.closing:
            await close()
    finally:
        await outbound.close()
        if server:
            await server.stop()
