"""Accept: from a valid request to majority-committed documents, and only then the answer.

Invariant: what is answered is stored. Of a request's documents the first is the guard of its idempotency key: it is
written alone, before the others, and the others' ids follow from its id, so that a repeated request completes what a
dead process left half done.
"""

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, TypeVar

from notification_engine.domain.caller import Caller
from notification_engine.domain.delivery import NotificationStatus
from notification_engine.domain.errors import (
    Conflict,
    EngineError,
    Forbidden,
    InvalidRequest,
    RequestError,
    Unavailable,
)
from notification_engine.domain.notification import MAX_DELIVERIES, Idempotency, Notification
from notification_engine.kit.clock import Clock
from notification_engine.services.catalogue import Catalogue
from notification_engine.services.commit import Commit, Handover, Observer
from notification_engine.services.content import Contents, has_words
from notification_engine.services.drafts import Documents, Draft, Drafts
from notification_engine.services.ports import (
    AttachmentStore,
    EndpointStore,
    KeyTaken,
    Live,
    NotificationStore,
    PreferenceStore,
)
from notification_engine.services.requests import AcceptedEvent, AcceptedNotification, NotificationRequest

KEY_LIFE = timedelta(hours=24)
GUARD_READ_SECONDS = 2.0
MAX_MET_KEYS = 10_000

ANSWER_SECONDS = 11.0  # a second more than the commit's own deadline, which answers first where it is the commit

Item = tuple[NotificationRequest, str | None]
Result = TypeVar("Result")


async def _in_time(answer: Coroutine[Any, Any, Result]) -> Result:
    """Whatever it waits for, a database away in the middle of it too. Raises Unavailable: the fate is unknown."""
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            return await answer
    except TimeoutError:
        raise Unavailable("The database did not answer in time.", retry_after=2) from None


class Intake:
    def __init__(
        self,
        store: NotificationStore,
        preferences: PreferenceStore,
        endpoints: EndpointStore,
        attachments: AttachmentStore,
        catalogue: Catalogue,
        contents: Contents,
        clock: Clock,
        observer: Observer,
        live: Live,
        *,
        email_available: bool,
        handover: Handover | None = None,
        left_due: Callable[[], None] = lambda: None,
    ) -> None:
        self._store = store
        self._clock = clock
        self._drafts = Drafts(
            preferences, endpoints, attachments, catalogue, contents, clock, email_available=email_available
        )
        self._commit = Commit(store, clock, observer, live, handover=handover, left_due=left_due)
        self._met: OrderedDict[str, None] = OrderedDict()  # keys that this process knows to be taken

    async def accept(
        self, caller: Caller, request: NotificationRequest, *, idempotency_key: str | None
    ) -> AcceptedEvent:
        """Raises Unavailable when nothing may be promised, Conflict while the key's first request is not committed,
        InvalidRequest when the key was used for another body or a value cannot be stored, Forbidden for a type that the
        caller's API key does not send."""
        if not caller.may_send(request.notification_type):
            raise Forbidden(f"The API key does not send {request.notification_type}.", field="notification_type")
        key = key_digest(caller.sub, idempotency_key) if idempotency_key else None
        return await _in_time(self._accept(self._drafts.begin(caller, request), key))

    async def _accept(self, draft: Draft, key: str | None) -> AcceptedEvent:
        if key is not None and key in self._met and (answer := await self._known_answer(draft, key)) is not None:
            return answer
        await self._drafts.keep_attachments(draft)
        documents = await self._drafts.plan(draft)
        if key is not None:
            return await self._accept_guarded(draft, key, documents)
        await self._write(draft, _flat(documents))
        return _answer(draft, documents)

    async def accept_batch(self, caller: Caller, items: Sequence[Item]) -> list[AcceptedEvent | EngineError]:
        """Each item with its own result; all travel in the same group commits. What has neither key nor template nor
        attachment is planned and written as one."""
        plain = [i for i, item in enumerate(items) if _is_plain(*item) and caller.may_send(item[0].notification_type)]
        others = sorted(set(range(len(items))).difference(plain))
        together, alone = await asyncio.gather(
            self._accept_together(caller, [items[index][0] for index in plain]),
            asyncio.gather(*(self._own_result(caller, items[index]) for index in others)),
        )
        found = dict(zip(plain, together, strict=True)) | dict(zip(others, alone, strict=True))
        return [found[index] for index in range(len(items))]

    async def _own_result(self, caller: Caller, item: Item) -> AcceptedEvent | EngineError:
        try:
            return await self.accept(caller, item[0], idempotency_key=item[1])
        except (RequestError, Unavailable) as error:
            return error

    async def _accept_together(
        self, caller: Caller, requests: Sequence[NotificationRequest]
    ) -> list[AcceptedEvent | EngineError]:
        if not requests:
            return []
        drafts = [self._drafts.begin(caller, request) for request in requests]
        try:
            return await _in_time(self._write_together(drafts))
        except (RequestError, Unavailable) as error:
            return [error] * len(requests)

    async def _write_together(self, drafts: Sequence[Draft]) -> list[AcceptedEvent | EngineError]:
        planned = await self._drafts.plan_given(drafts)
        written = await self._commit.write([_flat(documents) for documents in planned], drafts[0].started)
        return [
            result if isinstance(result, EngineError) else _answer(draft, documents)
            for draft, documents, result in zip(drafts, planned, written, strict=True)
        ]

    async def _known_answer(self, draft: Draft, key: str) -> AcceptedEvent | None:
        """Of a key that this process has met, before anything is rendered or written for it again. None: the long way
        decides, which also completes what may be incomplete."""
        stored = await self._store.by_idempotency_key(key)
        if stored is None or self._outlived(stored):
            return None
        statuses = _statuses_of(draft, stored)
        whole = len(draft.request.recipients) == 1 and len(stored.deliveries) < MAX_DELIVERIES
        return _stored_answer(draft, stored, statuses) if whole else None

    async def _accept_guarded(self, draft: Draft, key: str, documents: Documents) -> AcceptedEvent:
        statuses = tuple(str(parts[0].status) for parts in documents)
        documents[0][0].idempotency = Idempotency(key, draft.request.fingerprint, statuses)
        guard, *followers = _flat(documents)
        mine = await self._write(draft, [guard])
        self._meet(key)
        if mine:
            if followers:
                await self._write(draft, followers)
            return _answer(draft, documents)
        stored = await self._read_guard(key)
        if stored is None:
            raise Conflict("The first request with this Idempotency-Key is not committed yet; send it again.")
        if self._outlived(stored):
            await self._store.release_idempotency_key(key, self._clock.now() - KEY_LIFE)
            # Planned anew: these documents bear the lease that was given up when the key was taken.
            return await self._accept_guarded(draft, key, await self._drafts.plan(draft))
        return await self._complete(draft, stored, _statuses_of(draft, stored))

    async def _complete(self, draft: Draft, stored: Notification, statuses: Sequence[str]) -> AcceptedEvent:
        """Writes what a dead process did not, under ids that follow from the guard's; gives the stored answer."""
        first = _first_of(draft, stored)
        followers = _flat(await self._drafts.plan(first))[1:]
        there = await self._store.present([n.id for n in followers])
        if missing := [n for n in followers if n.id not in there]:
            # Never leased: the first request may be writing the same ids under a lease of its own. Announced: the
            # janitor's watermark may have passed the first request's moment, so the rows must follow from here.
            await self._commit.write_unleased(missing)
        return _stored_answer(draft, stored, statuses)

    async def _read_guard(self, key: str) -> Notification | None:
        """The other request's write may be ahead of its majority: waits for it a little."""
        until = time.monotonic() + GUARD_READ_SECONDS
        pause = 0.01
        while True:
            stored = await self._store.by_idempotency_key(key)
            if stored is not None or time.monotonic() > until:
                return stored
            await asyncio.sleep(pause)
            pause = min(pause * 2, 0.2)

    async def _write(self, draft: Draft, documents: Sequence[Notification]) -> bool:
        """False: the key is taken."""
        [result] = await self._commit.write([documents], draft.started)
        if isinstance(result, EngineError):
            raise result
        return not isinstance(result, KeyTaken)

    def _outlived(self, stored: Notification) -> bool:
        return stored.created_at < self._clock.now() - KEY_LIFE

    def _meet(self, key: str) -> None:
        self._met[key] = None
        self._met.move_to_end(key)
        if len(self._met) > MAX_MET_KEYS:
            self._met.popitem(last=False)


def key_digest(sub: str, key: str) -> str:
    """Keys belong to the caller: the hash is over subject and key."""
    return hashlib.sha256(f"{sub}\0{key}".encode()).hexdigest()


def _is_plain(request: NotificationRequest, key: str | None) -> bool:
    return key is None and has_words(request) and not request.attachments


def _flat(documents: Documents) -> list[Notification]:
    return [part for parts in documents for part in parts]


def _answer(draft: Draft, documents: Documents) -> AcceptedEvent:
    return AcceptedEvent(draft.event_id, [AcceptedNotification(p[0].id, p[0].user_id, p[0].status) for p in documents])


def _statuses_of(draft: Draft, stored: Notification) -> tuple[str, ...]:
    """Those of the first answer. Raises InvalidRequest when this is another request."""
    if stored.idempotency is None or stored.idempotency.body != draft.request.fingerprint:
        raise InvalidRequest("This Idempotency-Key was used with another body.", field="Idempotency-Key")
    return stored.idempotency.statuses


def _first_of(draft: Draft, stored: Notification) -> Draft:
    """This request under the ids of the one that took the key."""
    return replace(draft, ulid=stored.id.removeprefix("ntfy_"))


def _stored_answer(draft: Draft, stored: Notification, statuses: Sequence[str]) -> AcceptedEvent:
    first = _first_of(draft, stored)
    accepted = [
        AcceptedNotification(first.notification_id(i), r.user_id, NotificationStatus(s))
        for i, (r, s) in enumerate(zip(draft.request.recipients, statuses, strict=True))
    ]
    return AcceptedEvent(first.event_id, accepted)
