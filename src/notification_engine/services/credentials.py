"""What is done with credentials: keys made, traded and revoked, tokens revoked by their holders and by an admin."""

import time
from collections.abc import Sequence
from datetime import datetime

from notification_engine.domain.api_key import ApiKey
from notification_engine.domain.caller import Caller, Role
from notification_engine.domain.errors import Conflict, Forbidden
from notification_engine.kit.clock import wall_now
from notification_engine.services.ports import ApiKeyHash, ApiKeyStore, AuditStore, RevocationStore, TokenIssuer


class Credentials:
    """`token_minutes`: the longest life of a token that a key is traded for."""

    def __init__(
        self,
        tokens: TokenIssuer,
        hashing: ApiKeyHash,
        keys: ApiKeyStore,
        revocations: RevocationStore,
        audit: AuditStore,
        *,
        token_minutes: float,
    ) -> None:
        self._tokens = tokens
        self._hashing = hashing
        self._keys = keys
        self._revocations = revocations
        self._audit = audit
        self._token_seconds = token_minutes * 60

    async def make_key(
        self,
        caller: Caller,
        *,
        name: str,
        roles: Sequence[Role],
        notification_types: Sequence[str],
        sub: str | None,
        expires_at: datetime | None,
    ) -> tuple[ApiKey, str]:
        """The key as it is kept, and its text, which nobody can show again."""
        key_id, text, digest = self._hashing.make()
        key = ApiKey(
            id=key_id,
            name=name,
            sub=sub or key_id,
            roles=frozenset(roles),
            notification_types=tuple(notification_types),
            digest=digest,
            created_at=wall_now(),
            created_by=caller.sub,
            expires_at=expires_at,
        )
        await self._keys.create(caller, key)
        return key, text

    async def revoke_key(self, caller: Caller, key_id: str) -> None:
        """And with it the tokens it was traded for. Raises NotFound."""
        await self._keys.revoke(caller, key_id)
        await self._revocations.revoke_key(key_id, time.time() + self._token_seconds)

    def trade(self, caller: Caller) -> tuple[str, int]:
        """A token with what the key has, and its life in seconds. Raises Forbidden for who did not come with a key."""
        if caller.key_id is None or caller.token_id is not None:
            raise Forbidden("Only an API key is traded for a token.")
        seconds = int(min(self._token_seconds, caller.expires_at - time.time()))
        token = self._tokens.issue_own(
            caller.sub, sorted(caller.roles), seconds, key_id=caller.key_id, types=caller.types
        )
        return token, seconds

    async def logout(self, caller: Caller) -> None:
        """Ends the token that was presented. Raises Conflict for a key, which an admin revokes."""
        if caller.token_id is None:
            raise Conflict("An API key does not log out; an admin revokes it.")
        await self._revocations.revoke_token(caller.token_id, caller.expires_at)

    async def revoke_tokens(self, caller: Caller, sub: str) -> datetime:
        """All of this subject's that were issued until the moment that is answered. Audited."""
        await self._audit.append(caller, "auth.revoke", sub, subject=sub)
        return await self._revocations.revoke_subject(sub)
