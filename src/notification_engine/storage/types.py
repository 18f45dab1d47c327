"""Notification types that operators changed or made. All of them are kept for a few seconds: they are few."""

import time
from collections.abc import Callable, Mapping

from notification_engine.domain.caller import Caller
from notification_engine.domain.delivery import Channel
from notification_engine.domain.errors import Conflict
from notification_engine.domain.notification import OnUnknown, Priority
from notification_engine.domain.notification_type import NotificationType
from notification_engine.kit.clock import wall_now
from notification_engine.kit.shared import Shared
from notification_engine.storage.cached import Cached
from notification_engine.storage.connection import Database, Document, translated
from notification_engine.storage.personal import nobody, shown

CACHE_SECONDS = 5.0
MAX_TYPES = 1000


class Types(Cached):
    """Implements `services.ports.TypeStore`, and `PersonalData`: who changed one."""

    collection = "notification_types"

    def __init__(self, database: Database, pseudonym: Callable[[str], str] = nobody) -> None:
        super().__init__()
        self._pseudonym = pseudonym
        self._collection = database.collection("notification_types")
        self._cached: dict[str, NotificationType] = {}
        self._cached_until = 0.0
        self._loading = Shared(self._load)

    async def overrides(self) -> Mapping[str, NotificationType]:
        while time.monotonic() > self._cached_until:  # again when a change came while the load was on its way
            await self._loading.get()
        return self._cached

    async def put(self, caller: Caller, changed: NotificationType) -> NotificationType:
        """Raises Conflict past `MAX_TYPES`."""
        now = wall_now()
        document = _document(changed) | {"updated_at": now, "updated_by": caller.sub}
        with translated():
            known = await self._collection.find_one({"_id": changed.name}, {"_id": 1})
            if known is None and await self._collection.count_documents({}) >= MAX_TYPES:
                raise Conflict(f"There are {MAX_TYPES} types already.")
            await self._collection.replace_one({"_id": changed.name}, document, upsert=True)
        self.changed(changed.name)
        return _type(document)

    async def delete(self, name: str) -> bool:
        with translated():
            result = await self._collection.delete_one({"_id": name})
        self.changed(name)
        return result.deleted_count == 1

    async def export(self, user_id: str) -> list[Document]:
        with translated():
            return [shown(d) async for d in self._collection.find({"updated_by": user_id})]

    async def erase(self, user_id: str) -> int:
        change = {"$set": {"updated_by": self._pseudonym(user_id)}}
        with translated():
            return (await self._collection.update_many({"updated_by": user_id}, change)).modified_count

    def _drop(self, key: str) -> None:
        self._cached_until = 0.0

    async def _load(self) -> None:
        changes = self.changes
        with translated():
            self._cached = {d["_id"]: _type(d) async for d in self._collection.find({})}
        if changes == self.changes:
            self._cached_until = time.monotonic() + CACHE_SECONDS


def _document(given: NotificationType) -> Document:
    return {
        "_id": given.name,
        "description": given.description,
        "channels": [str(c) for c in given.channels],
        "priority": str(given.priority),
        "on_unknown": given.on_unknown and str(given.on_unknown),
        "transactional": given.transactional,
        "template": given.template,
        "retention_days": given.retention_days,
        "sensitive": given.sensitive,
    }


def _type(document: Document) -> NotificationType:
    on_unknown = document["on_unknown"]
    return NotificationType(
        name=document["_id"],
        description=document["description"],
        channels=tuple(Channel(c) for c in document["channels"]),
        priority=Priority(document["priority"]),
        on_unknown=OnUnknown(on_unknown) if on_unknown else None,
        transactional=document["transactional"],
        template=document["template"],
        retention_days=document.get("retention_days"),
        overridden=True,
        updated_at=document["updated_at"],
        sensitive=document.get("sensitive", False),
    )
