"""Revocations: single tokens, all tokens of a subject made before a moment, and the tokens traded for an API key.

Invariant: what was revoked here is denied here at once; on the other replicas as soon as the bus says so, or else with
the next poll. All that is in force is held in memory, so that asking costs nothing; it is read whole before the first
request is served. Rows of tokens end with the tokens; those of subjects stay, under a hash of the subject.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from notification_engine.domain.caller import Caller, subject_digest
from notification_engine.storage.cached import Cached
from notification_engine.storage.connection import Database, Document, translated

LATE = timedelta(seconds=60)  # how much later than its stamp a row may become readable
MARGIN_SECONDS = 360.0  # beyond a token's end: more than the greatest leeway
PRUNE_SECONDS = 60.0
LAST_MOMENT = 253_402_300_799.0
KINDS = TOKEN, KEY, SUBJECT = "token", "key", "subject"


class Revocations(Cached):
    """Implements `services.ports.RevocationStore`. `on_revoked` is told after anything new came, `on_hint` when the bus
    says that there is something to read."""

    def __init__(self, database: Database) -> None:
        super().__init__()
        self._collection = database.collection("notification_revocations")
        self._majority = database.majority("notification_revocations")
        self._until: dict[str, float] = {}  # of tokens and keys, by id
        self._before: dict[str, float] = {}  # of subjects, by digest
        self._newest: datetime | None = None
        self._prune_at = 0.0
        self.on_revoked: Callable[[], None] = lambda: None
        self.on_hint: Callable[[], None] = lambda: None

    def denies(self, caller: Caller) -> bool:
        if self._until and (caller.token_id in self._until or caller.key_id in self._until):
            return True
        return bool(self._before) and caller.issued_at <= self._before.get(subject_digest(caller.sub), -1.0)

    async def revoke_token(self, token_id: str, expires_at: float) -> None:
        await self._add(token_id, TOKEN, expires_at)

    async def revoke_key(self, key_id: str, last_token_at: float) -> None:
        """`last_token_at`: when the last token that was traded for it ends."""
        await self._add(key_id, KEY, last_token_at)

    async def revoke_subject(self, sub: str) -> datetime:
        """All tokens that say they were issued until now. The moment that counts."""
        digest = subject_digest(sub)
        await self._add(digest, SUBJECT, None)
        return datetime.fromtimestamp(self._before[digest], UTC)

    async def refresh(self) -> None:
        """Reads what is new since the newest that is known; all, the first time."""
        since: dict[str, Any] = {} if self._newest is None else {"created_at": {"$gte": self._newest - LATE}}
        with translated():
            rows = [row async for row in self._majority.find(since)]
        if sum(self._take(row) for row in rows):  # each is taken
            self.on_revoked()
        self._prune()

    async def _add(self, row_id: str, kind: str, expires_at: float | None) -> None:
        """Stamped with the server's time, so that readers can go on from where they were."""
        values: dict[str, Any] = {"kind": kind, "created_at": "$$NOW"}
        if expires_at is not None:
            last = min(expires_at + MARGIN_SECONDS, LAST_MOMENT)  # a token may say that it ends when no date does
            values["expires_at"] = datetime.fromtimestamp(last, UTC)
        with translated():
            await self._collection.update_one({"_id": row_id}, [{"$set": values}], upsert=True)
            row = await self._collection.find_one({"_id": row_id})
        if row is not None and self._take(row):
            self.on_revoked()
        self.on_change(row_id)

    def _take(self, row: Document) -> bool:
        """True for what was not known."""
        created_at: datetime = row["created_at"]
        self._newest = max(created_at, self._newest or created_at)
        if row["kind"] == SUBJECT:
            before = created_at.timestamp()
            new = before > self._before.get(row["_id"], -1.0)
            self._before[row["_id"]] = max(before, self._before.get(row["_id"], -1.0))
        else:
            new = row["_id"] not in self._until
            self._until[row["_id"]] = row["expires_at"].timestamp()
        return new

    def _prune(self) -> None:
        now = time.time()
        if now >= self._prune_at:
            self._prune_at = now + PRUNE_SECONDS
            self._until = {row_id: until for row_id, until in self._until.items() if until > now}

    def _drop(self, key: str) -> None:
        """Heard from another replica: the database says what."""
        self.on_hint()
