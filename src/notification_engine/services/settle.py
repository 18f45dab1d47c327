"""Settle: outcomes into state. History first, then the fenced change, both in batches.

Invariant: what a worker without its lease brings back is recorded as `stale` and changes no state. The store being away
delays a settlement while the lease may still be ours; after that the next claim rolls the history forward.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

from notification_engine.domain.delivery import Channel, DeliveryStatus, Reason
from notification_engine.domain.errors import EngineError
from notification_engine.domain.notification import Notification
from notification_engine.domain.outcome import (
    Attempt,
    Outcome,
    Postponed,
)
from notification_engine.domain.retry import RetryPolicy
from notification_engine.kit import tracing
from notification_engine.kit.batching import Batcher
from notification_engine.kit.clock import Clock
from notification_engine.kit.logging import get_logger
from notification_engine.services.ports import Change, HistoryStore, Live, NotificationStore, Recorder
from notification_engine.services.rows import attempt_row, change_of, passed_over_rows, row_of
from notification_engine.services.work import Work

S = DeliveryStatus
log = get_logger("delivery-daemon")


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
        now = self._clock.now()
        passed_over = passed_over_rows(work, outcome, now, latency_ms)
        own_ms = latency_ms - sum(row.latency_ms or 0.0 for row in passed_over)
        attempt = attempt_row(work, outcome, now, own_ms, self._policies[work.delivery.channel])
        return await self._record(work, attempt, passed_over)

    async def ended(
        self, work: Work, status: DeliveryStatus, reason: Reason, detail: str, *, held: bool = False
    ) -> bool:
        """An end without an attempt: expired, suppressed, or dead by the poison rule."""
        attempt = row_of(work, status, self._clock.now(), provider="engine", reason=reason, detail=detail)
        return await self._record(work, replace(attempt, held=held))

    async def roll_forward(self, work: Work, row: Attempt) -> bool:
        """Applies what the history already knows and a dead worker did not settle."""
        return await self._batcher.submit(((), change_of(work, row)))

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
        change = change_of(work, attempt)
        held = await self._batcher.submit(((*passed_over, attempt), change))
        _note(attempt, held)
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


def _note(attempt: Attempt, held: bool) -> None:
    """In the lane's step of the trace."""
    status = str(attempt.delivery_status) if held else "stale"
    told = {"notification.status": status, "notification.reason": attempt.reason and str(attempt.reason)}
    tracing.note(told, failed=attempt.delivery_status == S.FAILED)


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
