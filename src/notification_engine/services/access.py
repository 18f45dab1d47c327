"""Who calls: from a credential, a JWT or an API key, to the caller behind it.

Invariant: a credential that was verified before is not verified again for a while, but whether it has expired or was
revoked is asked each time, and costs microseconds.
"""

import hashlib
import time
from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, datetime

from notification_engine.domain.api_key import ApiKey, looks_like_key
from notification_engine.domain.caller import Caller
from notification_engine.domain.errors import Unauthenticated
from notification_engine.services.ports import ApiKeyHash, ApiKeyStore, RevocationStore, TokenVerifier

KNOWN = 10_000
KNOWN_SECONDS = 300.0
KEY_SECONDS = 5.0  # where an API key stands behind it: no longer than a key is kept after it was revoked unheard
MAX_CREDENTIAL = 8192


@dataclass(frozen=True, slots=True)
class _Known:
    caller: Caller
    until: float
    generation: int


class Access:
    """`leeway_seconds`: how long after its end a token is still taken, as when it was verified; what lives on a
    connection ends at the end itself. `size` bounds the credentials that are remembered, under their hashes only."""

    def __init__(
        self,
        tokens: TokenVerifier,
        hashing: ApiKeyHash,
        keys: ApiKeyStore,
        revocations: RevocationStore,
        *,
        leeway_seconds: float = 0.0,
        size: int = KNOWN,
    ) -> None:
        self._tokens = tokens
        self._hashing = hashing
        self._keys = keys
        self._revocations = revocations
        self._leeway_seconds = leeway_seconds
        self._size = size
        self._known: OrderedDict[bytes, _Known] = OrderedDict()

    async def caller(self, credential: str) -> Caller:
        """Raises Unauthenticated, and Unavailable while there is nothing to verify with."""
        if len(credential) > MAX_CREDENTIAL:
            raise Unauthenticated("The token is too long.")
        name = hashlib.sha256(credential.encode("utf-8", "surrogatepass")).digest()
        known, now = self._known.get(name), time.monotonic()
        if known is None or known.until <= now or known.generation != self._tokens.generation:
            known = await self._verified(credential)
            self._known[name] = known
            while len(self._known) > self._size:
                self._known.popitem(last=False)
        self._known.move_to_end(name)
        caller = self.check(known.caller)
        if caller.key_id is not None:
            self._keys.used(caller.key_id)
        return caller

    def check(self, caller: Caller) -> Caller:
        """What must hold at every moment. Raises Unauthenticated."""
        leeway = self._leeway_seconds if caller.token_id is not None else 0.0
        if caller.expires_at + leeway <= time.time():
            raise Unauthenticated("The token is not valid (ExpiredTokenError).")
        if self.denies(caller):
            raise Unauthenticated("The token was revoked.")
        return caller

    def denies(self, caller: Caller) -> bool:
        return self._revocations.denies(caller)

    async def _verified(self, credential: str) -> _Known:
        generation, seconds = self._tokens.generation, KEY_SECONDS
        if looks_like_key(credential):
            caller = await self._of_key(credential)
        else:
            caller = await self._tokens.verified(credential)
            generation = self._tokens.generation  # verifying may have brought new keys
            if caller.key_id is None:
                seconds = KNOWN_SECONDS
            elif _dead(await self._keys.find(caller.key_id)):
                raise Unauthenticated("The token's API key was revoked or has expired.")
        return _Known(caller, time.monotonic() + seconds, generation)

    async def _of_key(self, credential: str) -> Caller:
        """One answer for a key that nobody has, one with another secret, and one that is no longer good."""
        named = self._hashing.read(credential)
        key = await self._keys.find(named[0]) if named else None
        same = named is not None and self._hashing.same(named[1], key.digest if key else bytes(32))
        if key is None or not same or _dead(key):
            raise Unauthenticated("The API key is not valid.")
        return Caller(
            key.sub,
            key.roles,
            key.expires_at.timestamp() if key.expires_at else float("inf"),
            issued_at=float("inf"),
            key_id=key.id,
            types=key.notification_types,
        )


def _dead(key: ApiKey | None) -> bool:
    return key is None or not key.alive(datetime.now(UTC))
