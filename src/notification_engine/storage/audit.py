"""The audit log: one document for each administrative action, only ever appended."""

from datetime import UTC, datetime

from notification_engine.domain.caller import Caller
from notification_engine.storage.connection import Database, Session, translated


class AuditLog:
    def __init__(self, database: Database) -> None:
        self._collection = database.collection("notification_audit_logs")

    async def append(self, caller: Caller, action: str, target: str, *, session: Session | None = None) -> None:
        """`session`: as part of that transaction."""
        row = {"timestamp": datetime.now(UTC), "user_id": caller.sub, "action": action, "target": target}
        with translated():
            await self._collection.insert_one(row, session=session)
