"""Claims and settlements: who may work on a notification, and what came of it. Fenced, on the server's clock."""

import random
from collections.abc import Callable, Sequence
from typing import Any

from pymongo import UpdateMany, UpdateOne
from pymongo.errors import PyMongoError

from notification_engine.domain.delivery import ALLOWED_FROM, DeliveryStatus
from notification_engine.domain.notification import RANK, Notification
from notification_engine.kit.clock import Clock
from notification_engine.kit.ids import new_ulid
from notification_engine.services.ports import Change, Deferral
from notification_engine.storage.codec import to_notification
from notification_engine.storage.connection import Database, Document, translated
from notification_engine.storage.pipelines import (
    changes_pipeline,
    claim_pipeline,
    give_back_pipeline,
    in_seconds,
    kind_of,
    postpone_pipeline,
)

QUEUE_INDEX = "queue"
OVERSAMPLING = 4  # with several daemons: candidates asked for, as a multiple of what is to be claimed
_RANKS = sorted(RANK.values(), reverse=True)


class Claims:
    """The daemon's half of the notification store."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        *,
        several_daemons: bool = False,
        observe_claim: Callable[[int, int], None] = lambda candidates, claimed: None,
    ) -> None:
        self._collection = database.collection("notifications")
        self._majority = database.majority("notifications")
        self._clock = clock
        self._several = several_daemons
        self._observe_claim = observe_claim

    async def claim(self, owner: str, limit: int, lease_seconds: float) -> list[Notification]:
        """Priorities first, oldest first. `due_at: {$exists: true}` must stand beside the `$expr`: without it a
        finished document, whose `due_at` is missing and so sorts below every date, would be claimed again."""
        ids = await self._candidates(limit)
        if not ids:
            return []
        token = new_ulid()
        match = {"_id": {"$in": ids}, "due_at": {"$exists": True}, "$expr": {"$lte": ["$due_at", "$$NOW"]}}
        lost: PyMongoError | None = None
        try:
            await self._collection.update_many(match, claim_pipeline(owner, token, lease_seconds))
        except PyMongoError as error:  # the reply may be lost and the claim made: the token tells
            lost = error
        with translated():
            found = self._majority.find({"_id": {"$in": ids}, "lease.token": token})
            documents = await found.to_list()
            if lost is not None and not documents:
                raise lost
        claimed = await self.opened(documents)
        self._observe_claim(len(ids), len(claimed))
        return sorted(claimed, key=lambda n: (-n.rank, n.created_at))

    async def opened(self, documents: Sequence[Document]) -> list[Notification]:
        return [to_notification(document) for document in documents]

    async def _candidates(self, limit: int) -> list[str]:
        """Hints only: the claim decides on the server's clock. With several daemons at random within a rank: a choice
        over all of them would leave the last critical ones behind hundreds of low."""
        match = {"rank": {"$in": _RANKS}, "due_at": {"$exists": True, "$lte": self._clock.now()}}
        wanted = limit * OVERSAMPLING if self._several else limit
        with translated():
            cursor = self._collection.find(
                match, {"_id": 1, "rank": 1}, sort=[("rank", -1), ("due_at", 1)], limit=wanted
            )
            found = [(document["rank"], document["_id"]) for document in await cursor.hint(QUEUE_INDEX).to_list()]
        if len(found) > limit:
            random.shuffle(found)
            found.sort(key=lambda candidate: -candidate[0])
        return [candidate_id for _, candidate_id in found[:limit]]

    async def apply(self, changes: Sequence[Change]) -> list[bool]:
        """One bulk of fenced pipelines, one for all changes that are alike; True where the fence still held. A mark
        needs more: the delivery must still be one that may be sent, because a callback, which has no fence, may have
        ended it meanwhile. Written twice, as after a lost reply, a change does nothing more: the table refuses it or
        the fence is another."""
        kinds: dict[object, list[Change]] = {}
        for change in changes:
            marked = change.delivery_id if change.mark is not None else None
            kinds.setdefault((kind_of(change), marked), []).append(change)
        writes: list[Any] = []
        expected = 0
        for alike in kinds.values():
            ids = list({change.document_id for change in alike})
            writes.append(UpdateMany(_matching(ids, alike[0]), changes_pipeline(alike)))
            expected += len(ids)
        with translated():
            result = await self._collection.bulk_write(writes, ordered=False)
            if result.matched_count == expected:
                return [True] * len(changes)
            stored = await self._stored(list({change.document_id for change in changes}))
        return [_held(change, stored.get(change.document_id)) for change in changes]

    async def _stored(self, ids: list[str]) -> dict[str, Document]:
        fields = {"lease.fence": 1, "deliveries.id": 1, "deliveries.mark": 1, "deliveries.status": 1}
        found = self._collection.find({"_id": {"$in": ids}}, fields)
        return {document["_id"]: document for document in await found.to_list()}

    async def mark_solo(self, document_id: str, fence: int) -> bool:
        with translated():
            match = _fenced(document_id, fence) | {"lease.owner": {"$exists": True}}
            result = await self._collection.update_one(match, {"$set": {"lease.solo": True}})
        return result.matched_count == 1

    async def renew(self, owner: str, held: Sequence[tuple[str, int]], lease_seconds: float) -> None:
        """One write for all; what this process no longer owns does not match."""
        until = {"lease.expires_at": in_seconds(lease_seconds), "due_at": in_seconds(lease_seconds)}
        with translated():
            match = {"_id": {"$in": [document_id for document_id, _ in held]}, "lease.owner": owner}
            await self._collection.update_many(match, [{"$set": until}])

    async def give_back(self, held: Sequence[tuple[str, int]]) -> None:
        writes: list[Any] = [UpdateOne(_fenced(i, fence), give_back_pipeline()) for i, fence in held]
        if writes:
            with translated():
                await self._collection.bulk_write(writes, ordered=False)

    async def postpone(self, given: Sequence[Deferral]) -> None:
        groups: dict[tuple[str, int], dict[str, float]] = {}
        for one in given:
            groups.setdefault((one.document_id, one.fence), {})[one.delivery_id] = one.seconds
        writes: list[Any] = [UpdateOne(_fenced(*key), postpone_pipeline(seconds)) for key, seconds in groups.items()]
        with translated():
            await self._collection.bulk_write(writes, ordered=False)

    async def free_all(self) -> int:
        """Every lease ends now. Only for the holder of the embedded database's directory lock, at its start: nobody
        else can be alive. The leases stay abandoned, so that the next claim counts them."""
        freed = {"due_at": "$$NOW", "lease.fence": {"$add": ["$lease.fence", 1]}, "lease.expires_at": "$$NOW"}
        with translated():
            result = await self._collection.update_many(
                {"due_at": {"$exists": True}, "lease.owner": {"$exists": True}}, [{"$set": freed}]
            )
        return int(result.modified_count)

    async def queue_depth(self) -> dict[str, int]:
        """From the queue index alone: its size is the backlog."""
        with translated():
            waiting = await self._collection.count_documents({"due_at": {"$exists": True}}, hint=QUEUE_INDEX)
            now = self._clock.now()
            match = {"rank": {"$in": _RANKS}, "due_at": {"$exists": True, "$lte": now}}
            due = await self._collection.count_documents(match, hint=QUEUE_INDEX)
            oldest = await self._collection.find_one(match, {"due_at": 1}, sort=[("due_at", 1)], hint=QUEUE_INDEX)
        lag = (now - oldest["due_at"]).total_seconds() if oldest else 0.0
        return {"waiting": waiting, "due": due, "oldest_due_ms": round(lag * 1000)}


def _fenced(document_id: str, fence: int | None) -> dict[str, Any]:
    return {"_id": document_id} if fence is None else {"_id": document_id, "lease.fence": fence}


def _matching(document_ids: list[str], change: Change) -> dict[str, Any]:
    match: dict[str, Any] = {"_id": {"$in": document_ids}}
    if change.fence is not None:
        match["lease.fence"] = change.fence
    if change.mark is not None:
        sources = [str(s) for s in ALLOWED_FROM[change.status]]
        match["deliveries"] = {"$elemMatch": {"id": change.delivery_id, "status": {"$in": sources}}}
    return match


def _held(change: Change, stored: Document | None) -> bool:
    if stored is None or change.fence not in (None, stored["lease"]["fence"]):
        return False
    if change.mark is None:
        return True
    # Also when the reply of the write was lost and it was repeated: then the mark that is there is this one.
    mine = {"id": change.delivery_id, "mark": change.mark, "status": str(DeliveryStatus.SENDING)}
    return any(mine == {name: d.get(name) for name in mine} for d in stored["deliveries"])
