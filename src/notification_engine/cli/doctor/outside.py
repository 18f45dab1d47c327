"""Of what is outside: e-mail providers, without sending; the platform's keys; Redis; where webhooks may go."""

from notification_engine.channels.email.credentials import Tried
from notification_engine.cli.doctor.finding import Finding, fail, ok, warn
from notification_engine.domain.errors import InvalidRequest, Unavailable
from notification_engine.kit.ids import new_ulid
from notification_engine.net.guard import Guard
from notification_engine.net.jwks import fetch_keys
from notification_engine.net.session import Outbound
from notification_engine.realtime.redis_link import Link, LinkLost
from notification_engine.security.jwks import usable_keys
from notification_engine.settings import Settings
from notification_engine.wiring import email_providers

ANSWER_SECONDS = 10.0
METADATA = "169.254.169.254"
_INSIDE = {
    "loopback": "127.0.0.1",
    "10.0.0.0/8": "10.0.0.1",
    "172.16.0.0/12": "172.16.0.1",
    "192.168.0.0/16": "192.168.0.1",
}


async def look_at_email(settings: Settings) -> list[Finding]:
    out = Outbound(None)
    try:
        providers = email_providers(settings, out.session)
        if not providers:
            todo = "Set SENDGRID_API_KEY, SES_FROM_EMAIL or SMTP_HOST, if e-mail is to be sent."
            return [warn("e-mail", "no provider is set: every e-mail fails", todo)]
        found = []
        for provider in providers:
            tried = await provider.try_credentials(ANSWER_SECONDS)
            found.append(_of_provider(f"e-mail {provider.name}", tried))
            await provider.close()
        return found
    finally:
        await out.close()


def _of_provider(name: str, tried: Tried) -> Finding:
    if tried.ok:
        return ok(name, tried.seen)
    return (fail if tried.wrong else warn)(name, tried.seen, tried.todo)


async def look_at_signing_keys(settings: Settings) -> list[Finding]:
    """None where tokens are checked by JWT_SECRET_KEY."""
    if settings.JWT_JWKS_URL is None:
        return []
    name, out = "signing keys", Outbound(None)
    try:
        keys = usable_keys(await fetch_keys(out.session, settings.JWT_JWKS_URL), settings.JWT_ALGORITHM)
    except Unavailable as error:
        return [fail(name, str(error), "Check the address in a browser; without keys every token gets 503.")]
    finally:
        await out.close()
    if not keys:
        todo = "Let JWT_ALGORITHM be what the platform signs with."
        return [fail(name, f"JWT_JWKS_URL: no key for {settings.JWT_ALGORITHM}", todo)]
    return [ok(name, f"{len(keys)} for {settings.JWT_ALGORITHM}")]


async def look_at_redis(settings: Settings) -> Finding:
    """Everything that the bus does at its start, on channels of our own beside the bus's."""
    if (address := settings.redis_address) is None:
        return ok("redis", "not set: replicas meet by the database")
    link = Link(address, lambda _, __: None)
    try:
        await link.open(f"ne:{settings.MONGODB_DATABASE}:probe:{new_ulid()}:")
    except LinkLost as error:
        todo = "Check REDIS_URL, its user and ACL. Until then messages between replicas take the slower way."
        return fail("redis", str(error), todo)
    await link.close()
    return ok("redis", f"answers ({address.kind}{', TLS' if address.tls else ''})")


def look_at_guard(settings: Settings) -> list[Finding]:
    """By what it does: tried with addresses that nobody outside should make the engine call."""
    s, name = settings, "webhook guard"
    guard = Guard(s.WEBHOOK_ALLOWED_NETWORKS, https_only=s.WEBHOOK_HTTPS_ONLY)
    if _open(guard, METADATA):
        todo = "Take 169.254.0.0/16 out of WEBHOOK_ALLOWED_NETWORKS: it hands out the machine's credentials."
        return [fail(name, "webhooks may call the cloud's metadata service", todo)]
    if s.development:
        return [ok(name, "open as development wants it: loopback, http, every port")]
    found = []
    if opened := [network for network, address in _INSIDE.items() if _open(guard, address)]:
        todo = "Name only the networks of your receivers in WEBHOOK_ALLOWED_NETWORKS."
        found.append(warn(name, f"webhooks may call {', '.join(opened)}", todo))
    if not s.WEBHOOK_HTTPS_ONLY:
        found.append(warn(name, "webhooks may go over http", "Set WEBHOOK_HTTPS_ONLY=true."))
    if not s.webhook_ports:
        found.append(warn(name, "webhooks may call every port", "Set WEBHOOK_ALLOWED_PORTS."))
    return found or [ok(name, "https to public addresses and chosen networks only")]


def _open(guard: Guard, address: str) -> bool:
    try:
        guard.check_url(f"https://{address}/")
    except InvalidRequest:
        return False
    return True
