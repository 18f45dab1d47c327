"""Webhook endpoints. Their secrets are encrypted at rest; the enabled ones are kept for a few seconds."""

import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Protocol

from pymongo import ReturnDocument

from notification_engine.domain.cursor import decode_cursor, encode_cursor
from notification_engine.domain.errors import NotFound
from notification_engine.domain.webhook import WebhookEndpoint
from notification_engine.services.ports import Page
from notification_engine.storage.connection import Database, Document, translated

CACHE_SECONDS = 5.0
_EPOCH = datetime.fromtimestamp(0, UTC)  # ids sort by time already; the cursor's moment stays unused


class Cipher(Protocol):
    def encrypt(self, plain: bytes) -> bytes: ...
    def decrypt(self, sealed: bytes) -> bytes: ...


class Endpoints:
    """Implements `services.ports.EndpointStore`, and what operators do with endpoints."""

    def __init__(self, database: Database, cipher: Cipher) -> None:
        self._collection = database.collection("notification_webhook_endpoints")
        self._cipher = cipher
        self._cached: dict[str, WebhookEndpoint] = {}
        self._cached_until = 0.0

    async def enabled(self) -> list[WebhookEndpoint]:
        return [e for e in (await self._all()).values() if e.enabled]

    async def find(self, endpoint_id: str) -> WebhookEndpoint | None:
        return (await self._all()).get(endpoint_id)

    async def disable(self, endpoint_id: str, reason: str) -> None:
        await self.change(endpoint_id, {"enabled": False, "disabled_reason": reason})

    async def create(self, endpoint: WebhookEndpoint) -> None:
        document: Document = {
            "_id": endpoint.id,
            "url": endpoint.url,
            "notification_types": list(endpoint.notification_types),
            "secret": self._cipher.encrypt(endpoint.secret.encode()),
            "description": endpoint.description,
            "enabled": endpoint.enabled,
            "created_at": endpoint.created_at,
        }
        with translated():
            await self._collection.insert_one(document)
        self._cached_until = 0.0

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
        self._cached_until = 0.0
        return self._endpoint(_there(document))

    async def delete(self, endpoint_id: str) -> None:
        with translated():
            result = await self._collection.delete_one({"_id": endpoint_id})
        self._cached_until = 0.0
        if not result.deleted_count:
            raise NotFound("There is no such webhook endpoint.")

    async def _all(self) -> dict[str, WebhookEndpoint]:
        if time.monotonic() > self._cached_until:
            with translated():
                found = [self._endpoint(d) async for d in self._collection.find({})]
            self._cached = {e.id: e for e in found}
            self._cached_until = time.monotonic() + CACHE_SECONDS
        return self._cached

    def _endpoint(self, document: Document) -> WebhookEndpoint:
        plain = WebhookEndpoint(
            id=document["_id"],
            url=document["url"],
            notification_types=tuple(document["notification_types"]),
            secret=self._cipher.decrypt(document["secret"]).decode(),
            enabled=document["enabled"],
            created_at=document["created_at"],
        )
        return replace(
            plain, description=document.get("description", ""), disabled_reason=document.get("disabled_reason")
        )


def _there(document: Document | None) -> Document:
    if document is None:
        raise NotFound("There is no such webhook endpoint.")
    return document
