"""Users' own keys (`notification_user_keys`): one a user, sealed with a data key, kept for a few seconds.

Invariant: a key is journaled by a majority before anything is sealed with it. Erasing a user deletes the key: what it
sealed is unreadable for ever, here at once, on the other replicas when they are told or `CACHE_SECONDS` later.
"""

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from pymongo.errors import BulkWriteError, PyMongoError

from notification_engine.domain.errors import Unavailable, Unreadable
from notification_engine.kit.batching import Batcher, QueueFull
from notification_engine.kit.logging import get_logger
from notification_engine.security.envelope import DataKey, Sealer
from notification_engine.storage.cached import Cached
from notification_engine.storage.connection import Database, Document, translated

CACHE_SECONDS = 30.0
MAX_CACHED = 50_000  # about 25 MB
ACCEPT_SECONDS = 10.0  # as for the notifications: how long an unknown fate is asked again
DUPLICATE_KEY = 11000

log = get_logger("engine")


class UserKeys(Cached):
    """Implements `services.ports.PersonalData`: a user's key tells nothing of the user, and its end shreds the rest."""

    collection = "notification_user_keys"

    def __init__(self, database: Database, sealer: Sealer) -> None:
        super().__init__()
        self._collection = database.collection(self.collection)
        self._majority = database.majority(self.collection)
        self._sealer = sealer
        self._cached: dict[str, tuple[float, DataKey]] = {}
        self._makes: Batcher[str, DataKey] = Batcher(self._make, max_batch=1000, max_waiting=100_000)
        self._loads: Batcher[str, DataKey | None] = Batcher(
            self._load, max_batch=1000, max_waiting=100_000, concurrency=2
        )

    async def ensure(self, user_ids: Iterable[str]) -> Mapping[str, DataKey]:
        """Their keys, made where there is none. Raises Unavailable: nothing may be sealed."""
        return await self._through(self._makes, set(user_ids))

    async def load(self, user_ids: Iterable[str]) -> Mapping[str, DataKey]:
        """Their keys; who has none, because it was deleted, is left out. Raises Unavailable."""
        return await self._through(self._loads, set(user_ids))

    async def export(self, user_id: str) -> list[dict[str, Any]]:
        return []

    async def erase(self, user_id: str) -> int:
        """How many keys were deleted. What waits to be accepted for the user at this moment may still be sealed with
        it, and is then as unreadable as the rest."""
        with translated():
            result = await self._collection.delete_one({"_id": user_id})
        self.changed(user_id)
        return result.deleted_count

    def _drop(self, key: str) -> None:
        if key:
            self._cached.pop(key, None)
        else:
            self._cached.clear()

    async def _through(
        self, batcher: "Batcher[str, DataKey] | Batcher[str, DataKey | None]", user_ids: set[str]
    ) -> Mapping[str, DataKey]:
        now = time.monotonic()
        kept = {i: found[1] for i in user_ids if (found := self._cached.get(i)) is not None and found[0] > now}
        asked = [i for i in user_ids if i not in kept]
        if not asked:
            return kept
        changes = self.changes
        try:
            answers = await batcher.submit_many(asked)
        except QueueFull as error:
            raise Unavailable("Too many wait for the users' keys.") from error
        fresh = {i: key for i, key in zip(asked, answers, strict=True) if key is not None}
        if changes == self.changes:
            self._keep(fresh)
        return kept | fresh

    def _keep(self, fresh: Mapping[str, DataKey]) -> None:
        until = time.monotonic() + CACHE_SECONDS
        for user_id, key in fresh.items():
            self._cached.pop(user_id, None)  # so that the order is that of the last read
            self._cached[user_id] = (until, key)
        while len(self._cached) > MAX_CACHED:
            self._cached.pop(next(iter(self._cached)), None)

    async def _load(self, user_ids: list[str]) -> Sequence[DataKey | BaseException | None]:
        with translated():
            found = await self._read(user_ids)
        return [found.get(i) for i in user_ids]

    async def _make(self, user_ids: list[str]) -> Sequence[DataKey | BaseException]:
        """Reads, then inserts what is missing; the same again while its fate is unknown. Whose insert meets that of
        another replica takes the other's."""
        until = time.monotonic() + ACCEPT_SECONDS
        pause = 0.02
        while True:
            try:
                async with asyncio.timeout_at(asyncio.get_running_loop().time() + until - time.monotonic()):
                    keys = await self._read(user_ids)
                    missing = [i for i in dict.fromkeys(user_ids) if i not in keys]
                    keys |= await self._insert(missing)
                if all(i in keys for i in user_ids):
                    return [keys[i] for i in user_ids]
                reason = "another replica's key is not committed yet"
            except (PyMongoError, TimeoutError) as error:
                reason = type(error).__name__
            if time.monotonic() + pause >= until:
                return [Unavailable(f"The users' keys were not written ({reason}).", retry_after=2)] * len(user_ids)
            await asyncio.sleep(pause)
            pause = min(pause * 2, 0.5)

    async def _read(self, user_ids: list[str]) -> dict[str, DataKey]:
        found = self._majority.find({"_id": {"$in": list(set(user_ids))}}, {"key": 1})
        keys = {document["_id"]: self._opened(document) async for document in found}
        return {user_id: key for user_id, key in keys.items() if key is not None}

    def _opened(self, document: Document) -> DataKey | None:
        try:
            return DataKey(self._sealer.open(document["key"], document["_id"]))
        except Unreadable:
            log.error("A user's key does not open; what it sealed is not readable", user_id=document["_id"])
            return None

    async def _insert(self, user_ids: list[str]) -> dict[str, DataKey]:
        """What was written; duplicates are left out, and read the next time."""
        if not user_ids:
            return {}
        keys, now = {user_id: DataKey.new() for user_id in user_ids}, datetime.now(UTC)
        documents = [
            {"_id": user_id, "key": self._sealer.seal(key.material, user_id), "created_at": now}
            for user_id, key in keys.items()
        ]
        try:
            await self._collection.insert_many(documents, ordered=False)
        except BulkWriteError as error:
            if error.details.get("writeConcernErrors"):
                raise
            for failed in error.details["writeErrors"]:
                if failed["code"] != DUPLICATE_KEY:
                    raise
                keys.pop(user_ids[failed["index"]])
        return keys
