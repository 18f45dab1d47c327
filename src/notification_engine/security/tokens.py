"""Tokens: JWTs with one pinned algorithm; `exp` and `sub` are required (RFC 7519, RFC 8725)."""

import time

from joserfc import jwt
from joserfc.errors import BadSignatureError, JoseError
from joserfc.jwk import OctKey

from notification_engine.domain.caller import Caller, Role
from notification_engine.domain.errors import Unauthenticated


class Tokens:
    def __init__(self, secret: str, algorithm: str) -> None:
        self._key = OctKey.import_key(secret.encode())
        self._former: list[tuple[float, OctKey]] = []
        self._algorithm = algorithm
        self._claims = jwt.JWTClaimsRegistry(exp={"essential": True}, sub={"essential": True}, leeway=0)

    def verify(self, token: str) -> Caller:
        """Raises Unauthenticated; the text says which rule failed and nothing of the token."""
        try:
            decoded = self._decode(token)
            self._claims.validate(decoded.claims)
            sub, roles = decoded.claims["sub"], decoded.claims.get("roles", [])
            if not isinstance(sub, str) or not sub or "\0" in sub or not isinstance(roles, list):
                raise Unauthenticated("The token's `sub` must be a text and its `roles` a list.")
            sub.encode()  # a lone surrogate could not be stored or searched for
            known = {str(role) for role in Role}
            return Caller(sub, frozenset(Role(r) for r in roles if r in known), float(decoded.claims["exp"]))
        except (JoseError, ValueError, TypeError, OverflowError, RecursionError) as error:
            raise Unauthenticated(f"The token is not valid ({type(error).__name__}).") from error

    def renew(self, secret: str, overlap_seconds: float) -> None:
        """A new secret signs and verifies; the one before verifies for the time of the overlap."""
        self._former.append((time.monotonic() + overlap_seconds, self._key))
        self._key = OctKey.import_key(secret.encode())

    def _decode(self, token: str) -> jwt.Token:
        try:
            return jwt.decode(token, self._key, algorithms=[self._algorithm])
        except BadSignatureError:
            self._former = [(until, key) for until, key in self._former if until > time.monotonic()]
            for _, key in self._former:
                try:
                    return jwt.decode(token, key, algorithms=[self._algorithm])
                except BadSignatureError:
                    continue
            raise

    def issue(self, sub: str, roles: list[Role], minutes: float) -> str:
        now = int(time.time())
        claims = {"sub": sub, "roles": [str(r) for r in roles], "iat": now, "exp": now + int(minutes * 60)}
        return jwt.encode({"alg": self._algorithm, "typ": "JWT"}, claims, self._key, algorithms=[self._algorithm])
