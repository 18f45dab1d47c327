"""The dispatcher: what this process has leased, by lane, until it is settled.

Invariant: a notification counts against the bound from its reservation until its last delivery here is settled or its
lease is given up; nothing is leased past the bound.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from notification_engine.daemon.lane import Lane, SoloSlot
from notification_engine.domain.delivery import Channel
from notification_engine.domain.errors import EngineError
from notification_engine.domain.notification import Lease, Notification
from notification_engine.kit import tracing
from notification_engine.kit.batching import Batcher
from notification_engine.kit.clock import Clock
from notification_engine.kit.logging import get_logger
from notification_engine.services.ports import Deferral, NotificationStore
from notification_engine.services.send import Send, message_of
from notification_engine.services.settle import Settle
from notification_engine.services.work import Work

DEFERRED_SHARE = 8  # of the queue's size, one part may wait in a lane for hosts that do not move

log = get_logger("delivery-daemon")


@dataclass(slots=True)
class _Held:
    fence: int
    since: float
    lease: Lease
    works: set[str] = field(default_factory=set)


class Dispatcher:
    """Implements `services.commit.Handover`."""

    def __init__(
        self,
        store: NotificationStore,
        send: Send,
        settle: Settle,
        channels: Sequence[Channel],
        clock: Clock,
        *,
        owner: str,
        lane_bound: int,
        queue_size: int,
        lease_seconds: float,
        processing_timeout: float,
    ) -> None:
        self.owner = owner
        self.lease_seconds = lease_seconds
        self.draining = False
        self._store = store
        self._send = send
        self._settle = settle
        self._clock = clock
        self._queue_size = queue_size
        self._processing_timeout = processing_timeout
        self._held: dict[str, _Held] = {}
        self._reserved = 0
        self._none_reserved = asyncio.Event()
        self._on_room: Callable[[], None] | None = None
        self._resuming: set[asyncio.Task[None]] = set()
        self._postponing: Batcher[Deferral, None] = Batcher(self._postpone, max_batch=500, max_waiting=queue_size)
        deferred = max(1, queue_size // DEFERRED_SHARE)
        bound = min(lane_bound, queue_size)
        alone = SoloSlot()
        self.lanes: Mapping[Channel, Lane] = {
            c: Lane(c, bound, self._send_one, self._host, deferred_bound=deferred, solo_slot=alone) for c in channels
        }

    @property
    def room(self) -> int:
        return 0 if self.draining else max(0, self._queue_size - len(self._held) - self._reserved)

    def reserve(self, count: int) -> int:
        granted = min(count, self.room)
        self._reserved += granted
        return granted

    def release(self, count: int) -> None:
        self._reserved -= count
        if not self._reserved:
            self._none_reserved.set()
        self._tell_room()

    def when_room(self, tell: Callable[[], None]) -> None:
        """Once half of the bound is free, or at once: the lanes have the other half to go on with meanwhile."""
        self._on_room = tell
        self._tell_room()

    def _tell_room(self) -> None:
        if self._on_room is not None and self.room * 2 >= self._queue_size:
            tell, self._on_room = self._on_room, None
            tell()

    def take(self, notifications: Sequence[Notification]) -> None:
        """Fresh documents of a reservation, inserted under our lease; given back when a drain has begun meanwhile."""
        if self.draining:
            self._background(self._give_back(notifications))
            self.release(len(notifications))
            return
        self.release(len(notifications))
        works = []
        for notification in notifications:
            own = self._works(notification)
            self._register(notification, own)
            works += own
        self._put(works)

    def claimed(self, notifications: Sequence[Notification]) -> None:
        """Documents of a sweep; re-claimed ones are resumed from the history before anything is sent."""
        for notification in notifications:
            self._register(notification, self._works(notification))
        self._background(self._resume(notifications))

    def shed(self) -> None:
        """Gives back, to be claimed later, what waits in a lane for hosts that do not move: it would take the room of
        what can be sent."""
        for lane in self.lanes.values():
            if taken := lane.shed():
                self._background(self._give_back_later(taken))

    async def renew(self) -> None:
        """Extends what is held, but for what has been held longer than the processing timeout."""
        now = time.monotonic()
        young = {i: h for i, h in self._held.items() if now - h.since < self._processing_timeout}
        if young:
            until = self._clock.after(self.lease_seconds)
            await self._store.renew(self.owner, [(i, h.fence) for i, h in young.items()], self.lease_seconds)
            self._extend([h.lease for h in young.values()], until)

    def _extend(self, leases: Sequence[Lease], until: datetime) -> None:
        """What we know of our leases. One that lapsed before the reply may have been another's by then, so that the
        renewal did not meet it: it stays lapsed, and `Send` leaves its work to the next claim."""
        now = self._clock.now()
        for lease in leases:
            if lease.expires_at is not None and lease.expires_at > now:
                lease.expires_at = until

    async def drain(self, seconds: float) -> None:
        """No more claims; what has not begun is given back; what is in flight may end within `seconds`."""
        self.draining = True
        rest = [work for lane in self.lanes.values() for work in lane.clear()]
        try:
            async with asyncio.timeout(seconds):
                await self._until_none_reserved()
                await asyncio.gather(*(lane.drained() for lane in self.lanes.values()), *self._resuming)
                await self._settle.drain()
        except TimeoutError:
            log.warning("The drain's bound passed with sends in flight; their leases will expire")
        held = {w.notification.id: w.fence for w in rest}
        if held:
            await self._store.give_back(list(held.items()))

    async def abandon(self) -> None:
        """Before the ways out are closed: what closing does to a send is no outcome of it. Its lease expires."""
        self.draining = True
        await asyncio.gather(*(lane.abandon() for lane in self.lanes.values()))

    def snapshot(self) -> dict[str, object]:
        lanes = {
            str(c): {"queued": lane.queued, "in_flight": lane.in_flight, "bound": lane.bound}
            for c, lane in self.lanes.items()
        }
        return {"lanes": lanes, "leases_held": len(self._held), "room": self.room, "draining": self.draining}

    def _works(self, notification: Notification) -> list[Work]:
        fence = notification.lease.fence
        return [Work(notification, d, fence) for d in notification.deliveries if d.claim == fence]

    def _register(self, notification: Notification, works: Sequence[Work]) -> None:
        ids = {w.delivery.id for w in works}
        self._held[notification.id] = _Held(notification.lease.fence, time.monotonic(), notification.lease, ids)

    def _background(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._resuming.add(task)
        task.add_done_callback(self._resuming.discard)

    async def _until_none_reserved(self) -> None:
        """What is being inserted under our lease right now is still to be taken."""
        while self._reserved:
            self._none_reserved.clear()
            await self._none_reserved.wait()

    async def _give_back(self, notifications: Sequence[Notification]) -> None:
        try:
            await self._store.give_back([(n.id, n.lease.fence) for n in notifications])
        except EngineError:
            log.warning("Fresh leases could not be given back; they will expire", count=len(notifications))

    async def _resume(self, notifications: Sequence[Notification]) -> None:
        works = [work for notification in notifications for work in self._works(notification)]
        try:
            await self._surface([n for n in notifications if not self._works(n)])
            left = await self._send.resume(works)
            if self.draining:
                await self._store.give_back([(w.notification.id, w.fence) for w in left])
                left = []
        except Exception:
            log.exception("Claimed work could not be resumed; its leases will expire")
            left = []
        remaining = {work.delivery.id for work in left}
        for work in works:
            if work.delivery.id not in remaining:
                self._drop(work)
        self._put(left)

    async def _surface(self, notifications: Sequence[Notification]) -> None:
        """Claimed without a delivery to send: a snooze that ended."""
        for notification in notifications:
            self._held.pop(notification.id, None)
            await self._settle.surfaced(Work(notification, notification.deliveries[0], notification.lease.fence))

    async def _give_back_later(self, taken: Sequence[tuple[Work, float]]) -> None:
        try:
            await self._postponing.submit_many(
                [Deferral(w.notification.id, w.delivery.id, w.fence, seconds) for w, seconds in taken]
            )
        except EngineError:
            log.warning("What waits for slow hosts could not be given back; its leases will expire", count=len(taken))
        finally:
            for work, _ in taken:
                self._drop(work)

    async def _postpone(self, batch: list[Deferral]) -> list[None]:
        await self._store.postpone(batch)
        return [None] * len(batch)

    def _put(self, works: Sequence[Work]) -> None:
        for work in works:
            self.lanes[work.delivery.channel].put(work)
        for lane in self.lanes.values():
            lane.pump()
        self.shed()

    async def _send_one(self, work: Work) -> None:
        """The lane's step of the trace: from the work's arrival here until it is settled."""
        told: tracing.Attributes = {
            "notification.id": work.notification.id,
            "notification.delivery_id": work.delivery.id,
            "notification.channel": str(work.delivery.channel),
            "notification.attempt": work.attempt,
        }
        try:
            with tracing.resume("lane", work.notification.traceparent, told, since=work.since):
                await self._send.send(work)
        finally:
            self._drop(work)

    def _drop(self, work: Work) -> None:
        held = self._held.get(work.notification.id)
        if held is None or held.fence != work.fence:
            return
        held.works.discard(work.delivery.id)
        if not held.works:
            del self._held[work.notification.id]
            self._tell_room()

    def _host(self, work: Work) -> str:
        return self._send.sender(work.delivery.channel).host(message_of(work))
