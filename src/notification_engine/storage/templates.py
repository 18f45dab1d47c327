"""Templates: a head for each key (draft, current version) and a document for each published version.

Invariant: a version is written once and its number is never given again, not even after the template was removed.
"""

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from pymongo import ReturnDocument
from pymongo.errors import DuplicateKeyError

from notification_engine.domain.caller import Caller
from notification_engine.domain.errors import Conflict
from notification_engine.domain.template import Compiled, Draft, Template, Version
from notification_engine.kit.clock import wall_now
from notification_engine.storage.cached import Cached
from notification_engine.storage.connection import Database, Document, translated
from notification_engine.storage.personal import nobody, shown

CACHE_SECONDS = 5.0
CACHED_HEADS = 1000
CACHED_VERSIONS = 200
_HEAD = {"head": True, "removed": {"$ne": True}}


class TemplateDocuments(Cached):
    """Implements `services.ports.TemplateStore`, and `PersonalData`: who wrote and published one."""

    collection = "notification_templates"

    def __init__(self, database: Database, pseudonym: Callable[[str], str] = nobody) -> None:
        super().__init__()
        self._pseudonym = pseudonym
        self._collection = database.collection("notification_templates")
        self._heads: OrderedDict[str, tuple[float, Template | None]] = OrderedDict()
        self._versions: OrderedDict[str, Version] = OrderedDict()

    async def export(self, user_id: str) -> list[Document]:
        match = {"$or": [{"updated_by": user_id}, {"published_by": user_id}]}
        with translated():
            return [shown(d) async for d in self._collection.find(match)]

    async def erase(self, user_id: str) -> int:
        changed = 0
        with translated():
            for name in ("updated_by", "published_by"):
                change = {"$set": {name: self._pseudonym(user_id)}}
                changed += (await self._collection.update_many({name: user_id}, change)).modified_count
        self._heads.clear()
        self._versions.clear()
        return changed

    async def head(self, key: str, *, fresh: bool = False) -> Template | None:
        cached = self._heads.get(key)
        if cached is not None and cached[0] > time.monotonic() and not fresh:
            return cached[1]
        changes = self.changes
        with translated():
            document = await self._collection.find_one({"_id": key} | _HEAD)
        found = _template(document) if document else None
        if changes != self.changes:
            return found  # it may be the older state
        self._heads[key] = (time.monotonic() + CACHE_SECONDS, found)
        self._heads.move_to_end(key)
        while len(self._heads) > CACHED_HEADS:
            self._heads.popitem(last=False)
        return found

    def _drop(self, key: str) -> None:
        self._heads.pop(key, None)

    async def version(self, key: str, number: int) -> Version | None:
        name = _name(key, number)
        if name in self._versions:
            self._versions.move_to_end(name)
            return self._versions[name]
        with translated():
            document = await self._collection.find_one({"_id": name})
        if document is None:
            return None
        self._versions[name] = _version(document)
        while len(self._versions) > CACHED_VERSIONS:
            self._versions.popitem(last=False)
        return self._versions.get(name) or _version(document)

    async def versions(self, key: str) -> list[Version]:
        with translated():
            of_key = {"_id": {"$gte": _name(key, ""), "$lt": _name(key, ":")}}  # a colon sorts behind the digits
            found = [_version(document) async for document in self._collection.find(of_key)]
        return sorted(found, key=lambda version: version.number)

    async def list(self, after: str, limit: int) -> list[Template]:
        with translated():
            found = self._collection.find({"_id": {"$gt": after}} | _HEAD, sort=[("_id", 1)], limit=limit)
            return [_template(document) async for document in found]

    async def save(self, caller: Caller, key: str, draft: Draft) -> Template:
        """A removed one of this key comes back with the draft, and goes on counting its versions."""
        now = wall_now()
        values = {"head": True, "draft": draft.as_dict(), "updated_at": now, "updated_by": caller.sub}
        born = {"published": None, "latest": 0, "created_at": now}
        with translated():
            document = await self._collection.find_one_and_update(
                {"_id": key},
                {"$set": values, "$unset": {"removed": ""}, "$setOnInsert": born},
                upsert=True,
                return_document=ReturnDocument.AFTER,
            )
        assert document is not None  # it was upserted
        self.changed(key)
        return _template(document)

    async def publish(self, version: Version) -> None:
        document = {
            "_id": _name(version.key, version.number),
            "key": version.key,
            "number": version.number,
            "draft": version.draft.as_dict(),
            "default_locale": version.compiled.default_locale,
            "locales": {locale: dict(parts) for locale, parts in version.compiled.locales.items()},
            "uses": [{"key": key, "version": number} for key, number in version.uses.items()],
            "published_at": version.published_at,
            "published_by": version.published_by,
        }
        with translated():
            try:
                await self._collection.insert_one(document)
            except DuplicateKeyError:
                # Another publication, or one that died before the next write: the number is spent either way.
                await self._advance(version.key, {"$max": {"latest": version.number}})
                raise Conflict("Another publication took this version's number; publish again.") from None
            current = {"published": version.number}
            await self._advance(version.key, {"$max": {"latest": version.number}, "$set": current})

    async def choose(self, key: str, number: int) -> None:
        with translated():
            await self._advance(key, {"$set": {"published": number}})

    async def delete(self, key: str) -> bool:
        gone = {"$set": {"removed": True, "published": None}, "$unset": {"draft": ""}}
        with translated():
            result = await self._collection.update_one({"_id": key} | _HEAD, gone)
        self.changed(key)
        return result.modified_count == 1

    async def _advance(self, key: str, update: dict[str, Any]) -> None:
        await self._collection.update_one({"_id": key} | _HEAD, update)
        self.changed(key)


def _name(key: str, number: int | str) -> str:
    return f"{key}@{number}"


def _template(document: Document) -> Template:
    return Template(
        key=document["_id"],
        draft=Draft.of(document["draft"]),
        published=document["published"],
        latest=document["latest"],
        created_at=document["created_at"],
        updated_at=document["updated_at"],
        updated_by=document["updated_by"],
    )


def _version(document: Document) -> Version:
    return Version(
        key=document["key"],
        number=document["number"],
        draft=Draft.of(document["draft"]),
        compiled=Compiled.of(document["default_locale"], document["locales"]),
        uses={use["key"]: use["version"] for use in document["uses"]},
        published_at=document["published_at"],
        published_by=document["published_by"],
    )
