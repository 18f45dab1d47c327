"""Tokens: JWTs with one pinned algorithm; `exp` and `sub` are required (RFC 7519, RFC 8725)."""

import time

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import OctKey

from notification_engine.domain.caller import Caller, Role
from notification_engine.domain.errors import Unauthenticated


class Tokens:
    def __init__(self, secret: str, algorithm: str) -> None:
        self._key = OctKey.import_key(secret.encode())
        self._algorithm = algorithm
        self._claims = jwt.JWTClaimsRegistry(exp={"essential": True}, sub={"essential": True}, leeway=0)

    def verify(self, token: str) -> Caller:
        """Raises Unauthenticated; the text says which rule failed and nothing of the token."""
        try:
            decoded = jwt.decode(token, self._key, algorithms=[self._algorithm])
            self._claims.validate(decoded.claims)
            sub, roles = decoded.claims["sub"], decoded.claims.get("roles", [])
            if not isinstance(sub, str) or not sub or "\0" in sub or not isinstance(roles, list):
                raise Unauthenticated("The token's `sub` must be a text and its `roles` a list.")
            sub.encode()  # a lone surrogate could not be stored or searched for
            known = {str(role) for role in Role}
            return Caller(sub, frozenset(Role(r) for r in roles if r in known), float(decoded.claims["exp"]))
        except (JoseError, ValueError, TypeError, OverflowError, RecursionError) as error:
            raise Unauthenticated(f"The token is not valid ({type(error).__name__}).") from error

    def issue(self, sub: str, roles: list[Role], minutes: float) -> str:
        now = int(time.time())
        claims = {"sub": sub, "roles": [str(r) for r in roles], "iat": now, "exp": now + int(minutes * 60)}
        return jwt.encode({"alg": self._algorithm, "typ": "JWT"}, claims, self._key, algorithms=[self._algorithm])
