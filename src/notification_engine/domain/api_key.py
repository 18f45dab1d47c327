"""An API key: a caller without a login, with roles and types of its own, until it expires or is revoked."""

from dataclasses import dataclass, field
from datetime import datetime

from notification_engine.domain.caller import Role

PREFIX = "ne_live_"


def looks_like_key(credential: str) -> bool:
    """So that it is never tried as a JWT; none begins so, because its first letters are those of a JSON object."""
    return credential.startswith("ne_")


@dataclass(frozen=True, slots=True)
class ApiKey:
    """`sub` is whom it acts as: itself, unless it was made for a service that outlives its keys. `digest` is the keyed
    hash of the secret, and never shown."""

    id: str
    name: str
    sub: str
    roles: frozenset[Role]
    notification_types: tuple[str, ...]
    digest: bytes = field(repr=False)
    created_at: datetime
    created_by: str
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    last_used_at: datetime | None = None

    def alive(self, now: datetime) -> bool:
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)
