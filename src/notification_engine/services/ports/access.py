"""Who may call: tokens, API keys, and what no longer opens anything."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from notification_engine.domain.api_key import ApiKey
from notification_engine.domain.caller import Caller, Role
from notification_engine.services.ports.paging import Page


class TokenVerifier(Protocol):
    """What was verified under another `generation` is to be verified again."""

    @property
    def generation(self) -> int: ...
    async def verified(self, token: str) -> Caller:
        """Raises Unauthenticated; Unavailable while there is nothing to verify with."""
        ...


class TokenIssuer(Protocol):
    def issue_own(
        self, sub: str, roles: Sequence[Role], seconds: float, *, key_id: str | None = None, types: Sequence[str] = ()
    ) -> str: ...


class ApiKeyHash(Protocol):
    def make(self) -> tuple[str, str, bytes]:
        """The id, the key, which is shown once, and its hash."""
        ...

    def read(self, credential: str) -> tuple[str, bytes] | None: ...
    def same(self, given: bytes, stored: bytes) -> bool: ...


class ApiKeyStore(Protocol):
    async def find(self, key_id: str) -> ApiKey | None:
        """Kept for a few seconds."""
        ...

    async def create(self, caller: Caller, key: ApiKey) -> None: ...
    async def revoke(self, caller: Caller, key_id: str) -> None: ...
    async def get(self, key_id: str) -> ApiKey: ...
    async def page(self, cursor: str | None, limit: int) -> Page: ...
    def used(self, key_id: str) -> None:
        """Noted; written later."""
        ...

    async def write_used(self) -> None: ...


class RevocationStore(Protocol):
    """What no longer opens anything although it has not expired."""

    def denies(self, caller: Caller) -> bool:
        """From memory."""
        ...

    async def revoke_token(self, token_id: str, expires_at: float) -> None: ...
    async def revoke_key(self, key_id: str, last_token_at: float) -> None: ...
    async def revoke_subject(self, sub: str) -> datetime: ...
    async def refresh(self) -> None: ...
