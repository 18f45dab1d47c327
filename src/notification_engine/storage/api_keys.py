"""API keys, by their ids. Reads are kept for a few seconds, those of ids that nobody has too; when a key was last used
is written once a minute and not on a request's way."""

import time
from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, datetime

from pymongo import ReturnDocument, UpdateOne

from notification_engine.domain.api_key import ApiKey
from notification_engine.domain.caller import Caller, Role
from notification_engine.domain.cursor import decode_cursor, encode_cursor
from notification_engine.domain.errors import Conflict, NotFound
from notification_engine.services.ports import Page
from notification_engine.storage.audit import AuditLog
from notification_engine.storage.cached import Cached
from notification_engine.storage.connection import Database, Document, Session, translated
from notification_engine.storage.personal import nobody, shown

CACHE_SECONDS = 5.0
CACHE_KEYS = 10_000
MAX_KEYS = 10_000  # alive or not: what they did is audited under their ids
USED_EVERY_SECONDS = 60.0
_EPOCH = datetime.fromtimestamp(0, UTC)  # ids sort by time already; the cursor's moment stays unused


class ApiKeys(Cached):
    """Implements `services.ports.ApiKeyStore`, and `PersonalData`: who made one, and in whose name it acts."""

    collection = "notification_api_keys"

    def __init__(self, database: Database, audit: AuditLog, pseudonym: Callable[[str], str] = nobody) -> None:
        super().__init__()
        self._pseudonym = pseudonym
        self._database = database
        self._audit = audit
        self._collection = database.collection("notification_api_keys")
        self._cache: OrderedDict[str, tuple[float, ApiKey | None]] = OrderedDict()
        self._used: dict[str, datetime] = {}
        self._written: dict[str, float] = {}

    async def export(self, user_id: str) -> list[Document]:
        match = {"$or": [{"sub": user_id}, {"created_by": user_id}]}
        with translated():
            return [shown(d) async for d in self._collection.find(match, {"digest": 0})]

    async def erase(self, user_id: str) -> int:
        """Keys that act in the user's name end with it."""
        pseudonym = self._pseudonym(user_id)
        ended: Document = {"$set": {"sub": pseudonym, "revoked_at": {"$ifNull": ["$revoked_at", "$$NOW"]}}}
        with translated():
            mine = [d["_id"] async for d in self._collection.find({"sub": user_id}, {"_id": 1})]
            own = await self._collection.update_many({"_id": {"$in": mine}}, [ended])
            made = await self._collection.update_many({"created_by": user_id}, {"$set": {"created_by": pseudonym}})
        for key_id in mine:
            self.changed(key_id)
        return own.modified_count + made.modified_count

    async def find(self, key_id: str) -> ApiKey | None:
        until, known = self._cache.get(key_id, (0.0, None))
        if until > time.monotonic():
            return known
        changes = self.changes
        with translated():
            document = await self._collection.find_one({"_id": key_id})
        found = _key(document) if document else None
        if changes == self.changes:
            self._cache[key_id] = (time.monotonic() + CACHE_SECONDS, found)
            self._cache.move_to_end(key_id)
            while len(self._cache) > CACHE_KEYS:
                self._cache.popitem(last=False)
        return found

    async def create(self, caller: Caller, key: ApiKey) -> None:
        """Audited, in one transaction. Raises Conflict past `MAX_KEYS`."""
        with translated():
            if await self._collection.estimated_document_count() >= MAX_KEYS:
                raise Conflict(f"There are {MAX_KEYS} API keys already.")

        async def work(session: Session) -> None:
            await self._collection.insert_one(_document(key), session=session)
            await self._audit.append(caller, "api_key.create", key.id, after=_told(key), session=session)

        await self._database.transaction(work)
        self.changed(key.id)

    async def revoke(self, caller: Caller, key_id: str) -> None:
        """Audited, in one transaction; harmless when repeated. Raises NotFound."""

        async def work(session: Session) -> bool:
            alive = {"_id": key_id, "revoked_at": None}
            document = await self._collection.find_one_and_update(
                alive, [{"$set": {"revoked_at": "$$NOW"}}], return_document=ReturnDocument.AFTER, session=session
            )
            if document is not None:
                await self._audit.append(caller, "api_key.revoke", key_id, session=session)
                return True
            return await self._collection.find_one({"_id": key_id}, {"_id": 1}, session=session) is not None

        there = await self._database.transaction(work)
        self.changed(key_id)
        if not there:
            raise NotFound("There is no such API key.")

    async def get(self, key_id: str) -> ApiKey:
        with translated():
            document = await self._collection.find_one({"_id": key_id})
        if document is None:
            raise NotFound("There is no such API key.")
        return _key(document)

    async def page(self, cursor: str | None, limit: int) -> Page:
        """Oldest first. Raises InvalidRequest, field `cursor`."""
        after = decode_cursor(cursor)[1] if cursor else ""
        with translated():
            found = self._collection.find({"_id": {"$gt": after}}, sort=[("_id", 1)], limit=limit + 1)
            keys = [_key(d) async for d in found]
        shown = keys[:limit]
        return Page(shown, encode_cursor(_EPOCH, shown[-1].id) if len(keys) > limit else None)

    def used(self, key_id: str) -> None:
        self._used[key_id] = datetime.now(UTC)

    async def write_used(self) -> None:
        """What was noted since, each key at most once in `USED_EVERY_SECONDS`; the others wait for their turn."""
        now = time.monotonic()
        due = {
            key_id: at
            for key_id, at in self._used.items()
            if now - self._written.get(key_id, float("-inf")) >= USED_EVERY_SECONDS
        }
        if not due:
            return
        with translated():
            await self._collection.bulk_write(
                [UpdateOne({"_id": key_id}, {"$max": {"last_used_at": at}}) for key_id, at in due.items()],
                ordered=False,
            )
        for key_id, at in due.items():
            self._written[key_id] = now
            if self._used.get(key_id) == at:
                del self._used[key_id]

    def _drop(self, key: str) -> None:
        self._cache.pop(key, None)


def _told(key: ApiKey) -> Document:
    """What the audit log says of it: what it may do."""
    types, expires_at = list(key.notification_types), key.expires_at and key.expires_at.isoformat()
    return {
        "name": key.name,
        "sub": key.sub,
        "roles": sorted(key.roles),
        "notification_types": types,
        "expires_at": expires_at,
    }


def _document(key: ApiKey) -> Document:
    return {
        "_id": key.id,
        "name": key.name,
        "sub": key.sub,
        "roles": sorted(key.roles),
        "notification_types": list(key.notification_types),
        "digest": key.digest,
        "created_at": key.created_at,
        "created_by": key.created_by,
        "expires_at": key.expires_at,
        "revoked_at": None,
        "last_used_at": None,
    }


def _key(document: Document) -> ApiKey:
    return ApiKey(
        id=document["_id"],
        name=document["name"],
        sub=document["sub"],
        roles=frozenset(Role(role) for role in document["roles"]),
        notification_types=tuple(document["notification_types"]),
        digest=bytes(document["digest"]),
        created_at=document["created_at"],
        created_by=document["created_by"],
        expires_at=document["expires_at"],
        revoked_at=document["revoked_at"],
        last_used_at=document["last_used_at"],
    )
