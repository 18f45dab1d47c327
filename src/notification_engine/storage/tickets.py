"""One-time tickets for opening a socket: kept 30 seconds, redeemed once."""

import hashlib
import secrets
from datetime import UTC, datetime, timedelta

from notification_engine.domain.caller import Caller, Role
from notification_engine.storage.connection import Database, Document, translated
from notification_engine.storage.personal import shown

TICKET_SECONDS = 30


class Tickets:
    collection = "notification_tickets"

    def __init__(self, database: Database) -> None:
        self._collection = database.collection("notification_tickets")

    async def create(self, caller: Caller) -> str:
        """Only the ticket's hash is stored."""
        ticket = secrets.token_urlsafe(32)
        document = {
            "_id": _digest(ticket),
            "sub": caller.sub,
            "roles": sorted(caller.roles),
            "token_expires_at": caller.expires_at,
            "token": {"id": caller.token_id, "issued_at": caller.issued_at, "key": caller.key_id},
            "expires_at": datetime.now(UTC) + timedelta(seconds=TICKET_SECONDS),
        }
        with translated():
            await self._collection.insert_one(document)
        return ticket

    async def redeem(self, ticket: str) -> Caller | None:
        with translated():
            document = await self._collection.find_one_and_delete(
                {"_id": _digest(ticket), "$expr": {"$gt": ["$expires_at", "$$NOW"]}}
            )
        if document is None:
            return None
        token = document.get("token", {})  # without it: of a replica of an older version
        return Caller(
            document["sub"],
            frozenset(Role(r) for r in document["roles"]),
            document["token_expires_at"],
            token_id=token.get("id"),
            issued_at=token.get("issued_at", 0.0),
            key_id=token.get("key"),
        )

    async def export(self, user_id: str) -> list[Document]:
        with translated():
            return [shown(d) async for d in self._collection.find({"sub": user_id}, {"_id": 0})]

    async def erase(self, user_id: str) -> int:
        with translated():
            return (await self._collection.delete_many({"sub": user_id})).deleted_count


def _digest(ticket: str) -> str:
    return hashlib.sha256(ticket.encode()).hexdigest()
