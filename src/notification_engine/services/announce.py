"""Announce: what follows a 202 off the caller's way: figures, the log, and the history rows of what the insert settled.

Invariant: a row that is not written here (a crash, a store that is away) is re-derived by the janitor from the
notification itself; `settled_at_insert` is the one rule for both.
"""

import asyncio
from collections.abc import Sequence
from datetime import datetime

from notification_engine.domain.delivery import Delivery, DeliveryStatus
from notification_engine.domain.errors import EngineError
from notification_engine.domain.notification import Notification, base_id
from notification_engine.domain.outcome import Attempt
from notification_engine.kit.clock import Clock
from notification_engine.kit.logging import get_logger
from notification_engine.services.ports import HistoryStore, Ledger, Recorder

MAX_WAITING = 50_000
MAX_BATCH = 1000

log = get_logger("service-layer")


class Announce:
    """Implements `services.commit.Observer`."""

    def __init__(self, history: HistoryStore, recorder: Recorder, ledger: Ledger, clock: Clock) -> None:
        self._history = history
        self._recorder = recorder
        self._ledger = ledger
        self._clock = clock
        self._waiting: list[Attempt] = []
        self._writing: asyncio.Task[None] | None = None

    def accepted(self, notifications: Sequence[Notification]) -> None:
        self._recorder.accepted(len(notifications))
        self._ledger.accepted([notification.id for notification in notifications])
        rows = [row for notification in notifications for row in settled_at_insert(notification)]
        now = self._clock.now()
        for row in rows:
            seconds = (now - row.timestamp).total_seconds()
            self._recorder.settled(row.channel, DeliveryStatus(row.delivery_status), row.reason, seconds)
        if notifications:
            _log_accepted(notifications, [row for row in rows if row.delivery_status == DeliveryStatus.DELIVERED], now)
        room = MAX_WAITING - len(self._waiting)
        self._waiting += rows[:room]
        if self._writing is None and self._waiting:
            self._writing = asyncio.create_task(self._write())

    async def drain(self) -> None:
        """Waits until every row is written or given up to the janitor."""
        if self._writing is not None:
            await asyncio.wait([self._writing])

    async def _write(self) -> None:
        """What gathers while one write is under way travels in the next."""
        try:
            while self._waiting:
                rows, self._waiting = self._waiting[:MAX_BATCH], self._waiting[MAX_BATCH:]
                try:
                    await self._history.append(rows)
                except EngineError as error:
                    log.warning(
                        "History rows were not written; the janitor writes them", count=len(rows), error=str(error)
                    )
        finally:
            self._writing = None


def _log_accepted(notifications: Sequence[Notification], delivered: Sequence[Attempt], now: datetime) -> None:
    """One line for all. What was delivered by the insert itself has the words and the fields by which the guide's log
    analysis finds deliveries."""
    first = notifications[0]
    done: dict[str, object] = {}
    if delivered:
        done["channel"], done["delivered"], done["retry_count"] = str(delivered[0].channel), len(delivered), 0
        done["delivery_time_ms"] = round(max(0.0, (now - delivered[0].timestamp).total_seconds()) * 1000, 1)
    log.info(
        "Notification accepted and delivered successfully" if delivered else "Notification accepted",
        user_id=first.user_id,
        notification_id=first.id,
        event_id=first.event_id,
        notifications=len(notifications),
        **done,
    )


def settled_at_insert(notification: Notification) -> list[Attempt]:
    """The history rows of deliveries that ended with the insert: in-app that was due, and what is suppressed."""
    return [_row(notification, delivery) for delivery in notification.deliveries if _by_insert(delivery)]


def _by_insert(delivery: Delivery) -> bool:
    """Never held by a lane: in-app delivered at the moment of its creation, or suppressed."""
    if delivery.status is DeliveryStatus.SUPPRESSED:
        return True
    return delivery.status is DeliveryStatus.DELIVERED and delivery.delivered_at == delivery.created_at


def _row(notification: Notification, delivery: Delivery) -> Attempt:
    return Attempt(
        notification_id=base_id(notification.id),
        delivery_id=delivery.id,
        user_id=notification.user_id,
        channel=delivery.channel,
        fence=0,
        attempt=delivery.attempts,
        delivery_status=delivery.status,
        timestamp=notification.created_at,
        provider=delivery.provider,
        reason=delivery.reason,
    )
