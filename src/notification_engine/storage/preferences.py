"""Preferences: one document a user. Reads are batched and kept for a few seconds; a write here is seen here at once."""

import time
from collections import OrderedDict
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from notification_engine.domain.caller import Caller, Role
from notification_engine.domain.delivery import Channel
from notification_engine.domain.errors import NotFound, Unavailable
from notification_engine.domain.preference import Preference
from notification_engine.kit.batching import Batcher, QueueFull
from notification_engine.storage.audit import AuditLog
from notification_engine.storage.cached import Cached
from notification_engine.storage.connection import Database, Document, Session, translated
from notification_engine.storage.personal import shown

CACHE_SECONDS = 5.0
CACHE_USERS = 100_000


class Preferences(Cached):
    """Implements `services.ports.PreferenceStore`, and `PersonalData`."""

    collection = "notification_preferences"

    def __init__(self, database: Database, audit: AuditLog) -> None:
        super().__init__()
        self._database = database
        self._audit = audit
        self._collection = database.collection("notification_preferences")
        self._cache: OrderedDict[str, tuple[float, Preference]] = OrderedDict()
        self._loads: Batcher[str, Preference] = Batcher(self._load, max_batch=1000, max_waiting=20_000, concurrency=2)

    async def get(self, user_id: str) -> Preference:
        [found] = await self.get_many([user_id])
        return found

    async def get_many(self, user_ids: Sequence[str]) -> list[Preference]:
        now = time.monotonic()
        found = {u: kept[1] for u in user_ids if (kept := self._cache.get(u)) is not None and kept[0] > now}
        missing = list({u: None for u in user_ids if u not in found})
        if missing:
            try:
                found |= dict(zip(missing, await self._loads.submit_many(missing), strict=True))
            except QueueFull as error:
                raise Unavailable("Too many requests wait for preferences.") from error
        return [found[user_id] for user_id in user_ids]

    async def put(self, caller: Caller, preference: Preference) -> Preference:
        """The owner's own, or another's by an operator; else NotFound."""
        if preference.user_id != caller.sub and not caller.may(Role.OPERATOR):
            raise NotFound("There is no such user.")
        types = [
            {"pattern": p, "channels": {str(c): on for c, on in channels.items()}}
            for p, channels in preference.types.items()
        ]
        update = [{"$set": {"mute": preference.mute, "types": {"$literal": types}, "updated_at": "$$NOW"}}]
        if preference.user_id == caller.sub:
            with translated():
                await self._collection.update_one({"user_id": preference.user_id}, update, upsert=True)
                stored = await self._collection.find_one({"user_id": preference.user_id})
        else:
            stored = await self._put_for(caller, preference.user_id, update)
        self.changed(preference.user_id)
        return _preference(stored) if stored else preference

    async def _put_for(self, caller: Caller, user_id: str, update: list[Document]) -> Document | None:
        """Another's, with its audit row."""
        own = {"user_id": user_id}

        async def work(session: Session) -> Document | None:
            known = await self._collection.find_one(own, session=session) or {}
            await self._collection.update_one(own, update, upsert=True, session=session)
            stored = await self._collection.find_one(own, session=session) or {}
            before, after = ({n: d[n] for n in ("mute", "types") if n in d} for d in (known, stored))
            action = "preferences.replace"
            await self._audit.append(
                caller, action, "preferences", subject=user_id, before=before, after=after, session=session
            )
            return stored

        return await self._database.transaction(work)

    async def switch_off(
        self, user_id: str, notification_type: str, channel: Channel, *, said_at: datetime | None = None
    ) -> bool:
        """The state and its audit row are one transaction; a repeated call changes nothing and is not audited."""
        caller = Caller(user_id, frozenset({Role.USER}), 0.0)
        update = _switched_off(notification_type, channel, said_at)

        async def work(session: Session) -> bool:
            result = await self._collection.update_one({"user_id": user_id}, update, upsert=True, session=session)
            changed = bool(result.modified_count or result.upserted_id)
            if changed:
                target = f"{notification_type} {channel}"
                await self._audit.append(caller, "preferences.unsubscribe", target, subject=user_id, session=session)
            return changed

        changed = await self._database.transaction(work)
        self.changed(user_id)
        return changed

    async def export(self, user_id: str) -> list[Document]:
        with translated():
            return [shown(d) async for d in self._collection.find({"user_id": user_id})]

    async def erase(self, user_id: str) -> int:
        with translated():
            removed = (await self._collection.delete_many({"user_id": user_id})).deleted_count
        self.changed(user_id)
        return removed

    def _drop(self, key: str) -> None:
        self._cache.pop(key, None)

    async def _load(self, user_ids: list[str]) -> Sequence[Preference | BaseException]:
        changes = self.changes
        with translated():
            found = self._collection.find({"user_id": {"$in": list(set(user_ids))}})
            by_user = {d["user_id"]: _preference(d) async for d in found}
        until = time.monotonic() + CACHE_SECONDS
        preferences = [by_user.get(user_id) or Preference(user_id) for user_id in user_ids]
        if changes != self.changes:
            return preferences  # one of them may be the older state
        for preference in preferences:
            self._cache[preference.user_id] = (until, preference)
            self._cache.move_to_end(preference.user_id)
        while len(self._cache) > CACHE_USERS:
            self._cache.popitem(last=False)
        return preferences


def _preference(document: Document) -> Preference:
    types = {t["pattern"]: {Channel(c): on for c, on in t["channels"].items()} for t in document.get("types", [])}
    return Preference(document["user_id"], document.get("mute", False), types, document.get("updated_at"))


def _switched_off(notification_type: str, channel: Channel, said_at: datetime | None) -> list[dict[str, Any]]:
    """Merges into the stored choices, on the server: another one that is made at the same moment is not lost."""
    types = {"$ifNull": ["$types", []]}
    off = {"pattern": {"$literal": notification_type}, "channels": {str(channel): False}}
    switched = {
        "$map": {
            "input": types,
            "as": "t",
            "in": {
                "$cond": [
                    {"$eq": ["$$t.pattern", {"$literal": notification_type}]},
                    {"$mergeObjects": ["$$t", {"channels": {"$mergeObjects": ["$$t.channels", off["channels"]]}}]},
                    "$$t",
                ]
            },
        }
    }
    known = {"$in": [{"$literal": notification_type}, {"$ifNull": ["$types.pattern", []]}]}
    merged = {"$cond": [known, switched, {"$concatArrays": [types, [off]]}]}
    later = {"$gt": ["$updated_at", {"$literal": said_at}]} if said_at else {"$literal": False}
    changes = {"$and": [{"$ne": [types, merged]}, {"$not": [later]}]}
    return [
        {"$set": {"_changes": changes}},
        {
            "$set": {
                "mute": {"$ifNull": ["$mute", False]},
                "types": {"$cond": ["$_changes", merged, types]},
                "updated_at": {"$cond": ["$_changes", "$$NOW", "$updated_at"]},
            }
        },
        {"$unset": "_changes"},
    ]
