"""Who calls: the subject of a token and its roles. A mandatory argument wherever ownership matters."""

import hashlib
from dataclasses import dataclass, field
from enum import StrEnum

from notification_engine.domain.preference import matches


class Role(StrEnum):
    USER = "user"
    SERVICE = "service"
    OPERATOR = "operator"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Caller:
    """`token_id`, `issued_at` and `key_id` are what a revocation names; they are no part of who somebody is. `types`:
    the patterns that an API key may send; none means all."""

    sub: str
    roles: frozenset[Role]
    expires_at: float  # seconds since the epoch
    token_id: str | None = field(default=None, compare=False)
    issued_at: float = field(default=0.0, compare=False)
    key_id: str | None = field(default=None, compare=False)
    types: tuple[str, ...] = field(default=(), compare=False)

    def may(self, *roles: Role) -> bool:
        """Whether the caller has one of these roles; admin has all."""
        return Role.ADMIN in self.roles or any(role in self.roles for role in roles)

    def may_send(self, notification_type: str) -> bool:
        return not self.types or any(matches(pattern, notification_type) for pattern in self.types)


def subject_digest(sub: str) -> str:
    """What stands for a subject where it must not be readable: in revocations, which outlive the person's data."""
    return hashlib.sha256(f"subject\0{sub}".encode()).hexdigest()[:40]


def token_digest(sub: str, jti: str | None, issued_at: float, expires_at: float) -> str:
    """A token's name: by its `jti`, or by whose it is and when it was made. Never by its text, which can be spelt in
    several ways (padding bits of base64, the two signatures of ECDSA)."""
    own = f"jti\0{jti}" if jti is not None else f"times\0{issued_at}\0{expires_at}"
    return hashlib.sha256(f"{sub}\0{own}".encode()).hexdigest()[:40]
