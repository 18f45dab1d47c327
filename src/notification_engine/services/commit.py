"""Commit: planned documents into the store, many in one group commit, and what follows from it here.

Invariant: what is announced or handed to the lanes is majority-committed, and every reserved place of the daemon is
taken or released.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from typing import Protocol

from notification_engine.domain.errors import EngineError, InvalidRequest
from notification_engine.domain.notification import Notification
from notification_engine.kit import tracing
from notification_engine.kit.clock import Clock
from notification_engine.services.ports import Inserted, KeyTaken, Live, NotificationStore

MAX_STAMP_AGE_SECONDS = 10.0
Written = Inserted | KeyTaken | EngineError


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


class Commit:
    def __init__(
        self,
        store: NotificationStore,
        clock: Clock,
        observer: Observer,
        live: Live,
        *,
        handover: Handover | None,
        left_due: Callable[[], None],
    ) -> None:
        self._store = store
        self._clock = clock
        self._observer = observer
        self._live = live
        self._handover = handover
        self._left_due = left_due

    async def write(self, requests: Sequence[Sequence[Notification]], started: float) -> list[Written]:
        """The documents of each request, and for each request what became of it. Leases what this process has room
        for. `started` is the moment of the first on the monotonic clock. Raises Unavailable when too many wait."""
        leased = self._lease([n for documents in requests for n in documents])
        try:
            results = await self._insert(requests)
            pairs = zip(requests, results, strict=True)
            stored = [n for documents, result in pairs if isinstance(result, Inserted) for n in documents]
            if time.monotonic() - started > MAX_STAMP_AGE_SECONDS:
                await self._store.restamp([n.id for n in stored if n.inbox and n.inbox.visible_at])
        except BaseException:
            self._unreserve(len(leased))
            raise
        self._hand_over(leased, stored)
        self.announce(stored)
        return results

    async def write_unleased(self, documents: Sequence[Notification]) -> None:
        """For ids that another request may be writing under a lease of its own. Raises what its result is."""
        [result] = await self._insert([documents])
        if isinstance(result, EngineError):
            raise result
        self.announce(documents)

    def announce(self, stored: Sequence[Notification]) -> None:
        if not stored:
            return
        self._observer.accepted(stored)
        now = self._clock.now()
        if any(n.due_at is not None and n.due_at <= now for n in stored):
            self._left_due()  # without a lease of ours: whoever has room may have it at once
        for notification in stored:
            if notification.inbox and notification.inbox.visible_at:
                self._live.surfaced(notification)

    async def _insert(self, requests: Sequence[Sequence[Notification]]) -> list[Written]:
        """What cannot be encoded is its own request's fault and does not travel."""
        encoded = await self._store.encoded(requests)
        rows = [row for found in encoded if not isinstance(found, InvalidRequest) for row in found]
        with tracing.span("write", "client", {"notification.count": len(rows)}):
            written = iter(await self._store.insert_each(rows))
        return [
            found if isinstance(found, InvalidRequest) else _of_request([next(written) for _ in found])
            for found in encoded
        ]

    def _lease(self, notifications: Sequence[Notification]) -> list[Notification]:
        """Marks what this process takes itself; the rest is simply due."""
        if self._handover is None:
            return []
        now = self._clock.now()
        due = [n for n in notifications if n.due_at is not None and n.due_at <= now]
        if not due:
            return []
        leased = due[: self._handover.reserve(len(due))]
        expires_at = now + timedelta(seconds=self._handover.lease_seconds)
        for notification in leased:
            lease = notification.lease
            lease.owner, lease.token = self._handover.owner, notification.id
            lease.fence, lease.expires_at = 1, expires_at
            notification.due_at = expires_at
            for delivery in notification.deliveries:
                if delivery.next_attempt_at is not None:
                    delivery.claim = 1
        return leased

    def _hand_over(self, leased: Sequence[Notification], stored: Iterable[Notification]) -> None:
        if self._handover is None or not leased:
            return
        there = {n.id for n in stored}
        taken = [n for n in leased if n.id in there]
        self._unreserve(len(leased) - len(taken))
        if taken:
            self._handover.take(taken)

    def _unreserve(self, count: int) -> None:
        if self._handover and count:
            self._handover.release(count)


def _of_request(written: Sequence[Written]) -> Written:
    """A request is accepted when all of its documents are stored; else it has the first fault."""
    for result in written:
        if not isinstance(result, Inserted):
            return result
    return Inserted()
