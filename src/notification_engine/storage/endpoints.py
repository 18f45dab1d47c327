"""Webhook endpoints. Their secrets are encrypted at rest; the enabled ones are kept for a few seconds."""

import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from pymongo import ReturnDocument

from notification_engine.domain.cursor import decode_cursor, encode_cursor
from notification_engine.domain.errors import NotFound, Unreadable
from notification_engine.domain.webhook import WebhookEndpoint
from notification_engine.kit.logging import get_logger
from notification_engine.security.envelope import is_legacy
from notification_engine.services.ports import Page
from notification_engine.storage.cached import Cached
from notification_engine.storage.connection import Database, Document, translated
from notification_engine.storage.personal import shown

CACHE_SECONDS = 5.0
_SECRETS = ("secret", "previous_secret")
_EPOCH = datetime.fromtimestamp(0, UTC)  # ids sort by time already; the cursor's moment stays unused


log = get_logger("engine")


class Cipher(Protocol):
    """What is sealed in a context opens in no other; the context is the endpoint's id."""

    def seal(self, plain: bytes, *context: str) -> bytes: ...
    def open(self, sealed: bytes, *context: str) -> bytes: ...


class Endpoints(Cached):
    """Implements `services.ports.EndpointStore`, what operators do with endpoints, and `PersonalData`: who made one."""

    collection = "notification_webhook_endpoints"

    def __init__(self, database: Database, cipher: Cipher) -> None:
        super().__init__()
        self._collection = database.collection("notification_webhook_endpoints")
        self._cipher = cipher
        self._cached: dict[str, WebhookEndpoint] = {}
        self._cached_until = 0.0

    async def export(self, user_id: str) -> list[Document]:
        secret = {"secret": 0, "previous_secret": 0}
        with translated():
            return [shown(d) async for d in self._collection.find({"owner": user_id}, secret)]

    async def erase(self, user_id: str) -> int:
        """The endpoint is the house's and stays; nobody is told any more when it is disabled."""
        with translated():
            result = await self._collection.update_many({"owner": user_id}, {"$set": {"owner": None}})
        self.changed("")
        return result.modified_count

    async def enabled(self) -> list[WebhookEndpoint]:
        return [e for e in (await self._all()).values() if e.enabled]

    async def find(self, endpoint_id: str) -> WebhookEndpoint | None:
        return (await self._all()).get(endpoint_id)

    async def disable(self, endpoint_id: str, reason: str) -> WebhookEndpoint | None:
        with translated():
            document = await self._collection.find_one_and_update(
                {"_id": endpoint_id, "enabled": True},
                {"$set": {"enabled": False, "disabled_reason": reason}},
                return_document=ReturnDocument.AFTER,
            )
        self.changed("")
        return self._endpoint(document) if document else None

    async def observe(self, endpoint_id: str, *, ok: bool) -> datetime | None:
        """Writes only when it changes: the first failure, and the first success after one."""
        known = await self.find(endpoint_id)
        if known is None or (ok and known.failing_since is None):
            return None
        if ok:
            await self._remember(known, None, {"$unset": {"failing_since": ""}})
            return None
        if known.failing_since is None:
            since = [{"$set": {"failing_since": {"$ifNull": ["$failing_since", "$$NOW"]}}}]
            await self._remember(known, datetime.now(UTC), since)
        return (await self.find(endpoint_id) or known).failing_since

    async def _remember(self, known: WebhookEndpoint, since: datetime | None, update: Any) -> None:
        with translated():
            await self._collection.update_one({"_id": known.id}, update)
        if known.id in self._cached:
            self._cached[known.id] = replace(known, failing_since=since)

    async def rotate(self, endpoint_id: str, secret: str, overlap: timedelta) -> WebhookEndpoint:
        """A new secret; the one before it signs too for the time of the overlap. Raises NotFound."""
        sealed = self._cipher.seal(secret.encode(), endpoint_id)
        values = {
            "previous_secret": "$secret",
            "previous_until": {"$add": ["$$NOW", round(overlap.total_seconds() * 1000)]},
            "secret": {"$literal": sealed},
        }
        with translated():
            document = await self._collection.find_one_and_update(
                {"_id": endpoint_id}, [{"$set": values}], return_document=ReturnDocument.AFTER
            )
        self.changed("")
        return self._endpoint(_there(document))

    async def create(self, endpoint: WebhookEndpoint) -> None:
        document: Document = {
            "_id": endpoint.id,
            "url": endpoint.url,
            "notification_types": list(endpoint.notification_types),
            "secret": self._cipher.seal(endpoint.secret.encode(), endpoint.id),
            "description": endpoint.description,
            "enabled": endpoint.enabled,
            "created_at": endpoint.created_at,
            "owner": endpoint.owner,
        }
        with translated():
            await self._collection.insert_one(document)
        self.changed("")

    async def legacy(self) -> int:
        """How many hold a secret of the format before the data keys."""
        with translated():
            found = [d async for d in self._collection.find({}, {"secret": 1, "previous_secret": 1})]
        return sum(any(is_legacy(d.get(name) or b"") for name in _SECRETS) for d in found)

    async def reseal(self) -> int:
        """Secrets that an engine before the data keys stored are sealed with one; how many endpoints. Repeatable."""
        done = 0
        with translated():
            async for document in self._collection.find({}, {"secret": 1, "previous_secret": 1}):
                old = {name: document[name] for name in _SECRETS if is_legacy(document.get(name) or b"")}
                fresh = {
                    name: self._cipher.seal(self._cipher.open(v, document["_id"]), document["_id"])
                    for name, v in old.items()
                }
                if fresh:
                    result = await self._collection.update_one({"_id": document["_id"]} | old, {"$set": fresh})
                    done += result.modified_count
        self.changed("")
        return done

    async def list(self) -> list[WebhookEndpoint]:
        self._cached_until = 0.0
        return sorted((await self._all()).values(), key=lambda e: e.id)

    async def page(self, cursor: str | None, limit: int) -> Page:
        """Oldest first. Raises InvalidRequest, field `cursor`."""
        after = decode_cursor(cursor)[1] if cursor else ""
        with translated():
            found = self._collection.find({"_id": {"$gt": after}}, sort=[("_id", 1)], limit=limit + 1)
            endpoints = [self._endpoint(d) async for d in found]
        shown = endpoints[:limit]
        more = len(endpoints) > limit
        return Page(shown, encode_cursor(_EPOCH, shown[-1].id) if more else None)

    async def get(self, endpoint_id: str) -> WebhookEndpoint:
        with translated():
            document = await self._collection.find_one({"_id": endpoint_id})
        return self._endpoint(_there(document))

    async def change(self, endpoint_id: str, values: dict[str, Any]) -> WebhookEndpoint:
        """Sets url, notification_types, description, enabled or disabled_reason. Raises NotFound."""
        with translated():
            document = await self._collection.find_one_and_update(
                {"_id": endpoint_id}, {"$set": values}, return_document=ReturnDocument.AFTER
            )
        self.changed("")
        return self._endpoint(_there(document))

    async def delete(self, endpoint_id: str) -> None:
        with translated():
            result = await self._collection.delete_one({"_id": endpoint_id})
        self.changed("")
        if not result.deleted_count:
            raise NotFound("There is no such webhook endpoint.")

    def _drop(self, key: str) -> None:
        self._cached_until = 0.0

    async def _all(self) -> dict[str, WebhookEndpoint]:
        if time.monotonic() > self._cached_until:
            changes = self.changes
            with translated():
                found = [self._readable(d) async for d in self._collection.find({})]
            self._cached = {e.id: e for e in found if e is not None}
            if changes == self.changes:
                self._cached_until = time.monotonic() + CACHE_SECONDS
        return self._cached

    def _readable(self, document: Document) -> WebhookEndpoint | None:
        """One whose secret was altered is left out, and does not stop the others."""
        try:
            return self._endpoint(document)
        except Unreadable:
            log.error("The secret of a webhook endpoint was altered", webhook_id=document["_id"])
            return None

    def _endpoint(self, document: Document) -> WebhookEndpoint:
        plain = WebhookEndpoint(
            id=document["_id"],
            url=document["url"],
            notification_types=tuple(document["notification_types"]),
            secret=self._cipher.open(document["secret"], document["_id"]).decode(),
            enabled=document["enabled"],
            created_at=document["created_at"],
            description=document.get("description", ""),
        )
        previous = document.get("previous_secret")
        return replace(
            plain,
            previous_secret=self._cipher.open(previous, document["_id"]).decode() if previous else None,
            disabled_reason=document.get("disabled_reason"),
            previous_until=document.get("previous_until"),
            failing_since=document.get("failing_since"),
            owner=document.get("owner"),
        )


def _there(document: Document | None) -> Document:
    if document is None:
        raise NotFound("There is no such webhook endpoint.")
    return document
