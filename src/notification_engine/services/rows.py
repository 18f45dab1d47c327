"""What an outcome leaves: the rows of the history, and the next state that follows from the deciding one. Pure."""

import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from notification_engine.domain.delivery import Channel, DeliveryStatus, Reason
from notification_engine.domain.notification import base_id
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
from notification_engine.services.ports import Change
from notification_engine.services.work import Work

S = DeliveryStatus
Asked = Accepted | Delivered | Rejected | Retry | Unknown
_STATES = frozenset(map(str, S))  # rows beside the attempts say something else


def attempt_row(work: Work, outcome: Asked, at: datetime, latency_ms: float, policy: RetryPolicy) -> Attempt:
    """The row that decides."""
    row = row_of(work, S.DELIVERED, at, provider=outcome.provider, latency_ms=latency_ms, detail=outcome.detail)
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
            return replace(row, delivery_status=S.UNKNOWN, reason=reason, next_attempt_seconds=grace, held=not resends)
        case Retry(reason=reason, after=after):
            delay = policy.delay(work.attempt - work.delivery.rounds_from, after, random.random())  # noqa: S311 - jitter, not a secret
            status = S.FAILED if delay is None else S.PENDING
            return replace(row, delivery_status=status, reason=reason, next_attempt_seconds=delay)


def passed_over_rows(work: Work, outcome: Outcome, at: datetime, round_ms: float) -> list[Attempt]:
    """A row for each provider that refused before the last one was asked, at the moment of its refusal; they stand
    beside the attempt that decides."""
    if isinstance(outcome, Delivered | Postponed):
        return []
    rows = []
    at -= timedelta(milliseconds=round_ms)
    for index, call in enumerate(outcome.passed_over):
        at += timedelta(milliseconds=call.latency_ms)
        row = row_of(
            work,
            S.FAILED,
            at,
            provider=call.provider,
            reason=call.reason,
            detail=call.detail,
            latency_ms=call.latency_ms,
        )
        rows.append(replace(row, delivery_status="passed_over", suffix=f":passed_over:{index}"))
    return rows


def row_of(
    work: Work,
    status: DeliveryStatus,
    at: datetime,
    *,
    provider: str,
    detail: str | None,
    latency_ms: float | None = None,
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
        timestamp=at,
        provider=provider,
        endpoint=work.delivery.endpoint if work.delivery.channel is Channel.WEBHOOK else None,
        reason=reason,
        latency_ms=latency_ms,
        detail=detail,
    )


def change_of(work: Work, row: Attempt) -> Change:
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


def unsettled_rows(works: Sequence[Work], rows: Sequence[Attempt]) -> dict[str, Attempt]:
    """The newest row of each delivery that its stored state does not show yet."""
    attempts = {w.delivery.id: w.delivery.attempts for w in works}
    newest: dict[str, Attempt] = {}
    for row in sorted(rows, key=lambda r: (r.attempt, r.fence)):
        if row.delivery_status in _STATES and row.attempt > attempts.get(row.delivery_id, row.attempt):
            newest[row.delivery_id] = row
    return newest
