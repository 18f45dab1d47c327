"""Who calls: the subject of a token and its roles. A mandatory argument wherever ownership matters."""

from dataclasses import dataclass
from enum import StrEnum


class Role(StrEnum):
    USER = "user"
    SERVICE = "service"
    OPERATOR = "operator"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Caller:
    sub: str
    roles: frozenset[Role]
    expires_at: float  # seconds since the epoch

    def may(self, *roles: Role) -> bool:
        """Whether the caller has one of these roles; admin has all."""
        return Role.ADMIN in self.roles or any(role in self.roles for role in roles)
