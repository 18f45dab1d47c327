"""What a lane sheds: only what waits for hosts that do not move, only past its bound, the longest line first."""

import asyncio
from collections import Counter

import pytest
from tests.unit.builders import a_work

from notification_engine.daemon import lane as lane_module
from notification_engine.daemon.lane import SHED_SECONDS, SLOW_SECONDS, Lane
from notification_engine.domain.notification import Priority
from notification_engine.services.work import Work


class FakeTime:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> FakeTime:
    fake = FakeTime()
    monkeypatch.setattr(lane_module, "time", fake)
    return fake


class Rig:
    """A lane whose sends end when `gate` is set."""

    def __init__(self, *, deferred_bound: int, bound: int = 20) -> None:
        self.gate = asyncio.Event()
        self.lane = Lane(
            "webhook", bound, self._send, lambda w: w.delivery.endpoint or "", deferred_bound=deferred_bound
        )

    async def _send(self, work: Work) -> None:
        await self.gate.wait()

    async def put(self, host: str, count: int) -> None:
        for index in range(count):
            self.lane.put(a_work(host, index=index))
        self.lane.pump()
        await asyncio.sleep(0)

    async def prove(self, host: str) -> None:
        """One fast send."""
        self.gate.set()
        await self.put(host, 1)
        await self.lane.drained()
        self.gate = asyncio.Event()

    async def end(self) -> None:
        self.gate.set()
        await self.lane.drained()


def hosts(taken: list[tuple[Work, float]]) -> Counter[str]:
    return Counter(work.delivery.endpoint or "" for work, _ in taken)


async def test_what_waits_within_the_bound_stays(time: FakeTime) -> None:
    rig = Rig(deferred_bound=5)
    await rig.put("new", 6)
    assert rig.lane.shed() == []
    await rig.end()


async def test_the_longest_lines_are_shed_first_and_never_below_the_bound(time: FakeTime) -> None:
    rig = Rig(deferred_bound=6)
    await rig.put("long", 9)
    await rig.put("short", 3)
    time.now += SLOW_SECONDS + 0.1
    taken = rig.lane.shed()
    assert hosts(taken) == {"long": 4}
    assert rig.lane.queued == 6
    assert rig.lane.shed() == []
    await rig.end()


async def test_the_least_urgent_is_shed_and_of_it_the_newest(time: FakeTime) -> None:
    """A heap's last entry is any leaf: what is urgent and waits among others must not be put off for it."""
    rig = Rig(deferred_bound=22)
    for index, priority in enumerate([Priority.LOW] * 11 + [Priority.CRITICAL] * 20 + [Priority.LOW] * 10):
        rig.lane.put(a_work("slow", priority, index=index))
        rig.lane.pump()
    time.now += SLOW_SECONDS + 0.1
    taken = [work for work, _ in rig.lane.shed()]
    assert {work.notification.priority for work in taken} == {Priority.LOW}
    assert [int(work.delivery.id.rpartition("_")[2]) for work in taken] == [*range(40, 30, -1), *range(10, 2, -1)]
    await rig.end()


async def test_what_waits_for_a_host_that_moves_stays_however_much_it_is(time: FakeTime) -> None:
    rig = Rig(deferred_bound=5)
    await rig.prove("fast")
    await rig.put("fast", 100)
    assert rig.lane.shed() == []
    await rig.end()


async def test_a_host_that_was_fast_and_is_stuck_is_shed(time: FakeTime) -> None:
    rig = Rig(deferred_bound=5)
    await rig.prove("turned")
    await rig.put("turned", 30)
    time.now += SLOW_SECONDS + 0.1
    assert hosts(rig.lane.shed()) == {"turned": 15}
    await rig.end()


async def test_a_host_that_is_tried_for_the_first_time_is_given_its_second(time: FakeTime) -> None:
    """At a start every host is new: shedding then would put off what the first fast answer lets go at once."""
    rig = Rig(deferred_bound=5)
    await rig.put("new", 100)
    time.now += SLOW_SECONDS - 0.1
    assert rig.lane.shed() == []
    time.now += 0.2
    assert hosts(rig.lane.shed()) == {"new": 94}
    await rig.end()


async def test_a_host_that_has_had_no_turn_is_tried_again_sooner_than_one_known_as_slow(time: FakeTime) -> None:
    rig = Rig(deferred_bound=0)
    tried = [f"tried {index}" for index in range(15)]  # three quarters of the lane
    for host in tried:
        await rig.put(host, 1)
    await rig.put("waits for its turn", 20)
    taken = rig.lane.shed()
    assert len(taken) == 20
    assert all(SLOW_SECONDS <= seconds <= 2 * SLOW_SECONDS for _, seconds in taken)
    await rig.put(tried[0], 20)
    time.now += SLOW_SECONDS + 0.1
    assert all(SHED_SECONDS <= seconds <= 2 * SHED_SECONDS for _, seconds in rig.lane.shed())
    await rig.end()


async def test_what_was_shed_is_not_begun_and_the_rest_is(time: FakeTime) -> None:
    rig = Rig(deferred_bound=2)
    await rig.put("host", 10)
    time.now += SLOW_SECONDS + 0.1
    taken = rig.lane.shed()
    rig.gate.set()
    while rig.lane.queued or rig.lane.in_flight:
        await rig.lane.drained()
    assert len(taken) == 7
    await rig.put("host", 1)
    await rig.lane.drained()
    assert rig.lane.queued == 0, "an emptied line is no obstacle"
