"""The notifications: group commit of inserts, and reading one. Claims and the inbox stand in files of their own.

Invariant: `insert` answers `Inserted` only for what a majority has journaled. A write-concern error, which the driver
could hide behind a duplicate key of its own retry, makes the whole batch Unavailable.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, cast

from bson.raw_bson import RawBSONDocument
from pymongo.errors import BulkWriteError, PyMongoError

from notification_engine.domain.caller import Caller, Role
from notification_engine.domain.errors import EngineError, InvalidRequest, Unavailable
from notification_engine.domain.notification import Notification
from notification_engine.kit.batching import Batcher, QueueFull
from notification_engine.kit.clock import Clock
from notification_engine.security.envelope import DataKey
from notification_engine.services.ports import Inserted, KeyTaken
from notification_engine.storage.claims import Claims
from notification_engine.storage.codec import encode, to_document, to_notification
from notification_engine.storage.connection import Database, Document, translated
from notification_engine.storage.inbox import InboxQueries
from notification_engine.storage.parts import documents_of, merged
from notification_engine.storage.sealing import Sealing

ACCEPT_SECONDS = 10.0
MAX_BATCH = 1000
DUPLICATE_KEY = 11000

Row = tuple[str, bytes, float]  # id, BSON, deadline on the monotonic clock
Result = Inserted | KeyTaken | BaseException
_TOLD = (Inserted, KeyTaken, EngineError)  # what a caller is answered; anything else is a defect


class Notifications(Claims, InboxQueries):
    """Implements `services.ports.NotificationStore`."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        *,
        max_waiting_bytes: int,
        several_daemons: bool = False,
        observe_batch: Callable[[int], None] = lambda size: None,
        observe_claim: Callable[[int, int], None] = lambda candidates, claimed: None,
        sealing: Sealing | None = None,
    ) -> None:
        """Without `sealing` everything is stored as it is, and what is sealed is not read."""
        Claims.__init__(self, database, clock, several_daemons=several_daemons, observe_claim=observe_claim)
        InboxQueries.__init__(self, database, clock)
        self._sealing = sealing
        self._observe_batch = observe_batch
        self._commits: Batcher[Row, Inserted | KeyTaken] = Batcher(
            self._commit, max_batch=MAX_BATCH, max_waiting=max_waiting_bytes, weight=lambda row: len(row[1])
        )

    @property
    def waiting_commits(self) -> int:
        return self._commits.waiting

    def encode(self, notification: Notification) -> bytes:
        return encode(to_document(notification))

    async def encoded(
        self, requests: Sequence[Sequence[Notification]]
    ) -> list[list[tuple[str, bytes]] | InvalidRequest]:
        keys = await self._sealing.keys(n for request in requests for n in request) if self._sealing else {}
        return [self._encoded(request, keys) for request in requests]

    def _encoded(
        self, request: Sequence[Notification], keys: Mapping[str, DataKey]
    ) -> list[tuple[str, bytes]] | InvalidRequest:
        try:
            if self._sealing is None:
                return [(n.id, self.encode(n)) for n in request]
            return [(n.id, encode(self._sealing.document(n, keys))) for n in request]
        except InvalidRequest as error:
            return error

    async def opened(self, documents: Sequence[Document]) -> list[Notification]:
        """Notifications with what was sealed."""
        if self._sealing is None:
            return [to_notification(document) for document in documents]
        return await self._sealing.opened(documents)

    async def insert(self, documents: Sequence[tuple[str, bytes]]) -> list[Inserted | KeyTaken]:
        """In the next group commit. Raises Unavailable: the fate is unknown, or too many wait."""
        results: list[Inserted | KeyTaken] = []
        for result in await self.insert_each(documents):
            if isinstance(result, EngineError):
                raise result
            results.append(result)
        return results

    async def insert_each(self, documents: Sequence[tuple[str, bytes]]) -> list[Inserted | KeyTaken | EngineError]:
        """Each with its own result. Raises Unavailable when too many wait."""
        deadline = time.monotonic() + ACCEPT_SECONDS
        try:
            results = await self._commits.submit_each([(i, encoded, deadline) for i, encoded in documents])
        except QueueFull as error:
            raise Unavailable("Too many notifications wait to be written.", retry_after=1) from error
        for result in results:
            if not isinstance(result, _TOLD):
                raise result
        return cast("list[Inserted | KeyTaken | EngineError]", results)

    async def _commit(self, rows: list[Row]) -> Sequence[Result]:
        """Retries the same ids while their fate is unknown; an id that is there already then counts as written."""
        self._observe_batch(len(rows))
        deadline = min(row[2] for row in rows)
        pause = 0.02
        while True:
            try:
                async with asyncio.timeout_at(asyncio.get_running_loop().time() + deadline - time.monotonic()):
                    return await self._insert_once(rows)
            except (PyMongoError, TimeoutError) as error:
                if time.monotonic() + pause >= deadline:
                    reason = f"The database did not confirm the write ({type(error).__name__})."
                    return [Unavailable(reason, retry_after=2)] * len(rows)
            await asyncio.sleep(pause)
            pause = min(pause * 2, 0.5)

    async def _insert_once(self, rows: list[Row]) -> Sequence[Result]:
        try:
            await self._collection.insert_many([RawBSONDocument(row[1]) for row in rows], ordered=False)
        except BulkWriteError as error:
            if error.details.get("writeConcernErrors"):
                unconfirmed = Unavailable("A majority did not confirm the write.", retry_after=2)
                return [unconfirmed] * len(rows)
            return await self._sorted_out(rows, error.details["writeErrors"])
        return [Inserted()] * len(rows)

    async def _sorted_out(self, rows: list[Row], errors: Sequence[Mapping[str, Any]]) -> Sequence[Result]:
        """Each row's own result; one row's error is nobody else's."""
        results: list[Result] = [Inserted()] * len(rows)
        taken: list[int] = []
        for error in errors:
            index = error["index"]
            if error["code"] != DUPLICATE_KEY:
                results[index] = InvalidRequest(f"The database refused the notification (code {error['code']}).")
            elif "idempotency.key" in error.get("keyPattern", {}):
                taken.append(index)
        ours = await self._ours([rows[index][0] for index in taken])
        for index in taken:
            results[index] = Inserted() if rows[index][0] in ours else KeyTaken()
        return results

    async def _ours(self, ids: list[str]) -> set[str]:
        """Which of these are stored: a retried insert meets its own idempotency key."""
        if not ids:
            return set()
        return {document["_id"] async for document in self._collection.find({"_id": {"$in": ids}}, {"_id": 1})}

    async def present(self, ids: Sequence[str]) -> set[str]:
        if not ids:
            return set()
        with translated():
            return {document["_id"] async for document in self._majority.find({"_id": {"$in": list(ids)}}, {"_id": 1})}

    async def by_idempotency_key(self, key: str) -> Notification | None:
        with translated():
            document = await self._majority.find_one({"idempotency.key": key})
        return (await self.opened([document]))[0] if document else None

    async def release_idempotency_key(self, key: str, older_than: datetime) -> bool:
        with translated():
            match = {"idempotency.key": key, "created_at": {"$lt": older_than}}
            result = await self._collection.update_one(match, {"$unset": {"idempotency": ""}})
        return result.modified_count == 1

    async def get(self, caller: Caller, notification_id: str) -> Notification:
        """One, with the deliveries of its siblings. Another's is NotFound: ownership is in the query."""
        with translated():
            documents = await documents_of(self._majority, notification_id, visible_to(caller))
        return merged(await self.opened(documents))


def visible_to(caller: Caller) -> dict[str, Any]:
    """Which notifications a caller may read: operators all, services also what they sent, users their own."""
    if caller.may(Role.OPERATOR):
        return {}
    if Role.SERVICE in caller.roles:
        return {"$or": [{"user_id": caller.sub}, {"source": caller.sub}]}
    return {"user_id": caller.sub}
