"""The platform's public keys, from its JWKS address (RFC 7517): kept, renewed, and asked for again when one is missing.

Invariants: only keys that fit the pinned algorithm are ever held, and only their public members; whatever tokens name,
the address is asked at most once in `SPACE_SECONDS`, by one request at a time; while it does not answer, the known keys
stay in use, and no longer than `KEPT_SECONDS` after they were last read.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, Key, OKPKey, RSAKey

from notification_engine.domain.errors import Unavailable
from notification_engine.kit.logging import get_logger
from notification_engine.kit.loop import Loop

RENEW_SECONDS = 300.0
RETRY_SECONDS = 15.0
SPACE_SECONDS = 10.0
PATIENCE_SECONDS = 2.0  # how long a request waits for a key that it is the first to name
KEPT_SECONDS = 24 * 3600.0
MAX_KEYS = 100
MAX_KID = 256
MIN_RSA_BITS, MAX_RSA_BITS = 2048, 8192
_MEMBERS: dict[str, tuple[type[RSAKey] | type[ECKey] | type[OKPKey], dict[str, str], tuple[str, ...]]] = {
    "RS256": (RSAKey, {"kty": "RSA"}, ("kty", "n", "e")),
    "ES256": (ECKey, {"kty": "EC", "crv": "P-256"}, ("kty", "crv", "x", "y")),
    "EdDSA": (OKPKey, {"kty": "OKP", "crv": "Ed25519"}, ("kty", "crv", "x")),
}

log = get_logger("api")


class KeyRing(Loop):
    """`fetch` reads the document and raises Unavailable. `generation` changes with the keys."""

    name = "signing-keys"

    def __init__(
        self,
        fetch: Callable[[], Awaitable[bytes]],
        algorithm: str,
        *,
        space_seconds: float = SPACE_SECONDS,
        kept_seconds: float = KEPT_SECONDS,
    ) -> None:
        super().__init__(RENEW_SECONDS)
        self._fetch = fetch
        self._algorithm = algorithm
        self._space_seconds = space_seconds
        self._kept_seconds = kept_seconds
        self._keys: dict[str, Key] = {}
        self._document: bytes | None = None
        self._read_at = self._asked_at = float("-inf")
        self._asking: asyncio.Task[None] | None = None
        self.generation = 0

    def find(self, kid: str | None) -> Key | None:
        """Without a `kid`: the key, if there is only one. Raises Unavailable while none may be used."""
        if time.monotonic() - self._read_at > self._kept_seconds:
            raise Unavailable("The keys that tokens are checked with cannot be read.", retry_after=5)
        if kid is None:
            return next(iter(self._keys.values())) if len(self._keys) == 1 else None
        return self._keys.get(kid)

    async def seek(self) -> bool:
        """Asks for the keys anew because one was not known, or joins who asks already. False: nothing came, in time or
        because it was asked just now."""
        if self._asking is None and time.monotonic() - self._asked_at < self._space_seconds:
            return False
        before = self._read_at
        await asyncio.wait([self._ask()], timeout=PATIENCE_SECONDS)
        return self._read_at > before

    async def run_once(self) -> None:
        """Raises Unavailable, and comes again sooner then."""
        self.interval_seconds = RETRY_SECONDS
        await asyncio.shield(self._ask())
        self.interval_seconds = RENEW_SECONDS

    async def stop(self) -> None:
        await super().stop()
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.wait([self._asking])

    def _ask(self) -> asyncio.Task[None]:
        """The one request that is under way."""
        if self._asking is None:
            self._asked_at = time.monotonic()
            self._asking = asyncio.create_task(self._read(), name="signing-keys-asked")
            self._asking.add_done_callback(self._asked)
        return self._asking

    def _asked(self, task: asyncio.Task[None]) -> None:
        self._asking = None
        if not task.cancelled() and (error := task.exception()) is not None:
            log.warning("The signing keys could not be read; the known ones stay in use", error=str(error))

    async def _read(self) -> None:
        self._take(await self._fetch())

    def _take(self, document: bytes) -> None:
        """Raises Unavailable for what is no key set, or holds no key for this algorithm: a slip at the other side is
        no reason to refuse everybody."""
        keys = usable_keys(document, self._algorithm)
        if not keys:
            raise Unavailable(f"JWT_JWKS_URL: there is no key for {self._algorithm} in what was read.")
        if document != self._document:
            self._document, self._keys = document, keys
            self.generation += 1
        self._read_at = time.monotonic()


def usable_keys(document: bytes, algorithm: str) -> dict[str, Key]:
    """By `kid`; those that are for something else, broken or too weak are left out. Of two of one name, the first."""
    try:
        parsed = orjson.loads(document)
    except orjson.JSONDecodeError:
        raise Unavailable("JWT_JWKS_URL: what was read is not JSON.") from None
    listed = parsed.get("keys") if isinstance(parsed, dict) else None
    if not isinstance(listed, list):
        raise Unavailable("JWT_JWKS_URL: what was read is not a key set.")
    keys: dict[str, Key] = {}
    for one in listed[:MAX_KEYS]:
        key = _usable(one, algorithm) if isinstance(one, dict) else None
        if key is not None:
            keys.setdefault(one.get("kid", ""), key)
    return keys


def _usable(jwk: dict[str, Any], algorithm: str) -> Key | None:
    kind, needed, members = _MEMBERS[algorithm]
    fits = all(jwk.get(name) == value for name, value in needed.items())
    fits &= jwk.get("use", "sig") == "sig" and jwk.get("alg", algorithm) == algorithm
    operations, kid = jwk.get("key_ops", ["verify"]), jwk.get("kid", "")
    fits &= isinstance(operations, list) and "verify" in operations
    if not fits or not isinstance(kid, str) or len(kid) > MAX_KID:
        return None
    if not all(isinstance(jwk.get(name), str) for name in members):
        return None
    try:
        key = kind.import_key({name: jwk[name] for name in members})
        public = key.public_key
    except (JoseError, ValueError, TypeError, OverflowError):
        return None
    if isinstance(public, RSAPublicKey) and not MIN_RSA_BITS <= public.key_size <= MAX_RSA_BITS:
        return None
    return key
