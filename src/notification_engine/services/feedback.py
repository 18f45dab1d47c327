"""Feedback: what a provider reports of an e-mail, into the history and, by the transition table, into the state.

Invariant: an answer of success follows a majority. The raw events are written first, then the history, the suppressions
and choices, then the state; whoever repeats a request that ended in between completes it. A callback holds no lease:
the table alone decides what its word changes.
"""

import hashlib
import time
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from notification_engine.domain.delivery import Channel, Reason
from notification_engine.domain.errors import Unauthenticated
from notification_engine.domain.feedback import (
    STATE_AFTER,
    SUPPRESSES,
    WEIGHT,
    EventKind,
    ProviderEvent,
    weaker_reasons,
)
from notification_engine.domain.notification import base_id
from notification_engine.domain.outcome import Attempt
from notification_engine.domain.suppression import Suppression
from notification_engine.kit import tracing
from notification_engine.kit.clock import Clock
from notification_engine.kit.logging import get_logger
from notification_engine.services.events import sendgrid_events, ses_event
from notification_engine.services.ports import (
    Addressee,
    Change,
    FeedbackStore,
    HistoryStore,
    NotificationStore,
    PreferenceStore,
    Recorder,
    SuppressionStore,
)

REMEMBERED = timedelta(minutes=15)  # longer than a signed request stays fresh

log = get_logger("service-layer")


class Feedback:
    def __init__(
        self,
        store: FeedbackStore,
        notifications: NotificationStore,
        history: HistoryStore,
        suppressions: SuppressionStore,
        preferences: PreferenceStore,
        recorder: Recorder,
        clock: Clock,
    ) -> None:
        self._store = store
        self._notifications = notifications
        self._history = history
        self._suppressions = suppressions
        self._preferences = preferences
        self._recorder = recorder
        self._clock = clock

    async def sendgrid(self, digest: str, body: bytes) -> None:
        """A verified request. `digest` names what was signed; it is remembered once everything is applied, so that a
        replay is refused and the provider's own retry after our 503 is not. Raises Unauthenticated, RequestError (400)
        and Unavailable."""
        if await self._store.seen(digest):
            raise Unauthenticated("This request was answered already.")
        now = self._clock.now()
        await self.apply(sendgrid_events(body, now))
        await self._store.remember(digest, now + REMEMBERED)

    async def ses(self, message_id: str, message: str, published_at: datetime) -> None:
        """A verified SNS notification; its id makes it harmless twice."""
        await self.apply([ses_event(message_id, message, published_at)])

    async def apply(self, events: Sequence[ProviderEvent]) -> None:
        """Raises Unavailable; the same events may then be applied again."""
        since = time.time_ns()
        unique = list({event.id: event for event in events}.values())
        fresh = await self._store.record(unique)
        new = [event for event in unique if event.id in fresh]
        if not new:
            return
        known = await self._store.addressees([e.delivery_id for e in new if e.delivery_id])
        ours = [(event, known[event.delivery_id]) for event in new if event.delivery_id in known]
        await self._history.append([_row(e, to, e.kind) for e, to in ours if e.kind])
        await self._suppressions.report([s for e in new if (s := _suppression(e, known))])
        for event, to in ours:
            if event.kind is EventKind.UNSUBSCRIBED and not to.transactional:
                await self._preferences.switch_off(to.user_id, to.notification_type, Channel.EMAIL, said_at=event.at)
        if changes := _changes(ours):
            await self._notifications.apply(changes)
        await self._store.applied(new, {event.id for event, _ in ours})
        for event in new:
            self._recorder.reported(event.provider, event.kind, matched=event.delivery_id in known)
        for event, to in ours:
            _trace(event, to, since)
        log.info("Provider events applied", provider=new[0].provider, events=len(new), unmatched=len(new) - len(ours))


def _trace(event: ProviderEvent, to: Addressee, since: int) -> None:
    """In the trace of the notification; the callback's own request is named beside it."""
    told = {
        "notification.id": base_id(to.document_id),
        "notification.delivery_id": to.delivery_id,
        "notification.provider": event.provider,
        "notification.event": event.kind and str(event.kind),
    }
    with tracing.resume("callback", to.traceparent, told, since=since, linked=True):
        pass  # what it took is known already


def _row(event: ProviderEvent, to: Addressee, kind: EventKind) -> Attempt:
    """Beside the attempts, under no fence: the same event always has the same row."""
    _, reason = STATE_AFTER.get(kind, (None, None))
    return Attempt(
        notification_id=base_id(to.document_id),
        delivery_id=to.delivery_id,
        user_id=to.user_id,
        channel=Channel.EMAIL,
        fence=0,
        attempt=0,
        delivery_status=f"event_{kind}",
        timestamp=event.at,
        provider=event.provider,
        reason=reason,
        detail=event.detail,
        suffix=f":event:{hashlib.sha256(event.id.encode()).hexdigest()[:24]}",
    )


def _suppression(event: ProviderEvent, known: Mapping[str, Addressee]) -> Suppression | None:
    """Of an e-mail of ours, also one whose notification is no longer stored; then the provider names the address."""
    reason = SUPPRESSES.get(event.kind) if event.kind else None
    if reason is None or event.delivery_id is None:
        return None
    to = known.get(event.delivery_id)
    address = (to.address if to else None) or event.address
    if not address:
        return None
    return Suppression(address, reason, source=event.provider, created_by=event.provider)


def _changes(ours: Sequence[tuple[ProviderEvent, Addressee]]) -> list[Change]:
    """Of several events of a delivery the one that leads furthest: one write, and no order."""
    furthest: dict[str, tuple[EventKind, ProviderEvent, Addressee]] = {}
    for event, to in ours:
        if event.kind not in WEIGHT:
            continue
        before = furthest.get(to.delivery_id)
        if before is None or WEIGHT[event.kind] > WEIGHT[before[0]]:
            furthest[to.delivery_id] = (event.kind, event, to)
    return [_change(kind, to) for kind, _, to in furthest.values()]


def _change(kind: EventKind, to: Addressee) -> Change:
    status, reason = STATE_AFTER[kind]
    over: tuple[Reason, ...] = weaker_reasons(reason)
    return Change(to.document_id, to.delivery_id, None, status, reason=reason, over=over)
