"""Interventions: what people do to deliveries. Cancel, replay, discard, and the list of the dead letters.

Invariant: a document that a lane holds is left alone; one that is changed has its fence raised, so that who still has a
copy settles nothing. State, history rows and audit row are one transaction.
"""

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Any

from pymongo import UpdateOne

from notification_engine.domain.caller import Caller, Role
from notification_engine.domain.cursor import decode_cursor, encode_cursor
from notification_engine.domain.delivery import Delivery, DeliveryStatus, is_dead
from notification_engine.domain.errors import Conflict, NotFound
from notification_engine.domain.notification import Notification, base_id, document_id_of_delivery
from notification_engine.domain.outcome import Attempt
from notification_engine.kit.clock import Clock
from notification_engine.services.ports import Change, DeadLetter, DeadLetterFilter, Intervened, Page
from notification_engine.storage.audit import AuditLog
from notification_engine.storage.codec import to_notification
from notification_engine.storage.connection import Database, Document, Session, translated
from notification_engine.storage.history import row_document
from notification_engine.storage.parts import merged, parts_of
from notification_engine.storage.pipelines import changes_pipeline, discard_pipeline

INDEX = "dead_letters"
Intervention = Callable[[Session, list[Notification], set[str]], Awaitable[None]]
_FREE = {"lease.owner": {"$exists": False}}
_ORDER = [("dead_at", -1), ("_id", -1)]


class Interventions:
    """Implements `services.ports.InterventionStore`."""

    def __init__(self, database: Database, clock: Clock, audit: AuditLog) -> None:
        self._database = database
        self._clock = clock
        self._audit = audit
        self._notifications = database.collection("notifications")
        self._majority = database.majority("notifications")
        self._history = database.collection("notification_history")

    async def cancel(self, caller: Caller, notification_id: str) -> Notification:
        """Only what its sender or an operator may cancel; what is cancelled already stays so."""

        async def work(session: Session) -> Notification:
            parts = await self._parts(caller, notification_id, session)
            waiting = [p for p in parts if any(d.status is DeliveryStatus.PENDING for d in p.deliveries)]
            free = [p for p in waiting if p.lease.owner is None]
            if waiting and not free:
                raise Conflict("It is being sent; what is under way cannot be cancelled.")
            if not waiting and not any(d.status is DeliveryStatus.CANCELLED for p in parts for d in p.deliveries):
                raise Conflict("It has ended; there is nothing left to cancel.")
            changes = [_changes(p, DeliveryStatus.PENDING, DeliveryStatus.CANCELLED) for p in free]
            await self._write(session, free, changes, "cancelled")
            if free:
                user_id = parts[0].user_id
                await self._audit.append(
                    caller, "notification.cancel", notification_id, subject=user_id, session=session
                )
            return merged(await self._parts(caller, notification_id, session))

        return await self._database.transaction(work)

    async def dead_letters(self, query: DeadLetterFilter, cursor: str | None, limit: int) -> Page:
        """Newest first; a page may hold a few more than `limit`: the deliveries of one document stay together."""
        match = _matching(query)
        if cursor:
            at, document_id = decode_cursor(cursor)
            match["$or"] = [{"dead_at": {"$lt": at}}, {"dead_at": at, "_id": {"$lt": document_id}}]
        with translated():
            found = self._majority.find(match, sort=_ORDER, limit=limit + 1, hint=INDEX)
            documents = [document async for document in found]
        letters = [letter for document in documents[:limit] for letter in _letters(document, query)]
        last = documents[limit - 1] if len(documents) > limit else None
        return Page(letters, encode_cursor(last["dead_at"], last["_id"]) if last else None)

    async def dead_letter(self, delivery_id: str) -> DeadLetter:
        query = DeadLetterFilter(delivery_ids=(delivery_id,))
        with translated():
            document = await self._majority.find_one(_matching(query))
        letters = _letters(document, query) if document else []
        if not letters:
            raise NotFound("There is no such dead letter.")
        return letters[0]

    async def replay(self, caller: Caller, query: DeadLetterFilter, limit: int) -> Intervened:
        """At most `limit` documents, oldest first: due now, under the same delivery ids, with new rounds."""

        async def change(session: Session, free: list[Notification], chosen: set[str]) -> None:
            changes = [
                [
                    Change(n.id, d.id, None, DeliveryStatus.PENDING, next_attempt_seconds=0.0, grant_rounds=True)
                    for d in n.deliveries
                    if d.id in chosen
                ]
                for n in free
            ]
            await self._write(session, free, changes, "replayed")

        return await self._intervene(caller, query, limit, "dead_letter.replay", change)

    async def discard(self, caller: Caller, query: DeadLetterFilter, limit: int) -> Intervened:
        async def change(session: Session, free: list[Notification], chosen: set[str]) -> None:
            writes: list[Any] = [UpdateOne({"_id": n.id}, discard_pipeline(sorted(chosen))) for n in free]
            await self._notifications.bulk_write(writes, ordered=False, session=session)
            rows = [_row(n, d, "discarded", self._clock.now()) for n in free for d in n.deliveries if d.id in chosen]
            await self._history.insert_many([row_document(row) for row in rows], session=session)

        return await self._intervene(caller, query, limit, "dead_letter.discard", change)

    async def _intervene(
        self, caller: Caller, query: DeadLetterFilter, limit: int, action: str, change: Intervention
    ) -> Intervened:
        async def work(session: Session) -> Intervened:
            found = self._notifications.find(
                _matching(query) | _FREE, sort=[("dead_at", 1), ("_id", 1)], limit=limit, session=session, hint=INDEX
            )
            letters = [letter async for document in found for letter in _letters(document, query)]
            free = list({letter.notification.id: letter.notification for letter in letters}.values())
            if free:
                await change(session, free, {letter.delivery.id for letter in letters})
                users = {letter.notification.user_id for letter in letters}
                subject = users.pop() if len(users) == 1 else None
                await self._audit.append(caller, action, _target(letters), subject=subject, session=session)
            held = _matching(query) | {"lease.owner": {"$exists": True}}
            skipped = await self._notifications.count_documents(held, session=session, hint=INDEX, limit=1000)
            return Intervened(len(letters), skipped, len(free) == limit)

        return await self._database.transaction(work)

    async def _parts(self, caller: Caller, notification_id: str, session: Session) -> list[Notification]:
        visible: Document = {} if caller.may(Role.OPERATOR) else {"source": caller.sub}
        return await parts_of(self._notifications, notification_id, visible, session)

    async def _write(
        self, session: Session, free: Sequence[Notification], changes: Sequence[Sequence[Change]], what: str
    ) -> None:
        """The changes under a raised fence, and a history row for each."""
        if not free:
            return
        writes: list[Any] = [
            UpdateOne({"_id": n.id}, changes_pipeline(own, raise_fence=True))
            for n, own in zip(free, changes, strict=True)
        ]
        await self._notifications.bulk_write(writes, ordered=False, session=session)
        ids = {change.delivery_id for own in changes for change in own}
        rows = [_row(n, d, what, self._clock.now()) for n in free for d in n.deliveries if d.id in ids]
        await self._history.insert_many([row_document(row) for row in rows], session=session)


def _changes(notification: Notification, before: DeliveryStatus, after: DeliveryStatus) -> list[Change]:
    return [Change(notification.id, d.id, None, after) for d in notification.deliveries if d.status is before]


def _row(notification: Notification, delivery: Delivery, what: str, now: datetime) -> Attempt:
    """Of the fence that the intervention made; beside the attempts, so that theirs never start anew."""
    return Attempt(
        notification_id=base_id(notification.id),
        delivery_id=delivery.id,
        user_id=notification.user_id,
        channel=delivery.channel,
        fence=notification.lease.fence + 1,
        attempt=delivery.attempts,
        delivery_status=what,
        timestamp=now,
        suffix=f":{what}:{int(now.timestamp() * 1000)}",
    )


def _matching(query: DeadLetterFilter) -> Document:
    """Exact: a document that matches holds at least one dead letter of the filter."""
    match: Document = {"dead_at": {"$exists": True}, "deliveries": {"$elemMatch": _element(query)}}
    if query.since:
        match["dead_at"]["$gte"] = query.since
    if query.notification_type:
        match["notification_type"] = query.notification_type
    if query.delivery_ids is not None:
        match["_id"] = {"$in": sorted({document_id for i in query.delivery_ids if (document_id := _document_id(i))})}
    return match


def _element(query: DeadLetterFilter) -> Document:
    """The same as `domain.delivery.is_dead`, with the filter's criteria."""
    dead = [{"status": str(DeliveryStatus.FAILED)}, {"status": str(DeliveryStatus.UNKNOWN), "held": True}]
    element: Document = {"$or": dead, "discarded_at": {"$exists": False}}
    for name in ("channel", "endpoint", "reason"):
        if (value := getattr(query, name)) is not None:
            element[name] = str(value)
    times = {op: at for op, at in (("$gte", query.since), ("$lt", query.until)) if at is not None}
    if times:
        element["updated_at"] = times
    if query.delivery_ids is not None:
        element["id"] = {"$in": list(query.delivery_ids)}
    return element


def _document_id(delivery_id: str) -> str | None:
    try:
        return document_id_of_delivery(delivery_id)
    except ValueError:
        return None


def _letters(document: Document, query: DeadLetterFilter) -> list[DeadLetter]:
    notification = to_notification(document)
    return [DeadLetter(notification, d) for d in notification.deliveries if is_dead(d) and _chosen(d, query)]


def _chosen(delivery: Delivery, query: DeadLetterFilter) -> bool:
    updated = delivery.updated_at
    return (
        (query.channel is None or delivery.channel is query.channel)
        and (query.endpoint is None or delivery.endpoint == query.endpoint)
        and (query.reason is None or delivery.reason is query.reason)
        and (query.since is None or (updated is not None and updated >= query.since))
        and (query.until is None or (updated is not None and updated < query.until))
        and (query.delivery_ids is None or delivery.id in query.delivery_ids)
    )


def _target(letters: Sequence[DeadLetter]) -> str:
    """For the audit: the delivery, or how many of which kind."""
    if len(letters) == 1:
        return letters[0].delivery.id
    kinds = sorted({f"{letter.delivery.channel}/{letter.notification.notification_type}" for letter in letters})
    return f"{len(letters)} deliveries: {', '.join(kinds[:10])}"
