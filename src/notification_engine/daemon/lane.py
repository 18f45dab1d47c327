"""A lane: the sends of one channel, highest priority first, oldest first, never more in flight than its bound.

A tenth of the slots is kept for high and above. Hosts have shares: one that has not yet proven fast has one slot, and
all such hosts together at most three quarters of the lane, in turns, so that slow receivers never become the head of
the line.
What is to run alone (poison) passes through a slot that all lanes of the process share: a death then has one suspect.

What waits for its host's share is kept here up to a bound; past it, what waits for hosts that do not move is shed, so
that it does not take the room of the process either.
"""

import asyncio
import heapq
import itertools
import random
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable

from notification_engine.domain.notification import RANK, Priority
from notification_engine.kit.logging import get_logger
from notification_engine.kit.loop import CANCEL_AGAIN_SECONDS
from notification_engine.services.work import Work

SLOW_SECONDS = 1.0
SHED_SECONDS = 10.0  # until what was shed for a slow host is worth another claim
MAX_HOSTS = 10_000

log = get_logger("delivery-daemon")


class SoloSlot:
    """The one place of a process for what runs alone."""

    def __init__(self) -> None:
        self._taken = False
        self._lanes: list[Lane] = []

    def join(self, lane: "Lane") -> None:
        self._lanes.append(lane)

    def take(self) -> bool:
        free, self._taken = not self._taken, True
        return free

    def free(self) -> None:
        """Every lane may have something that waits for it."""
        self._taken = False
        for lane in self._lanes:
            lane.pump()


class Lane:
    def __init__(
        self,
        name: str,
        bound: int,
        send: Callable[[Work], Awaitable[None]],
        host: Callable[[Work], str],
        *,
        deferred_bound: int | None = None,
        solo_slot: SoloSlot | None = None,
    ) -> None:
        self.name = name
        self.bound = bound
        self._deferred_bound = bound if deferred_bound is None else deferred_bound
        self._moved_at: dict[str, float] = {}  # of hosts in flight: the last end of a send, or the first start
        self._send = send
        self._host = host
        self._heap: list[tuple[int, int, str, Work]] = []
        self._order = itertools.count()
        self._deferred: dict[str, list[tuple[int, int, str, Work]]] = {}  # heaps; the hosts in the order of their turns
        self._solo: deque[Work] = deque()
        self._solo_slot = solo_slot or SoloSlot()
        self._solo_slot.join(self)
        self._by_host: Counter[str] = Counter()
        self._unproven_in_flight = 0
        self._fast: dict[str, bool] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def queued(self) -> int:
        return len(self._heap) + len(self._solo) + sum(len(d) for d in self._deferred.values())

    @property
    def in_flight(self) -> int:
        return len(self._tasks)

    def put(self, work: Work) -> None:
        if work.solo:
            self._solo.append(work)
        else:
            entry = (-work.notification.rank, next(self._order), self._host(work), work)
            heapq.heappush(self._heap, entry)

    def pump(self) -> None:
        """Starts what the bounds allow."""
        if self._solo and self._solo_slot.take():
            self._start(self._solo.popleft(), "", solo=True)
        while self._heap and len(self._tasks) < self._room(-self._heap[0][0]):
            entry = heapq.heappop(self._heap)
            host = entry[2]
            if host and not self._has_share(host):
                heapq.heappush(self._deferred.setdefault(host, []), entry)
            else:
                self._start(entry[3], host, solo=False)

    def clear(self) -> list[Work]:
        """Takes everything that has not begun."""
        rest = [entry[3] for entry in self._heap] + list(self._solo)
        rest += [entry[3] for waiting in self._deferred.values() for entry in waiting]
        self._heap.clear()
        self._solo.clear()
        self._deferred.clear()
        return rest

    def shed(self) -> list[tuple[Work, float]]:
        """Takes what waits past the bound for hosts that do not move, from the longest line first; each with the
        seconds after which it is worth another claim, spread so that they do not all come back at once."""
        excess = sum(map(len, self._deferred.values())) - self._deferred_bound
        if excess <= 0:
            return []
        now = time.monotonic()
        lines = [(-len(line), host) for host, line in self._deferred.items() if not self._moves(host, now)]
        for _, host in lines:
            self._deferred[host].sort()  # a heap still; its last is now the least urgent, not any leaf
        heapq.heapify(lines)
        taken: list[tuple[Work, float]] = []
        while lines and len(taken) < excess:
            length, host = heapq.heappop(lines)
            work = self._deferred[host].pop()[3]
            known_slow = host in self._fast or self._stuck(host, now)
            seconds = SHED_SECONDS if known_slow else SLOW_SECONDS
            taken.append((work, seconds * (1 + random.random())))  # noqa: S311 - jitter, not a secret
            if length < -1:
                heapq.heappush(lines, (length + 1, host))
            else:
                del self._deferred[host]
        return taken

    async def drained(self) -> None:
        while self._tasks:
            await asyncio.wait(set(self._tasks))

    async def abandon(self) -> None:
        """Cuts off what is in flight; nothing of it is settled."""
        self.clear()
        while self._tasks:
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(set(self._tasks), timeout=CANCEL_AGAIN_SECONDS)

    def _moves(self, host: str, now: float) -> bool:
        """Fast, or tried for the first time at this moment: the first answer tells, and at a start all are new."""
        return self._fast.get(host, host in self._moved_at) and not self._stuck(host, now)

    def _stuck(self, host: str, now: float) -> bool:
        return now - self._moved_at.get(host, now) > SLOW_SECONDS

    def _room(self, rank: int) -> int:
        return self.bound if rank >= RANK[Priority.HIGH] else max(1, self.bound - max(1, self.bound // 10))

    def _has_share(self, host: str) -> bool:
        if self._fast.get(host):
            return self._by_host[host] < max(1, self.bound // 2)
        return self._by_host[host] < 1 and self._unproven_room > 0

    @property
    def _unproven_room(self) -> int:
        return max(1, self.bound * 3 // 4) - self._unproven_in_flight

    def _start(self, work: Work, host: str, *, solo: bool) -> None:
        unproven = bool(host) and not self._fast.get(host)
        self._by_host[host] += 1
        self._moved_at.setdefault(host, time.monotonic())
        self._unproven_in_flight += unproven
        task = asyncio.create_task(self._run(work, host, solo=solo, unproven=unproven))
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self.pump()

    async def _run(self, work: Work, host: str, *, solo: bool, unproven: bool) -> None:
        started = time.monotonic()
        try:
            await self._send(work)
        except Exception:
            log.exception("A send was not settled; its lease will expire", delivery_id=work.delivery.id)
        finally:
            self._free(host, unproven=unproven, seconds=time.monotonic() - started)
            if solo:
                self._solo_slot.free()

    def _free(self, host: str, *, unproven: bool, seconds: float) -> None:
        self._by_host[host] -= 1
        self._moved_at[host] = time.monotonic()
        if not self._by_host[host]:
            del self._by_host[host], self._moved_at[host]
        self._unproven_in_flight -= unproven
        if not host:
            return
        if len(self._fast) >= MAX_HOSTS:
            self._fast.clear()
        self._fast[host] = seconds < SLOW_SECONDS
        if self._fast[host]:
            self._undefer(host, max(1, self.bound // 2) - self._by_host[host])
        else:
            self._undefer(host, 0)
        self._offer_turns()

    def _offer_turns(self) -> None:
        """Lets the hosts that waited longest try the free slots of those that have not proven fast."""
        room = self._unproven_room
        if room <= 0:
            return
        idle = (h for h in self._deferred if not self._fast.get(h) and not self._by_host[h])
        for host in list(itertools.islice(idle, room)):
            self._undefer(host, 1)

    def _undefer(self, host: str, count: int) -> None:
        """Gives so many of a host's deferred sends back to the heap; what is left goes to the end of the line."""
        waiting = self._deferred.pop(host, None)
        while waiting and count > 0:
            heapq.heappush(self._heap, heapq.heappop(waiting))
            count -= 1
        if waiting:
            self._deferred[host] = waiting
