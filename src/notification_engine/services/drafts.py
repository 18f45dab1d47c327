"""Drafts: from a request to its documents, not yet stored. What the stores know of its recipients is gathered, then
each recipient's notification is planned.

Invariant: the ids of a request's notifications follow from the first one's.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from notification_engine.domain.attachment import Attachment
from notification_engine.domain.caller import Caller
from notification_engine.domain.delivery import Channel, derive_status
from notification_engine.domain.notification import MAX_DELIVERIES, Notification, sibling_id
from notification_engine.domain.notification_type import NotificationType
from notification_engine.domain.preference import Preference
from notification_engine.domain.webhook import WebhookEndpoint
from notification_engine.kit.clock import Clock
from notification_engine.kit.ids import derived_ulid, new_ulid
from notification_engine.kit.tracing import current_traceparent
from notification_engine.services.catalogue import Catalogue
from notification_engine.services.content import Content, Contents, given_words
from notification_engine.services.plan import Plan, PlanInput, plan
from notification_engine.services.ports import AttachmentStore, EndpointStore, PreferenceStore
from notification_engine.services.requests import NotificationRequest, RecipientRequest

ATTACHMENT_LIFE = timedelta(days=30)  # from when it is due; after that an e-mail can no longer be replayed with it
SLICE = 100  # requests of a batch that are planned before others of the process have a turn

Documents = list[list[Notification]]  # for each recipient: its document and the siblings beyond 32 deliveries


@dataclass(slots=True)
class Draft:
    """A request on its way, and what its ids follow from."""

    request: NotificationRequest
    caller: Caller
    ulid: str
    started: float
    attachments: list[Attachment] = field(default_factory=list)
    traceparent: str | None = field(default_factory=current_traceparent)

    @property
    def event_id(self) -> str:
        return f"evt_{self.ulid}"

    def notification_id(self, index: int) -> str:
        return f"ntfy_{self.ulid if index == 0 else derived_ulid(self.ulid, index)}"


class Drafts:
    def __init__(
        self,
        preferences: PreferenceStore,
        endpoints: EndpointStore,
        attachments: AttachmentStore,
        catalogue: Catalogue,
        contents: Contents,
        clock: Clock,
        *,
        email_available: bool,
    ) -> None:
        self._preferences = preferences
        self._endpoints = endpoints
        self._attachments = attachments
        self._catalogue = catalogue
        self._contents = contents
        self._clock = clock
        self._email_available = email_available

    def begin(self, caller: Caller, request: NotificationRequest) -> Draft:
        return Draft(request, caller, new_ulid(int(self._clock.now().timestamp() * 1000)), time.monotonic())

    async def keep_attachments(self, draft: Draft) -> None:
        """Contents are kept before the notification that names them; a repeated request finds the same ids."""
        request = draft.request
        if not request.attachments:
            return
        contents = [a.content for a in request.attachments if a.content is not None]
        now = self._clock.now()
        until = max(request.scheduled_at or now, now) + ATTACHMENT_LIFE
        ids = iter(await self._attachments.keep(contents, until) if contents else [])
        draft.attachments = [
            Attachment(a.filename, a.content_type, next(ids) if a.content is not None else None, a.url)
            for a in request.attachments
        ]

    async def plan(self, draft: Draft) -> Documents:
        """Renders what comes from a template. Raises InvalidRequest."""
        request = draft.request
        kind = await self._catalogue.resolve(request.notification_type)
        channels = _channels(request, kind)
        endpoints = await self._endpoints_for(channels)
        preferences = await self._preferences.get_many([r.user_id for r in request.recipients])
        contents = await self._contents.of(request, kind, draft.notification_id)
        return self._planned(draft, kind, channels, contents, preferences, endpoints)

    async def plan_given(self, drafts: Sequence[Draft]) -> list[Documents]:
        """Many requests whose words are given, with one look at what is known of all their recipients."""
        users = [r.user_id for draft in drafts for r in draft.request.recipients]
        known = dict(zip(users, await self._preferences.get_many(users), strict=True))
        planned = []
        for index, draft in enumerate(drafts):
            if index % SLICE == SLICE - 1:
                await asyncio.sleep(0)
            request = draft.request
            kind = await self._catalogue.resolve(request.notification_type)
            channels = _channels(request, kind)
            contents = [given_words(request)] * len(request.recipients)
            preferences = [known[r.user_id] for r in request.recipients]
            endpoints = await self._endpoints_for(channels)
            planned.append(self._planned(draft, kind, channels, contents, preferences, endpoints))
        return planned

    async def _endpoints_for(self, channels: Sequence[tuple[Channel, ...]]) -> Sequence[WebhookEndpoint]:
        return await self._endpoints.enabled() if any(Channel.WEBHOOK in c for c in channels) else ()

    def _planned(
        self,
        draft: Draft,
        kind: NotificationType,
        channels: Sequence[tuple[Channel, ...]],
        contents: Sequence[Content],
        preferences: Sequence[Preference],
        endpoints: Sequence[WebhookEndpoint],
    ) -> Documents:
        request, now = draft.request, self._clock.now()
        due_at = max(request.scheduled_at, now) if request.scheduled_at else now
        documents: Documents = []
        for index, recipient in enumerate(request.recipients):
            content = contents[index]
            given = PlanInput(
                notification_id=draft.notification_id(index),
                notification_type=request.notification_type,
                channels=channels[index],
                email=recipient.email,
                preference=preferences[index],
                endpoints=endpoints,
                email_available=self._email_available,
                now=now,
                due_at=due_at,
                transactional=kind.transactional,
                rendered=not (content.template and content.template.failed),
            )
            parts = split(_notification(draft, recipient, kind, content, given, plan(given)))
            for part in parts:
                _settle_times(part, scheduled=due_at > now)
            documents.append(parts)
        return documents


def _channels(request: NotificationRequest, kind: NotificationType) -> list[tuple[Channel, ...]]:
    """Of each recipient: its own, or the request's, or the type's."""
    usual = tuple(request.channels or kind.channels)
    return [tuple(r.channels) if r.channels else usual for r in request.recipients]


def _notification(
    draft: Draft,
    recipient: RecipientRequest,
    kind: NotificationType,
    content: Content,
    given: PlanInput,
    planned: Plan,
) -> Notification:
    request = draft.request
    return Notification(
        id=given.notification_id,
        event_id=draft.event_id,
        user_id=recipient.user_id,
        notification_type=request.notification_type,
        priority=request.priority or kind.priority,
        title=content.title,
        body=content.body,
        data=request.data,
        actions=list(request.actions),
        attachments=draft.attachments,
        channels=list(given.channels),
        created_at=given.now,
        email=recipient.email,
        locale=recipient.locale,
        time_zone=recipient.time_zone,
        template=content.template,
        on_unknown=kind.on_unknown,
        transactional=kind.transactional,
        scheduled_at=request.scheduled_at,
        expires_at=request.expires_at,
        deliveries=planned.deliveries,
        decisions=planned.decisions,
        inbox=planned.inbox,
        dedup_key=request.dedup_key,
        correlation_id=request.correlation_id,
        traceparent=draft.traceparent,
        source=draft.caller.sub,
        sensitive=kind.sensitive,
    )


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


_SHARED = (
    "event_id",
    "user_id",
    "notification_type",
    "priority",
    "title",
    "body",
    "channels",
    "created_at",
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
    "traceparent",
    "source",
    "sensitive",
)


def _sibling(notification: Notification, part: int) -> Notification:
    values = {name: getattr(notification, name) for name in _SHARED}
    return Notification(id=sibling_id(notification.id, part), **values)


def _settle_times(notification: Notification, *, scheduled: bool) -> None:
    notification.status = derive_status(notification.deliveries, scheduled_ahead=scheduled)
    times: list[datetime] = [d.next_attempt_at for d in notification.deliveries if d.next_attempt_at is not None]
    notification.due_at = min(times) if times else None
