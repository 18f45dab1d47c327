"""Tokens: JWTs with one pinned algorithm; `exp` and `sub` are required (RFC 7519, RFC 8725, RFC 9068).

Two kinds, never mixed up. The platform's: the shared key, or the keys of a JWKS address, with the one algorithm of the
settings. The engine's own: HS256 with a key derived from JWT_SECRET_KEY for nothing else, an issuer and a `kid` of its
own; they are good here and nowhere else. Which kind a token claims to be chooses the only key that it is tried with.
"""

import base64
import time
from collections.abc import Sequence
from typing import Any, Protocol

import orjson
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from joserfc import jwt
from joserfc.errors import BadSignatureError, JoseError
from joserfc.jwk import Key, OctKey
from joserfc.jws import JWSRegistry

from notification_engine.domain.caller import Caller, Role, token_digest
from notification_engine.domain.errors import Unauthenticated, Unavailable
from notification_engine.kit.ids import new_ulid

SYMMETRIC = frozenset({"HS256", "HS384", "HS512"})
ASYMMETRIC = frozenset({"RS256", "ES256", "EdDSA"})
OWN = "notification-engine"  # issuer, audience and `kid` of the engine's own tokens
OWN_ALGORITHM = "HS256"
MAX_TOKEN = 8192
MAX_KID = 256
TYPES = frozenset({"jwt", "at+jwt", "application/jwt", "application/at+jwt"})
_REFUSED_HEADERS = frozenset({"crit", "b64", "jwk", "jku", "x5c", "x5u"})  # keys are ours, and nothing is critical


class UnknownKey(Unauthenticated):
    """The token names a key that is not known (any more, or yet)."""


class KeySource(Protocol):
    """The public keys of the platform. `generation` changes whenever they do."""

    generation: int

    def find(self, kid: str | None) -> Key | None:
        """Raises Unavailable while none was ever read, or none for too long."""
        ...

    async def seek(self) -> bool:
        """Whether there is anything new; bounded in time and number, whoever asks."""
        ...


class _Pinned(JWSRegistry):
    """Knows one algorithm. Without the library's advice on which to use: the operator has chosen."""

    max_header_length = 1024

    def __init__(self, algorithm: str) -> None:
        super().__init__(algorithms=[algorithm])
        self._only = algorithm

    def get_alg(self, name: str) -> Any:
        return self.algorithms[name] if name == self._only else super().get_alg(name)


class _Secret:
    """The shared key, and the one derived from it for the engine's own tokens."""

    def __init__(self, secret: str) -> None:
        self.shared = OctKey.import_key(secret.encode())
        self.own = OctKey.import_key(
            HKDF(SHA256(), 32, salt=None, info=b"notification-engine own tokens").derive(secret.encode())
        )


class Tokens:
    """`leeway` is for clocks that do not agree, in seconds. With `keys`, the algorithm is an asymmetric one."""

    def __init__(
        self,
        secret: str,
        algorithm: str,
        *,
        issuer: str | None = None,
        audience: str | None = None,
        leeway: int = 0,
        keys: KeySource | None = None,
    ) -> None:
        self._secret = _Secret(secret)
        self._former: list[tuple[float, _Secret]] = []
        self._renewals = 0
        self._algorithm = algorithm
        self._keys = keys
        self._issued_with = {"iss": issuer, "aud": audience}
        self._registry = _Pinned(algorithm)
        self._own_registry = _Pinned(OWN_ALGORITHM)
        self._claims = _registry(leeway, issuer, audience)
        self._own_claims = _registry(leeway, OWN, OWN)

    @property
    def generation(self) -> int:
        """What was verified under another one is to be verified again: another secret or key, or an overlap's end."""
        now = time.monotonic()
        ended = self._renewals - sum(until > now for until, _ in self._former)
        return self._renewals + ended + (self._keys.generation if self._keys else 0)

    def verify(self, token: str) -> Caller:
        """Raises Unauthenticated, its kind UnknownKey, or Unavailable while there are no keys; the text says which rule
        failed and nothing of the token."""
        try:
            header = _header(token)
            own = header.get("kid") == OWN
            if not own and header.get("alg") != self._algorithm:
                raise Unauthenticated("The token is not signed with the algorithm of this engine.")
            if not own and self._keys is not None:
                return self._caller(token, self._public_key(header.get("kid")), own=False)
            return self._by_secret(token, own=own)
        except (JoseError, ValueError, TypeError, OverflowError, RecursionError) as error:
            raise Unauthenticated(f"The token is not valid ({type(error).__name__}).") from error

    def renew(self, secret: str, overlap_seconds: float) -> None:
        """A new secret signs and verifies; the one before verifies for the time of the overlap."""
        self._former.append((time.monotonic() + overlap_seconds, self._secret))
        self._secret = _Secret(secret)
        self._renewals += 1

    async def verified(self, token: str) -> Caller:
        """As `verify`, after a look for a key that is not known."""
        try:
            return self.verify(token)
        except (UnknownKey, Unavailable):
            if self._keys is None or not await self._keys.seek():
                raise
        return self.verify(token)

    def issue(self, sub: str, roles: Sequence[Role], minutes: float) -> str:
        """A token as the platform would make it; where its keys are not ours to sign with, one of the engine's own."""
        if self._algorithm in ASYMMETRIC:
            return self.issue_own(sub, roles, minutes * 60)
        claims = _new_claims(sub, roles, minutes * 60) | {k: v for k, v in self._issued_with.items() if v is not None}
        header = {"alg": self._algorithm, "typ": "JWT"}
        return jwt.encode(header, claims, self._secret.shared, registry=self._registry)

    def issue_own(
        self, sub: str, roles: Sequence[Role], seconds: float, *, key_id: str | None = None, types: Sequence[str] = ()
    ) -> str:
        """For the holder of an API key: dies with the key, and sends only these types. Good for this engine alone,
        because nobody else would know of either."""
        claims = _new_claims(sub, roles, seconds) | {"iss": OWN, "aud": OWN}
        claims |= {"key": key_id, "types": list(types)} if key_id else {}
        header = {"alg": OWN_ALGORITHM, "typ": "JWT", "kid": OWN}
        return jwt.encode(header, claims, self._secret.own, registry=self._own_registry)

    def _by_secret(self, token: str, *, own: bool) -> Caller:
        """By the secret, or by one whose overlap has not ended."""
        now = time.monotonic()
        self._former = [(until, secret) for until, secret in self._former if until > now]
        for _, secret in reversed(self._former):
            try:
                return self._caller(token, secret.own if own else secret.shared, own=own)
            except BadSignatureError:
                continue
        return self._caller(token, self._secret.own if own else self._secret.shared, own=own)

    def _public_key(self, kid: str | None) -> Key:
        key = self._keys.find(kid) if self._keys is not None else None
        if key is None:
            raise UnknownKey("The token names a key that is not known.")
        return key

    def _caller(self, token: str, key: Key, *, own: bool) -> Caller:
        claims = jwt.decode(token, key, registry=self._own_registry if own else self._registry).claims
        (self._own_claims if own else self._claims).validate(claims)
        sub, roles, jti = claims["sub"], claims.get("roles", []), claims.get("jti")
        if not isinstance(sub, str) or not sub or "\0" in sub or not isinstance(roles, list):
            raise Unauthenticated("The token's `sub` must be a text and its `roles` a list.")
        sub.encode()  # a lone surrogate could not be stored or searched for
        known = {str(role) for role in Role}
        expires_at, issued_at = float(claims["exp"]), float(claims.get("iat") or 0)
        return Caller(
            sub,
            frozenset(Role(r) for r in roles if r in known),
            expires_at,
            token_id=token_digest(sub, jti, issued_at, expires_at),
            issued_at=issued_at,
            key_id=claims.get("key") if own else None,
            types=tuple(claims.get("types", ())) if own else (),
        )


def _registry(leeway: int, issuer: str | None, audience: str | None) -> jwt.JWTClaimsRegistry:
    required: dict[str, jwt.ClaimsOption] = {"exp": {"essential": True}, "sub": {"essential": True}}
    for name, value in (("iss", issuer), ("aud", audience)):
        if value is not None:
            required[name] = {"essential": True, "value": value}
    return jwt.JWTClaimsRegistry(None, leeway, **required)


def _new_claims(sub: str, roles: Sequence[Role], seconds: float) -> dict[str, Any]:
    now = int(time.time())
    return {"sub": sub, "roles": [str(r) for r in roles], "iat": now, "exp": now + int(seconds), "jti": new_ulid()}


def _header(token: str) -> dict[str, Any]:
    """What chooses the key, before anything is believed. Raises Unauthenticated and ValueError."""
    if len(token) > MAX_TOKEN or token.count(".") != 2:
        raise Unauthenticated("The token is not a JWT.")
    encoded = token.partition(".")[0].encode("ascii")
    header = orjson.loads(base64.urlsafe_b64decode(encoded + b"=" * (-len(encoded) % 4)))
    if not isinstance(header, dict) or not _REFUSED_HEADERS.isdisjoint(header):
        raise Unauthenticated("The token's header demands what is not done here.")
    kid, typ = header.get("kid", ""), header.get("typ", "JWT")
    if not isinstance(kid, str) or len(kid) > MAX_KID:
        raise Unauthenticated("The token's `kid` is not the name of a key.")
    if not isinstance(typ, str) or typ.lower() not in TYPES:
        raise Unauthenticated("The token's `typ` is not that of an access token.")
    return header
