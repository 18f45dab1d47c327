"""Accept: from a valid request to majority-committed documents, and only then the answer.

Invariant: what is answered is stored. Of a request's documents the first is the guard of its idempotency key: it is
written alone, before the others, and the others' ids follow from its id, so that a repeated request completes what a
dead process left half done.
"""

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Protocol

from notification_engine.domain.attachment import Attachment
from notification_engine.domain.caller import Caller
from notification_engine.domain.delivery import Channel, NotificationStatus, derive_status
from notification_engine.domain.errors import Conflict, EngineError, InvalidRequest, RequestError, Unavailable
from notification_engine.domain.notification import (
    MAX_DELIVERIES,
    Idempotency,
    Notification,
    sibling_id,
)
from notification_engine.domain.notification_type import NotificationType
from notification_engine.domain.preference import Preference
from notification_engine.domain.webhook import WebhookEndpoint
from notification_engine.kit.clock import Clock
from notification_engine.kit.ids import derived_ulid, new_ulid
from notification_engine.services.catalogue import Catalogue
from notification_engine.services.content import Content, Contents
from notification_engine.services.plan import PlanInput, plan
from notification_engine.services.ports import (
    AttachmentStore,
    EndpointStore,
    KeyTaken,
    Live,
    NotificationStore,
    PreferenceStore,
)
from notification_engine.services.requests import (
    AcceptedEvent,
    AcceptedNotification,
    NotificationRequest,
)

KEY_LIFE = timedelta(hours=24)
ATTACHMENT_LIFE = timedelta(days=30)  # from when it is due; after that an e-mail can no longer be replayed with it
MAX_STAMP_AGE_SECONDS = 10.0
GUARD_READ_SECONDS = 2.0


class Handover(Protocol):
    """The daemon's side of accept-with-lease."""

    owner: str
    lease_seconds: float

    def reserve(self, count: int) -> int:
        """How many of these documents may be leased to this process now; what is reserved must be taken or released."""
        ...

    def release(self, count: int) -> None: ...
    def take(self, notifications: Sequence[Notification]) -> None: ...


class Observer(Protocol):
    """Told after the commit, off the caller's way: metrics, history rows and live signals."""

    def accepted(self, notifications: Sequence[Notification]) -> None: ...


@dataclass(slots=True)
class _Draft:
    """A request on its way: its ids and the documents of each recipient."""

    request: NotificationRequest
    caller: Caller
    key: str | None
    ulid: str
    started: float
    attachments: list[Attachment] = field(default_factory=list)

    @property
    def event_id(self) -> str:
        return f"evt_{self.ulid}"

    def notification_id(self, index: int) -> str:
        return f"ntfy_{self.ulid if index == 0 else derived_ulid(self.ulid, index)}"


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
        self._preferences = preferences
        self._endpoints = endpoints
        self._attachments = attachments
        self._catalogue = catalogue
        self._contents = contents
        self._clock = clock
        self._observer = observer
        self._live = live
        self._email_available = email_available
        self._handover = handover
        self._left_due = left_due

    async def accept(
        self, caller: Caller, request: NotificationRequest, *, idempotency_key: str | None
    ) -> AcceptedEvent:
        """Raises Unavailable when nothing may be promised, Conflict while the key's first request is not committed,
        InvalidRequest when the key was used for another body or a value cannot be stored."""
        key = key_digest(caller.sub, idempotency_key) if idempotency_key else None
        draft = _Draft(request, caller, key, new_ulid(int(self._clock.now().timestamp() * 1000)), time.monotonic())
        draft.attachments = await self._keep(request)
        notifications = await self._plan_all(draft)
        if key is None:
            await self._commit(draft, notifications, guard_done=False)
            return _answer(draft, notifications)
        return await self._accept_guarded(draft, notifications)

    async def accept_batch(
        self, caller: Caller, items: Sequence[tuple[NotificationRequest, str | None]]
    ) -> list[AcceptedEvent | EngineError]:
        """Each item with its own result; all travel in the same group commits."""
        return list(await asyncio.gather(*(_own_result(self.accept(caller, r, idempotency_key=k)) for r, k in items)))

    async def _accept_guarded(self, draft: _Draft, notifications: list[list[Notification]]) -> AcceptedEvent:
        assert draft.key is not None
        statuses = tuple(str(parts[0].status) for parts in notifications)
        notifications[0][0].idempotency = Idempotency(draft.key, draft.request.fingerprint, statuses)
        if await self._commit_guard(draft, notifications[0][:1]):
            await self._commit(draft, notifications, guard_done=True)
            return _answer(draft, notifications)
        stored = await self._read_guard(draft.key)
        if stored is None:
            raise Conflict("The first request with this Idempotency-Key is not committed yet; send it again.")
        if stored.created_at < self._clock.now() - KEY_LIFE:
            await self._store.release_idempotency_key(draft.key, self._clock.now() - KEY_LIFE)
            return await self._accept_guarded(draft, notifications)
        if stored.idempotency is None or stored.idempotency.body != draft.request.fingerprint:
            raise InvalidRequest("This Idempotency-Key was used with another body.", field="Idempotency-Key")
        return await self._complete(draft, stored)

    async def _complete(self, draft: _Draft, stored: Notification) -> AcceptedEvent:
        """Writes what a dead process did not, under ids that follow from the guard's; gives the stored answer."""
        first = _Draft(draft.request, draft.caller, None, stored.id.removeprefix("ntfy_"), draft.started)
        followers = [n for parts in await self._plan_all(first, skip_guard=True) for n in parts]
        there = await self._store.present([n.id for n in followers])
        if missing := [n for n in followers if n.id not in there]:
            # Never leased: the first request may be writing the same ids under a lease of its own.
            await self._store.insert(await self._store.encoded(missing))
            # The rows must follow from here: the janitor's watermark may have passed the first request's moment.
            self._announce(missing)
        assert stored.idempotency is not None
        accepted = [
            AcceptedNotification(first.notification_id(i), r.user_id, NotificationStatus(s))
            for i, (r, s) in enumerate(zip(draft.request.recipients, stored.idempotency.statuses, strict=True))
        ]
        return AcceptedEvent(first.event_id, accepted)

    async def _keep(self, request: NotificationRequest) -> list[Attachment]:
        """Contents are kept before the notification that names them; a repeated request finds the same ids."""
        contents = [a.content for a in request.attachments if a.content is not None]
        until = max(request.scheduled_at or self._clock.now(), self._clock.now()) + ATTACHMENT_LIFE
        ids = iter(await self._attachments.keep(contents, until) if contents else [])
        return [
            Attachment(a.filename, a.content_type, next(ids) if a.content is not None else None, a.url)
            for a in request.attachments
        ]

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

    async def _plan_all(self, draft: _Draft, *, skip_guard: bool = False) -> list[list[Notification]]:
        """For each recipient its document and the siblings beyond 32 deliveries."""
        recipients = draft.request.recipients
        kind = await self._catalogue.resolve(draft.request.notification_type)
        channels = [tuple(r.channels or draft.request.channels or kind.channels) for r in recipients]
        endpoints = await self._endpoints.enabled() if any(Channel.WEBHOOK in c for c in channels) else []
        if len(recipients) == 1:
            preferences = [await self._preferences.get(recipients[0].user_id)]  # a task costs more than a cached answer
        else:
            preferences = await asyncio.gather(*(self._preferences.get(r.user_id) for r in recipients))
        contents = await self._contents.of(draft.request, kind, draft.notification_id)
        return [
            self._plan_one(draft, i, kind, channels[i], contents[i], preference, endpoints)[skip_guard and i == 0 :]
            for i, preference in enumerate(preferences)
        ]

    def _plan_one(
        self,
        draft: _Draft,
        index: int,
        kind: NotificationType,
        channels: tuple[Channel, ...],
        content: Content,
        preference: Preference,
        endpoints: Sequence[WebhookEndpoint],
    ) -> list[Notification]:
        request, now = draft.request, self._clock.now()
        recipient = request.recipients[index]
        due_at = max(request.scheduled_at, now) if request.scheduled_at else now
        notification_id = draft.notification_id(index)
        given = PlanInput(
            notification_id=notification_id,
            notification_type=request.notification_type,
            channels=channels,
            email=recipient.email,
            preference=preference,
            endpoints=endpoints,
            email_available=self._email_available,
            now=now,
            due_at=due_at,
            transactional=kind.transactional,
            rendered=not (content.template and content.template.failed),
        )
        planned = plan(given)
        notification = Notification(
            id=notification_id,
            event_id=draft.event_id,
            user_id=recipient.user_id,
            notification_type=request.notification_type,
            priority=request.priority or kind.priority,
            title=content.title,
            body=content.body,
            data=request.data,
            actions=list(request.actions),
            attachments=draft.attachments,
            channels=list(channels),
            created_at=now,
            email=recipient.email,
            locale=recipient.locale,
            time_zone=recipient.time_zone,
            template=content.template,
            on_unknown=kind.on_unknown,
            transactional=kind.transactional,
            sensitive=kind.sensitive,
            scheduled_at=request.scheduled_at,
            expires_at=request.expires_at,
            deliveries=planned.deliveries,
            decisions=planned.decisions,
            inbox=planned.inbox,
            dedup_key=request.dedup_key,
            correlation_id=request.correlation_id,
            source=draft.caller.sub,
        )
        parts = split(notification)
        for part in parts:
            _settle_times(part, scheduled=request.scheduled_at is not None and due_at > now)
        return parts

    async def _commit_guard(self, draft: _Draft, guard: list[Notification]) -> bool:
        """False when the key is taken."""
        return not isinstance((await self._write(draft, guard))[0], KeyTaken)

    async def _commit(self, draft: _Draft, notifications: list[list[Notification]], *, guard_done: bool) -> None:
        flat = [part for parts in notifications for part in parts]
        if rest := flat[1:] if guard_done else flat:
            await self._write(draft, rest)

    async def _write(self, draft: _Draft, notifications: list[Notification]) -> list[object]:
        """One group commit; leases what this process has room for, and hands it to the lanes after the commit."""
        leased = self._lease(notifications)
        try:
            results: list[object] = list(await self._store.insert(await self._store.encoded(notifications)))
        except BaseException:
            self._unreserve(len(leased))
            raise
        stored = [n for n, r in zip(notifications, results, strict=True) if not isinstance(r, KeyTaken)]
        taken = {n.id for n in stored}
        self._unreserve(sum(n.id not in taken for n in leased))
        if time.monotonic() - draft.started > MAX_STAMP_AGE_SECONDS:
            await self._store.restamp([n.id for n in stored if n.inbox and n.inbox.visible_at])
        if self._handover and leased:
            self._handover.take([n for n in leased if n.id in taken])
        self._announce(stored)
        return results

    def _lease(self, notifications: list[Notification]) -> list[Notification]:
        """Marks what this process takes itself; the rest is simply due."""
        if self._handover is None:
            return []
        now = self._clock.now()
        due = [n for n in notifications if n.due_at is not None and n.due_at <= now]
        leased = due[: self._handover.reserve(len(due))]
        expires_at = now + timedelta(seconds=self._handover.lease_seconds)
        for notification in leased:
            lease = notification.lease
            lease.owner, lease.token, lease.fence, lease.expires_at = (
                self._handover.owner,
                notification.id,
                1,
                expires_at,
            )
            notification.due_at = expires_at
            for delivery in notification.deliveries:
                if delivery.next_attempt_at is not None:
                    delivery.claim = 1
        return leased

    def _unreserve(self, count: int) -> None:
        if self._handover and count:
            self._handover.release(count)

    def _announce(self, stored: list[Notification]) -> None:
        self._observer.accepted(stored)
        now = self._clock.now()
        if any(n.due_at is not None and n.due_at <= now for n in stored):
            self._left_due()  # without a lease of ours: whoever has room may have it at once
        for notification in stored:
            if notification.inbox and notification.inbox.visible_at:
                self._live.surfaced(notification)


def key_digest(sub: str, key: str) -> str:
    """Keys belong to the caller: the hash is over subject and key."""
    return hashlib.sha256(f"{sub}\0{key}".encode()).hexdigest()


def split(notification: Notification) -> list[Notification]:
    """The document and, past 32 deliveries, siblings that hold the rest. Siblings have no inbox."""
    deliveries = notification.deliveries
    if len(deliveries) <= MAX_DELIVERIES:
        return [notification]
    parts = []
    for part, start in enumerate(range(0, len(deliveries), MAX_DELIVERIES)):
        copy = notification if part == 0 else _sibling(notification, part)
        parts.append((copy, deliveries[start : start + MAX_DELIVERIES]))
    for copy, own in parts:
        copy.deliveries = own
    return [copy for copy, _ in parts]


def _sibling(notification: Notification, part: int) -> Notification:
    names = ("event_id", "user_id", "notification_type", "priority", "title", "body", "channels", "created_at")
    more = (
        "data",
        "actions",
        "attachments",
        "email",
        "locale",
        "time_zone",
        "template",
        "on_unknown",
        "transactional",
        "scheduled_at",
        "expires_at",
        "correlation_id",
        "source",
    )
    values = {name: getattr(notification, name) for name in names + more}
    return Notification(id=sibling_id(notification.id, part), **values)


def _settle_times(notification: Notification, *, scheduled: bool) -> None:
    notification.status = derive_status(notification.deliveries, scheduled_ahead=scheduled)
    times = [d.next_attempt_at for d in notification.deliveries if d.next_attempt_at is not None]
    notification.due_at = min(times) if times else None


def _answer(draft: _Draft, notifications: list[list[Notification]]) -> AcceptedEvent:
    return AcceptedEvent(
        draft.event_id, [AcceptedNotification(p[0].id, p[0].user_id, p[0].status) for p in notifications]
    )


async def _own_result(accepting: Awaitable[AcceptedEvent]) -> AcceptedEvent | EngineError:
    try:
        return await accepting
    except (RequestError, Unavailable) as error:
        return error
