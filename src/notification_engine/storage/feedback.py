"""What providers reported, as it came, and the requests that were answered already.

Invariant: an event is kept before anything follows from it, and marked as applied after everything has; so an event
that comes twice has consequences once, and one whose request died half-way has them with the next.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime

import bson
from pymongo.errors import BulkWriteError

from notification_engine.domain.delivery import Channel
from notification_engine.domain.errors import Unavailable
from notification_engine.domain.feedback import ProviderEvent
from notification_engine.domain.notification import document_id_of_delivery
from notification_engine.domain.suppression import normalised
from notification_engine.kit.clock import Clock
from notification_engine.security.envelope import Sealer
from notification_engine.services.ports import Addressee
from notification_engine.storage.connection import Database, Document, translated
from notification_engine.storage.personal import addresses, delivery_ids, shown
from notification_engine.storage.sealing import Sealing

_DUPLICATE_KEY = 11000
_SEALED = ("address", "detail", "raw")


class Feedback:
    """Implements `services.ports.FeedbackStore`, and `PersonalData` for the events: by the deliveries of a user, and by
    the addresses where a provider did not give the delivery back."""

    collection = "notification_provider_events"

    def __init__(
        self, database: Database, clock: Clock, sealing: Sealing | None = None, cipher: Sealer | None = None
    ) -> None:
        """Without `sealing` and `cipher` addresses are read and kept as they are."""
        self._sealing = sealing
        self._cipher = cipher
        self._database = database
        self._events = database.collection("notification_provider_events")
        self._events_majority = database.majority("notification_provider_events")
        self._notifications = database.majority("notifications")
        self._erasures = database.majority("notification_erasures")
        self._seen = database.collection("notification_callbacks_seen")
        self._clock = clock

    async def record(self, events: Sequence[ProviderEvent]) -> set[str]:
        with translated():
            events = await self._not_erased(events)
        if not events:
            return set()
        now = self._clock.now()
        with translated():
            try:
                await self._events.insert_many([_document(e, now, self._cipher) for e in events], ordered=False)
            except BulkWriteError as error:
                others = [e for e in error.details["writeErrors"] if e["code"] != _DUPLICATE_KEY]
                if others or error.details.get("writeConcernErrors"):
                    raise Unavailable("The events were not written.") from None
            match = {"_id": {"$in": [e.id for e in events]}, "applied_at": {"$exists": False}}
            return {document["_id"] async for document in self._events_majority.find(match, {"_id": 1})}

    async def _not_erased(self, events: Sequence[ProviderEvent]) -> list[ProviderEvent]:
        """What a provider reports of somebody who was erased meanwhile is not kept, and nothing follows from it."""
        ids = {e.delivery_id: document_id_of_delivery(e.delivery_id) for e in events if e.delivery_id}
        if not ids:
            return list(events)
        stages: list[Document] = [
            {"$match": {"ids": {"$in": sorted(set(ids.values()))}}},
            {"$project": {"_id": 0, "ids": {"$setIntersection": ["$ids", sorted(set(ids.values()))]}}},
        ]
        erased = {i async for found in await self._erasures.aggregate(stages) for i in found["ids"]}
        return [e for e in events if not e.delivery_id or ids[e.delivery_id] not in erased]

    async def addressees(self, delivery_ids: Sequence[str]) -> dict[str, Addressee]:
        wanted = set(delivery_ids)
        fields = {"user_id": 1, "notification_type": 1, "transactional": 1, "traceparent": 1} | dict.fromkeys(
            ("deliveries.id", "deliveries.channel", "deliveries.endpoint"), 1
        )
        documents = sorted({document_id_of_delivery(i) for i in wanted})
        with translated():
            found = [d async for d in self._notifications.find({"_id": {"$in": documents}}, fields)]
        opened = await self._sealing.addresses(found) if self._sealing else {}
        return {
            d["id"]: _addressee(document, d, opened)
            for document in found
            for d in document["deliveries"]
            if d["id"] in wanted and d["channel"] == Channel.EMAIL
        }

    async def applied(self, events: Sequence[ProviderEvent], matched: set[str]) -> None:
        """`matched`: the ids of those that belong to a delivery of ours."""
        now = self._clock.now()
        with translated():
            for is_matched in (True, False):
                ids = [e.id for e in events if (e.id in matched) is is_matched]
                if ids:
                    values = {"applied_at": now, "matched": is_matched}
                    await self._events.update_many({"_id": {"$in": ids}}, {"$set": values})

    async def export(self, user_id: str) -> list[Document]:
        with translated():
            found = [d async for match in self._of(user_id) async for d in self._events_majority.find(match)]
        return [shown(self._opened(d)) for d in found]

    async def erase(self, user_id: str) -> int:
        with translated():
            return sum([(await self._events.delete_many(match)).deleted_count async for match in self._of(user_id)])

    async def _of(self, user_id: str) -> AsyncIterator[Document]:
        async for ids in delivery_ids(self._database, user_id):
            yield {"delivery_id": {"$in": ids}}
        if own := await addresses(self._database, self._sealing, user_id):
            strange: Document = {"delivery_id": {"$exists": False}}
            spelled = {form for address in own for form in (address, normalised(address))}
            yield strange | {"address": {"$in": sorted(spelled)}}
            if self._cipher is not None:
                yield strange | {"address_id": {"$in": [_address_id(self._cipher, address) for address in own]}}

    def _opened(self, document: Document) -> Document:
        if self._cipher is None or "sealed" not in document:
            return document
        return document | bson.decode(self._cipher.open(document.pop("sealed"), document["_id"]))

    async def seen(self, digest: str) -> bool:
        with translated():
            return await self._seen.find_one({"_id": digest}) is not None

    async def remember(self, digest: str, until: datetime) -> None:
        """Ends by its TTL at `until` or a little later."""
        with translated():
            await self._seen.update_one({"_id": digest}, {"$set": {"expires_at": until}}, upsert=True)


def _document(event: ProviderEvent, now: datetime, cipher: Sealer | None) -> Document:
    """The address, what the provider said and the raw event, which repeats them, are sealed under the event's id."""
    values: Document = {
        "_id": event.id,
        "provider": event.provider,
        "kind": event.kind and str(event.kind),
        "at": event.at,
        "received_at": now,
        "delivery_id": event.delivery_id,
        "address": event.address,
        "detail": event.detail,
        "raw": event.raw,
    }
    if cipher is not None:
        plain = {name: values.pop(name) for name in _SEALED}
        values["sealed"] = cipher.seal(bson.encode(plain), event.id)
        values["address_id"] = _address_id(cipher, event.address) if event.address else None
    return {name: value for name, value in values.items() if value is not None}


def _address_id(cipher: Sealer, address: str) -> str:
    """By which the events of an address are found."""
    return cipher.digest("address", normalised(address))


def _addressee(document: Document, delivery: Document, opened: Mapping[str, str]) -> Addressee:
    stored = delivery.get("endpoint")
    return Addressee(
        document_id=document["_id"],
        delivery_id=delivery["id"],
        user_id=document["user_id"],
        notification_type=document["notification_type"],
        transactional=document.get("transactional", False),
        address=stored if isinstance(stored, str) else opened.get(delivery["id"]),
        traceparent=document.get("traceparent"),
    )
