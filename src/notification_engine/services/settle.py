"""Settle: outcomes into state. History first, then the fenced change, both in batches.

Invariant: what a worker without its lease brings back is recorded as `stale` and changes no state. The store being away
delays a settlement while the lease may still be ours; after that the next claim rolls the history forward.
"""

import asyncio
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from notification_engine.domain.delivery import Channel, Delivery, DeliveryStatus, Reason
from notification_engine.domain.errors import EngineError
from notification_engine.domain.notification import Notification, base_id
from notification_engine.domain.outcome import (
    Accepted,
    Attempt,
    Delivered,
    Outcome,
    Postponed,
    Rejected,
    Retry,
    Unknown,
)
from notification_engine.domain.retry import UNKNOWN_GRACE_SECONDS, RetryPolicy, resends_unknown
from notification_engine.kit.batching import Batcher
from notification_engine.kit.clock import Clock
from notification_engine.kit.logging import get_logger
from notification_engine.services.ports import Change, HistoryStore, Live, NotificationStore, Recorder

S = DeliveryStatus
log = get_logger("delivery-daemon")


@dataclass(slots=True)
class Work:
    """One delivery in the hands of a lane, under one fence. `solo`: it runs alone behind a mark."""

    notification: Notification
    delivery: Delivery
    fence: int
    solo: bool = False

    @property
    def attempt(self) -> int:
        return self.delivery.attempts + 1

    @property
    def resend(self) -> bool:
        """Whether an unknown outcome of it was already met with one more send."""
        return self.delivery.status is S.UNKNOWN or bool((self.delivery.mark or {}).get("resend"))


Asked = Accepted | Delivered | Rejected | Retry | Unknown
_STATES = frozenset(map(str, S))  # rows beside the attempts say something else
Item = tuple[tuple[Attempt, ...], Change]


class Settle:
    def __init__(
        self,
        store: NotificationStore,
        history: HistoryStore,
        clock: Clock,
        recorder: Recorder,
        live: Live,
        policies: Mapping[Channel, RetryPolicy],
        *,
        lease_seconds: float,
        max_waiting: int,
    ) -> None:
        self._store = store
        self._history = history
        self._clock = clock
        self._recorder = recorder
        self._live = live
        self._policies = policies
        self._lease_seconds = lease_seconds
        self._batcher: Batcher[Item, bool] = Batcher(self._flush, max_batch=500, max_waiting=max_waiting, concurrency=2)

    async def mark(self, work: Work) -> bool:
        """Writes ahead that a send which cannot be repeated safely begins. False: the lease is no longer ours."""
        mark = {"fence": work.fence, "attempt": work.attempt, "resend": int(work.resend)}
        document_id = work.notification.id
        change = Change(document_id, work.delivery.id, work.fence, S.SENDING, mark=mark, release=False)
        held = await self._batcher.submit(((), change))
        if held:
            work.delivery.mark = mark
        return held

    async def outcome(self, work: Work, outcome: Outcome, latency_ms: float) -> bool:
        """The next state of a delivery after one attempt. False: stale."""
        if isinstance(outcome, Postponed):
            return await self._postpone(work, outcome)
        passed_over = self._passed_over(work, outcome, latency_ms)
        own_ms = latency_ms - sum(row.latency_ms or 0.0 for row in passed_over)
        return await self._record(work, self._attempt(work, outcome, own_ms), passed_over)

    async def ended(
        self, work: Work, status: DeliveryStatus, reason: Reason, detail: str, *, held: bool = False
    ) -> bool:
        """An end without an attempt: expired, suppressed, or dead by the poison rule."""
        attempt = self._row(work, status, provider="engine", reason=reason, detail=detail, latency_ms=None)
        return await self._record(work, replace(attempt, held=held))

    async def roll_forward(self, work: Work, row: Attempt) -> bool:
        """Applies what the history already knows and a dead worker did not settle."""
        return await self._batcher.submit(((), _change(work, row)))

    async def surfaced(self, work: Work) -> None:
        """A snooze that ended."""
        change = Change(work.notification.id, "", work.fence, S.DELIVERED, surface=True)
        if await self._batcher.submit(((), change)):
            self._surface(work.notification)

    async def drain(self) -> None:
        await self._batcher.drain()

    async def _postpone(self, work: Work, outcome: Postponed) -> bool:
        """Nobody was asked, so nothing is counted; it is due again when it is worth asking."""
        change = Change(
            work.notification.id,
            work.delivery.id,
            work.fence,
            S.PENDING,
            reason=outcome.reason,
            next_attempt_seconds=outcome.after,
        )
        return await self._batcher.submit(((), change))

    async def _record(self, work: Work, attempt: Attempt, passed_over: Sequence[Attempt] = ()) -> bool:
        change = _change(work, attempt)
        held = await self._batcher.submit(((*passed_over, attempt), change))
        for row in passed_over:
            self._recorder.attempted(
                row.channel, row.provider or "engine", row.delivery_status, row.reason, row.latency_ms or 0.0
            )
        self._observe(work, attempt, held)
        if not held:
            await self._history.append([replace(attempt, delivery_status="stale", suffix=":stale")])
        elif change.surface:
            self._surface(work.notification)
        return held

    def _surface(self, notification: Notification) -> None:
        """The signal carries our own estimate of the server's moment; the replay reads the stored one."""
        if notification.inbox is not None:
            notification.inbox.visible_at = self._clock.now()
            notification.inbox.snoozed_until = None
            self._live.surfaced(notification)

    async def _flush(self, batch: list[Item]) -> list[bool | BaseException]:
        """Retries while the leases may still be ours: an outcome in hand is worth waiting for."""
        until = time.monotonic() + self._lease_seconds
        pause = 0.05
        while True:
            try:
                if rows := [row for rows, _ in batch for row in rows]:
                    await self._history.append(rows)
                return list(await self._store.apply([change for _, change in batch]))
            except EngineError as error:
                if time.monotonic() + pause > until:
                    log.error("Settlements given up; the next claim rolls them forward", count=len(batch))
                    return [error] * len(batch)
                await asyncio.sleep(pause)
                pause = min(pause * 2, 1.0)

    def _attempt(self, work: Work, outcome: Asked, latency_ms: float) -> Attempt:
        row = self._row(work, S.DELIVERED, provider=outcome.provider, latency_ms=latency_ms, detail=outcome.detail)
        match outcome:
            case Delivered():
                return row
            case Accepted(provider_message_id=message_id):
                return replace(row, delivery_status=S.ACCEPTED, provider_message_id=message_id)
            case Rejected(reason=reason):
                return replace(row, delivery_status=S.FAILED, reason=reason)
            case Unknown(reason=reason):
                resends = resends_unknown(work.notification.priority, work.resend, work.notification.on_unknown)
                grace = UNKNOWN_GRACE_SECONDS if resends else None
                return replace(
                    row, delivery_status=S.UNKNOWN, reason=reason, next_attempt_seconds=grace, held=not resends
                )
            case Retry(reason=reason, after=after):
                policy = self._policies[work.delivery.channel]
                delay = policy.delay(work.attempt - work.delivery.rounds_from, after, random.random())  # noqa: S311 - jitter, not a secret
                status = S.FAILED if delay is None else S.PENDING
                return replace(row, delivery_status=status, reason=reason, next_attempt_seconds=delay)

    def _passed_over(self, work: Work, outcome: Outcome, round_ms: float) -> list[Attempt]:
        """A row for each provider that refused before the last one was asked, at the moment of its refusal; they stand
        beside the attempt that decides."""
        if isinstance(outcome, Delivered | Postponed):
            return []
        rows = []
        at = self._clock.now() - timedelta(milliseconds=round_ms)
        for index, call in enumerate(outcome.passed_over):
            at += timedelta(milliseconds=call.latency_ms)
            row = self._row(
                work,
                S.FAILED,
                provider=call.provider,
                reason=call.reason,
                detail=call.detail,
                latency_ms=call.latency_ms,
            )
            rows.append(replace(row, timestamp=at, delivery_status="passed_over", suffix=f":passed_over:{index}"))
        return rows

    def _row(
        self,
        work: Work,
        status: DeliveryStatus,
        *,
        provider: str,
        latency_ms: float | None,
        detail: str | None,
        reason: Reason | None = None,
    ) -> Attempt:
        return Attempt(
            notification_id=base_id(work.notification.id),
            delivery_id=work.delivery.id,
            user_id=work.notification.user_id,
            channel=work.delivery.channel,
            fence=work.fence,
            attempt=work.attempt,
            delivery_status=status,
            timestamp=self._clock.now(),
            provider=provider,
            endpoint=work.delivery.endpoint if work.delivery.channel is Channel.WEBHOOK else None,
            reason=reason,
            latency_ms=latency_ms,
            detail=detail,
        )

    def _observe(self, work: Work, attempt: Attempt, held: bool) -> None:
        channel, status, reason = work.delivery.channel, attempt.delivery_status, attempt.reason
        provider = attempt.provider or "engine"
        self._recorder.attempted(channel, provider, status, reason, attempt.latency_ms or 0.0)
        if not held:
            self._recorder.stale(1)
            return
        begun = work.notification.scheduled_at or work.notification.created_at
        seconds = max(0.0, (attempt.timestamp - max(begun, work.notification.created_at)).total_seconds())
        if attempt.next_attempt_seconds is None:
            self._recorder.settled(channel, DeliveryStatus(status), reason, seconds)
        log_attempt(work, attempt, seconds)


def _change(work: Work, row: Attempt) -> Change:
    status = DeliveryStatus(row.delivery_status)
    return Change(
        document_id=work.notification.id,
        delivery_id=work.delivery.id,
        fence=work.fence,
        status=status,
        attempts=row.attempt,
        provider=row.provider,
        provider_message_id=row.provider_message_id,
        reason=row.reason,
        next_attempt_seconds=row.next_attempt_seconds,
        held=row.held,
        surface=work.delivery.channel is Channel.IN_APP and status is S.DELIVERED,
    )


_SENTENCES = {
    S.DELIVERED: "Notification delivered successfully",
    S.ACCEPTED: "Notification accepted by the provider",
    S.PENDING: "Notification delivery will be tried again",
    S.UNKNOWN: "Notification delivery has an unknown outcome",
    S.EXPIRED: "Notification expired before it was sent",
    S.SUPPRESSED: "Notification suppressed",
}


def log_attempt(work: Work, attempt: Attempt, seconds: float) -> None:
    """The guide's line: one for each attempt, with the time from accept (or schedule) to it."""
    sentence = _SENTENCES.get(DeliveryStatus(attempt.delivery_status), "Notification delivery failed")
    write = log.warning if attempt.reason else log.info
    write(
        sentence,
        user_id=attempt.user_id,
        notification_id=attempt.notification_id,
        channel=str(attempt.channel),
        delivery_id=attempt.delivery_id,
        delivery_time_ms=round(seconds * 1000, 1),
        retry_count=attempt.attempt - 1,
        reason=attempt.reason and str(attempt.reason),
        provider=attempt.provider,
    )


def unsettled_rows(works: Sequence[Work], rows: Sequence[Attempt]) -> dict[str, Attempt]:
    """The newest row of each delivery that its stored state does not show yet."""
    attempts = {w.delivery.id: w.delivery.attempts for w in works}
    newest: dict[str, Attempt] = {}
    for row in sorted(rows, key=lambda r: (r.attempt, r.fence)):
        if row.delivery_status in _STATES and row.attempt > attempts.get(row.delivery_id, row.attempt):
            newest[row.delivery_id] = row
    return newest
