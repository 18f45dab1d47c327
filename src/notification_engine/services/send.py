"""Send: one delivery through its channel, as a short pipe: expired? suppressed? mark where needed, call, settle.

Invariant: no provider is called under a lease that has lapsed, nor for a delivery whose fence is not ours when its
write-ahead mark is written, and a channel's failure of any kind becomes an outcome.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence

from notification_engine.domain.delivery import Channel, DeliveryStatus, Reason
from notification_engine.domain.errors import EngineError
from notification_engine.domain.notification import base_id
from notification_engine.domain.outcome import Attempt, Message, Outcome, Retry, Unknown
from notification_engine.domain.suppression import Suppression, SuppressionReason
from notification_engine.kit.clock import Clock
from notification_engine.kit.logging import get_logger
from notification_engine.services.departed import Departed
from notification_engine.services.endpoint_watch import EndpointWatch
from notification_engine.services.ports import Deadline, HistoryStore, NotificationStore, Sender, SuppressionStore
from notification_engine.services.rows import unsettled_rows
from notification_engine.services.settle import Settle
from notification_engine.services.work import Work

SOLO_AFTER_ABANDONED = 2  # claims that ended in a dead process, before a notification runs alone
MAX_SOLO_DEATHS = 3  # deaths while alone, before it is a dead letter

log = get_logger("delivery-daemon")


class Send:
    def __init__(
        self,
        senders: Mapping[Channel, Sender],
        settle: Settle,
        store: NotificationStore,
        history: HistoryStore,
        watch: EndpointWatch,
        suppressions: SuppressionStore,
        clock: Clock,
        *,
        patience_seconds: float,
        departed: Departed | None = None,
    ) -> None:
        """`patience_seconds`: how long a store that is away is waited for before a send; a lease's length. `departed`:
        who was erased while it waited here."""
        self._departed = departed
        self._senders = senders
        self._settle = settle
        self._store = store
        self._history = history
        self._watch = watch
        self._suppressions = suppressions
        self._clock = clock
        self._patience_seconds = patience_seconds

    def sender(self, channel: Channel) -> Sender:
        return self._senders[channel]

    async def send(self, work: Work) -> None:
        """One attempt from mark to settlement. Raises only when the store does."""
        if self._lapsed(work):
            log.warning("Not sent: the lease had lapsed, the next claim sends it", delivery_id=work.delivery.id)
            return
        if work.notification.erased:
            await self._not_sent(work, DeliveryStatus.SUPPRESSED, Reason.ERASED, "the recipient's key was deleted")
            return
        notification = work.notification
        if self._departed is not None and self._departed.has(notification.user_id, notification.created_at):
            return
        expires_at = work.notification.expires_at
        if expires_at is not None and expires_at <= self._clock.now():
            await self._not_sent(work, DeliveryStatus.EXPIRED, Reason.EXPIRED, "expires_at had passed")
            return
        suppression = await self._suppression(work)
        if suppression is not None:
            await self._not_sent(
                work, DeliveryStatus.SUPPRESSED, Reason.SUPPRESSED_ADDRESS, f"{suppression.reason} on the list"
            )
            return
        sender = self._senders[work.delivery.channel]
        if work.solo and not await self._store.mark_solo(work.notification.id, work.fence):
            return
        if not sender.repeatable and not await self._settle.mark(work):
            return
        started = time.perf_counter()
        outcome = await self._call(sender, work)
        await self._settle.outcome(work, outcome, (time.perf_counter() - started) * 1000)
        await self._watch.observe(work.delivery.channel, work.delivery.endpoint, outcome)

    def _lapsed(self, work: Work) -> bool:
        """A process that was stopped or starved wakes up with work that may long be another's; a receiver of webhooks
        would get it twice, because no mark is written ahead that could fail."""
        expires_at = work.notification.lease.expires_at
        return expires_at is not None and expires_at <= self._clock.now()

    async def _not_sent(self, work: Work, status: DeliveryStatus, reason: Reason, detail: str) -> None:
        """What may have arrived stays unknown and is held for an operator; `expired` or `suppressed` would deny it."""
        if work.resend:
            await self._settle.ended(work, DeliveryStatus.UNKNOWN, reason, f"not sent again: {detail}", held=True)
        else:
            await self._settle.ended(work, status, reason, detail)

    async def _suppression(self, work: Work) -> Suppression | None:
        """Asked before every e-mail. A store that is away is waited for while the lease may still be ours."""
        if work.delivery.channel is not Channel.EMAIL or not work.delivery.endpoint:
            return None
        until = time.monotonic() + self._patience_seconds
        pause = 0.05
        while True:
            try:
                found = await self._suppressions.find(Channel.EMAIL, work.delivery.endpoint)
                return None if found is None or _passes(work, found) else found
            except EngineError:
                if time.monotonic() + pause > until:
                    raise
            await asyncio.sleep(pause)
            pause = min(pause * 2, 1.0)

    async def _call(self, sender: Sender, work: Work) -> Outcome:
        """A channel answers outcomes; what it raises all the same is a defect and is told as one, never lost."""
        deadline = Deadline(time.monotonic() + sender.attempt_seconds)
        try:
            async with asyncio.timeout(sender.attempt_seconds + 1.0):
                return await sender.send(message_of(work), deadline)
        except TimeoutError:
            reason, detail = Reason.TIMEOUT, "the attempt's deadline passed"
        except Exception as error:
            reason, detail = Reason.INTERNAL, type(error).__name__
            log.exception("A channel raised instead of answering an outcome", channel=str(sender.name))
        return (
            Retry(reason, sender.name, detail=detail)
            if sender.repeatable
            else Unknown(reason, sender.name, detail=detail)
        )

    async def resume(self, works: Sequence[Work]) -> list[Work]:
        """What is left to send of re-claimed work: rolls forward what the history knows, ends what is poison, and
        settles as unknown what was marked and left no row. Raises what the store raises; the leases then expire."""
        again = [work for work in works if work.fence > 1]
        if not again:
            return list(works)
        rows = await self._history.of_notifications(sorted({base_id(w.notification.id) for w in again}))
        known = unsettled_rows(again, rows)
        decided = await asyncio.gather(*(self._resume_one(w, known) for w in works))
        return [work for work, to_send in zip(works, decided, strict=True) if to_send]

    async def _resume_one(self, work: Work, known: Mapping[str, Attempt]) -> bool:
        row = known.get(work.delivery.id)
        if row is not None:
            await self._settle.roll_forward(work, row)
            return False
        mark, lease = work.delivery.mark, work.notification.lease
        if work.delivery.status is DeliveryStatus.SENDING and mark and mark["attempt"] > work.delivery.attempts:
            outcome = Unknown(Reason.INTERRUPTED, "engine", detail="the process ended between mark and settlement")
            await self._settle.outcome(work, outcome, 0.0)
            return False
        if lease.solo_deaths >= MAX_SOLO_DEATHS:
            text = f"{lease.solo_deaths} processes ended while it ran alone"
            await self._settle.ended(work, DeliveryStatus.FAILED, Reason.POISON, text)
            return False
        work.solo = lease.abandoned >= SOLO_AFTER_ABANDONED
        return True


def _passes(work: Work, suppression: Suppression) -> bool:
    """Who unsubscribed still gets what is transactional; an address that does not work gets nothing."""
    return work.notification.transactional and suppression.reason is SuppressionReason.UNSUBSCRIBE


def message_of(work: Work) -> Message:
    """One for its whole way through a lane: whether it runs alone, and which attempt it is, is known by then."""
    if work.message is None:
        work.message = _message(work)
    return work.message


def _message(work: Work) -> Message:
    notification, delivery = work.notification, work.delivery
    return Message(
        notification_id=base_id(notification.id),
        delivery_id=delivery.id,
        event_id=notification.event_id,
        user_id=notification.user_id,
        notification_type=notification.notification_type,
        channel=delivery.channel,
        priority=notification.priority,
        title=notification.title,
        body=notification.body,
        created_at=notification.created_at,
        endpoint=delivery.endpoint,
        data=notification.data,
        actions=tuple(notification.actions),
        attachments=tuple(notification.attachments),
        correlation_id=notification.correlation_id,
        attempt=work.attempt,
        solo=work.solo,
        template=notification.template,
        locale=notification.locale,
        time_zone=notification.time_zone,
        transactional=notification.transactional,
    )
