"""Who calls, what no longer opens anything, and the book of who was refused."""

from dataclasses import dataclass
from functools import partial

from notification_engine.net.jwks import fetch_keys
from notification_engine.net.session import Outbound
from notification_engine.realtime.hub import Hub
from notification_engine.security.api_keys import ApiKeyHash
from notification_engine.security.jwks import KeyRing
from notification_engine.security.tokens import Tokens
from notification_engine.services.access import Access
from notification_engine.services.access_watch import AccessWatch
from notification_engine.services.credentials import Credentials
from notification_engine.services.denials import Denials
from notification_engine.settings import Settings
from notification_engine.storage.data_keys import DERIVED
from notification_engine.wiring.roles import Process
from notification_engine.wiring.stores import Stores

MAX_REVOCATION_SECONDS = 5.0  # how late a revocation may come where the bus does not bring it


@dataclass(frozen=True, slots=True)
class Entrance:
    """`keys`: where the platform's public keys are fetched."""

    keys: KeyRing | None
    tokens: Tokens
    access: Access
    credentials: Credentials
    denials: Denials
    watch: AccessWatch


def build_entrance(s: Settings, process: Process, stores: Stores, providers_out: Outbound, hub: Hub) -> Entrance:
    """Revocations that come are told to the sockets of `hub` too."""
    keys = _key_ring(s, providers_out)
    tokens = _tokens(s, keys)
    hashing = ApiKeyHash(lambda: stores.data_keys.key(DERIVED).secret("api keys"))
    access = Access(tokens, hashing, stores.api_keys, stores.revocations, leeway_seconds=s.JWT_LEEWAY_SECONDS)
    credentials = Credentials(
        tokens,
        hashing,
        stores.api_keys,
        stores.revocations,
        stores.audit,
        token_minutes=s.JWT_ACCESS_TOKEN_EXPIRE_MINUTES,
    )
    denials = Denials(stores.audit, process.metrics.denied)
    interval = min(s.LIVE_POLL_SECONDS, MAX_REVOCATION_SECONDS)
    watch = AccessWatch(stores.revocations, stores.api_keys, denials, interval)
    stores.revocations.on_hint = watch.wake
    stores.revocations.on_revoked = lambda: hub.close_denied(access.denies)
    return Entrance(keys, tokens, access, credentials, denials, watch)


def _key_ring(s: Settings, providers_out: Outbound) -> KeyRing | None:
    if s.JWT_JWKS_URL is None:
        return None
    return KeyRing(partial(fetch_keys, providers_out.session, s.JWT_JWKS_URL), s.JWT_ALGORITHM)


def _tokens(s: Settings, keys: KeyRing | None) -> Tokens:
    return Tokens(
        s.jwt_secret,
        s.JWT_ALGORITHM,
        issuer=s.JWT_ISSUER,
        audience=s.JWT_AUDIENCE,
        leeway=s.JWT_LEEWAY_SECONDS,
        keys=keys,
    )
