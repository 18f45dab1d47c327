"""The lane under a clock of its own: a send ends when the test says so, after the time the test lets pass."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs
from tests.unit.builders import a_work

from notification_engine.daemon import lane as lane_module
from notification_engine.daemon.lane import Lane
from notification_engine.domain.notification import Priority
from notification_engine.services.work import Work

P = Priority


class FakeTime:
    """Stands in for the `time` module of the lane."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


class Rig:
    """A lane whose sends wait to be ended; `begun` keeps them in the order in which they began."""

    def __init__(self, bound: int, time: FakeTime) -> None:
        self.lane = Lane("webhook", bound, self._send, lambda work: work.delivery.endpoint or "")
        self.time = time
        self.begun: list[Work] = []
        self.running: list[tuple[Work, asyncio.Future[None]]] = []
        self.most = 0

    async def _send(self, work: Work) -> None:
        entry = (work, asyncio.get_running_loop().create_future())
        self.begun.append(work)
        self.running.append(entry)
        self.most = max(self.most, len(self.running))
        try:
            await entry[1]
        finally:
            self.running.remove(entry)

    async def put(self, *works: Work) -> None:
        """Puts all, then pumps once, as the dispatcher does."""
        for work in works:
            self.lane.put(work)
        self.lane.pump()
        await self._quiet()

    async def end(self, work: Work, error: Exception | None = None) -> None:
        future = next(f for w, f in self.running if w is work)
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)
        await self._quiet()

    async def end_after(self, seconds: float, *works: Work) -> None:
        self.time.now += seconds
        for work in works:
            await self.end(work)

    async def prove(self, *hosts: str) -> None:
        """One fast send to each."""
        for host in hosts:
            await self.put(a_work(host))
            await self.end(self.in_flight(host)[0])
        self.begun.clear()

    async def finish(self, seconds: float = 0.0) -> None:
        """Ends everything that runs, and what that lets begin, until nothing runs."""
        while self.running:
            await self.end_after(seconds, self.running[0][0])

    def in_flight(self, host: str) -> list[Work]:
        return [work for work, _ in self.running if work.delivery.endpoint == host]

    def by_host(self) -> Counter[str]:
        return Counter(work.delivery.endpoint or "" for work, _ in self.running)

    async def _quiet(self) -> None:
        """From an end to the next start the loop makes a fixed, small number of turns."""
        for _ in range(8):
            await asyncio.sleep(0)


NewRig = Callable[[int], Rig]


@pytest.fixture
async def new(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[NewRig]:
    """Makes rigs of a bound; ends what a test leaves in flight."""
    fake, rigs = FakeTime(), []
    monkeypatch.setattr(lane_module, "time", fake)

    def make(bound: int) -> Rig:
        rigs.append(Rig(bound, fake))
        return rigs[-1]

    yield make
    for rig in rigs:
        rig.lane.clear()
        await rig.finish()


def works(host: str, count: int, priority: Priority = P.MEDIUM) -> list[Work]:
    return [a_work(host, priority, index=i) for i in range(count)]


def order(begun: list[Work]) -> list[tuple[str, int]]:
    return [(str(w.notification.priority), int(w.delivery.id.rpartition("_")[2])) for w in begun]


async def test_the_highest_priority_begins_first_and_the_oldest_of_it(new: NewRig) -> None:
    rig = new(2)
    await rig.put(*(a_work("", p, index=i) for i, p in enumerate([P.LOW, P.CRITICAL, P.MEDIUM, P.CRITICAL, P.HIGH])))
    await rig.put(*(a_work("", p, index=i) for i, p in enumerate([P.URGENT, P.LOW], 5)))
    await rig.finish()
    assert order(rig.begun) == [
        ("critical", 1),
        ("critical", 3),
        ("urgent", 5),
        ("high", 4),
        ("medium", 2),
        ("low", 0),
        ("low", 6),
    ]


@pytest.mark.parametrize("priority", P)
async def test_a_tenth_of_the_slots_is_kept_for_high_and_above(new: NewRig, priority: Priority) -> None:
    rig = new(20)
    await rig.put(*works("", 30, priority))
    assert len(rig.running) == (20 if priority in {P.HIGH, P.URGENT, P.CRITICAL} else 18)
    await rig.put(*works("", 30, P.HIGH))
    assert len(rig.running) == 20
    await rig.finish()
    assert (len(rig.begun), rig.most) == (60, 20)


@pytest.mark.parametrize(("bound", "low"), [(1, 1), (2, 1), (5, 4), (10, 9), (19, 18), (250, 225)])
async def test_a_small_lane_keeps_a_slot_and_still_works(new: NewRig, bound: int, low: int) -> None:
    rig = new(bound)
    await rig.put(*works("", bound + 1, P.LOW))
    assert len(rig.running) == low
    await rig.put(*works("", bound + 1, P.CRITICAL))
    assert len(rig.running) == bound
    await rig.finish()
    assert len(rig.begun) == 2 * bound + 2


async def test_a_host_that_has_not_proven_fast_has_one_slot(new: NewRig) -> None:
    rig = new(10)
    await rig.put(*works("slow", 8), *works("other", 8))
    assert rig.by_host() == {"slow": 1, "other": 1}
    assert rig.lane.queued == 14


async def test_a_host_that_has_proven_fast_has_half_of_the_lane(new: NewRig) -> None:
    rig = new(10)
    await rig.prove("fast")
    await rig.put(*works("fast", 20))
    assert rig.by_host() == {"fast": 5}
    await rig.finish()
    assert order(rig.begun) == [("medium", i) for i in range(20)]


async def test_a_host_that_turns_slow_falls_back_to_one_slot(new: NewRig) -> None:
    rig = new(10)
    await rig.prove("host")
    await rig.put(*works("host", 20))
    await rig.end_after(lane_module.SLOW_SECONDS, *rig.in_flight("host"))
    assert rig.by_host() == {"host": 1}
    await rig.end(rig.in_flight("host")[0])
    assert rig.by_host() == {"host": 5}, "and is believed again after one fast answer"
    await rig.finish()
    assert len(rig.begun) == 20


async def test_hosts_that_have_not_proven_fast_share_three_quarters(new: NewRig) -> None:
    rig = new(40)
    await rig.put(*(a_work(f"host-{i}") for i in range(100)))
    assert len(rig.running) == 30


async def test_two_hundred_slow_hosts_do_not_stand_before_the_fast_ones(new: NewRig) -> None:
    rig = new(250)
    fast = [f"fast-{i}" for i in range(20)]
    await rig.prove(*fast)
    await rig.put(*(a_work(f"slow-{i % 200}", index=i) for i in range(1000)))
    assert sum(n for host, n in rig.by_host().items() if host.startswith("slow")) == 187
    await rig.put(*(a_work(host, index=i) for i in range(50) for host in fast))
    while waiting := [work for host in fast for work in rig.in_flight(host)]:
        for work in waiting:
            await rig.end(work)
    ended = Counter(w.delivery.endpoint for w in rig.begun)
    assert [ended[host] for host in fast] == [50] * 20, "all fast ones ended while no slow one did"
    assert set(rig.by_host().values()) == {1}
    assert len(rig.running) == 187


async def test_a_new_host_waits_its_turn_and_not_for_all_slow_ones(new: NewRig) -> None:
    rig = new(40)
    await rig.put(*(a_work(f"slow-{i % 30}", index=i) for i in range(300)), a_work("new"))
    assert not rig.in_flight("new")
    turns = 0
    while not rig.in_flight("new"):
        turns += 1
        await rig.end_after(lane_module.SLOW_SECONDS, rig.running[0][0])
    assert turns <= 31, "each waiting host had one turn at most"


async def test_a_free_slot_goes_to_the_host_that_can_use_it(new: NewRig) -> None:
    """And is not lost on one that waits before it but has its share."""
    rig = new(4)
    await rig.put(*(a_work(host, P.HIGH) for host in ("a", "a", "a", "b", "c", "new", "newer")))
    assert rig.by_host() == {"a": 1, "b": 1, "c": 1}
    await rig.end_after(lane_module.SLOW_SECONDS, *rig.in_flight("b"))
    assert rig.by_host() == {"a": 1, "c": 1, "new": 1}
    await rig.end_after(lane_module.SLOW_SECONDS, *rig.in_flight("a"))
    assert rig.by_host() == {"c": 1, "new": 1, "newer": 1}, "in turns, and not its next one first"


async def test_hosts_that_answer_slowly_take_turns(new: NewRig) -> None:
    rig = new(4)
    await rig.put(*(a_work(f"host-{i % 6}", P.HIGH, index=i) for i in range(60)))
    await rig.finish(lane_module.SLOW_SECONDS)
    turns = [w.delivery.endpoint for w in rig.begun]
    assert all(set(turns[i : i + 6]) == set(turns[:6]) for i in range(0, 60, 6))


async def test_what_waits_for_its_host_keeps_its_priority(new: NewRig) -> None:
    rig = new(10)
    await rig.put(*works("host", 5, P.LOW))
    await rig.put(*works("host", 3, P.MEDIUM))
    await rig.put(*works("host", 2, P.CRITICAL))
    await rig.finish(lane_module.SLOW_SECONDS)
    assert order(rig.begun) == [
        ("low", 0),
        *(("critical", i) for i in range(2)),
        *(("medium", i) for i in range(3)),
        *(("low", i) for i in range(1, 5)),
    ]


async def test_a_send_without_a_host_has_no_share_to_keep(new: NewRig) -> None:
    rig = new(10)
    await rig.put(*works("", 20, P.HIGH))
    assert len(rig.running) == 10


async def test_what_ran_alone_before_runs_alone_again_in_a_slot_of_its_own(new: NewRig) -> None:
    rig = new(3)
    await rig.put(*works("", 5, P.HIGH))
    poison = [a_work("", index=i, solo=True) for i in range(3)]
    await rig.put(*poison)
    assert [w for w, _ in rig.running if w.solo] == poison[:1]
    await rig.end(poison[0])
    assert [w for w, _ in rig.running if w.solo] == poison[1:2]
    await rig.end(poison[1], error=OSError())
    assert [w for w, _ in rig.running if w.solo] == poison[2:]
    await rig.finish()
    assert len(rig.begun) == 8


async def test_lanes_of_one_process_share_the_slot_of_what_runs_alone() -> None:
    """Two suspects at once would both count a death that only one of them brought."""
    running: list[Work] = []
    gates = {name: asyncio.Event() for name in ("first", "second")}
    slot = lane_module.SoloSlot()

    def lane(name: str) -> Lane:
        async def send(work: Work) -> None:
            running.append(work)
            await gates[name].wait()
            running.remove(work)

        return Lane(name, 5, send, lambda work: "", solo_slot=slot)

    lanes = [lane("first"), lane("second")]
    suspects = [a_work("", index=i, solo=True) for i in range(2)]
    for one, suspect in zip(lanes, suspects, strict=True):
        one.put(suspect)
        one.pump()
    await asyncio.sleep(0)
    assert running == suspects[:1]
    gates["first"].set()
    await lanes[0].drained()
    await asyncio.sleep(0)
    assert running == suspects[1:]
    gates["second"].set()
    await lanes[1].drained()
    assert running == []


async def test_a_send_that_fails_frees_its_slot_and_its_host(new: NewRig) -> None:
    rig = new(2)
    await rig.put(*works("host", 3, P.HIGH))
    with capture_logs() as logged:
        await rig.end(rig.running[0][0], error=RuntimeError("a defect"))
    assert [line["log_level"] for line in logged] == ["error"]
    assert rig.by_host() == {"host": 1}
    await rig.finish()
    assert (len(rig.begun), rig.lane.queued, rig.lane.in_flight) == (3, 0, 0)


async def test_a_clear_takes_all_that_has_not_begun_and_nothing_else(new: NewRig) -> None:
    rig = new(2)
    all_works = [*works("a", 4, P.HIGH), *works("", 4), *(a_work("", index=i, solo=True) for i in range(3))]
    await rig.put(*all_works)
    begun = [work for work, _ in rig.running]
    rest = rig.lane.clear()
    assert {id(w) for w in rest} | {id(w) for w in begun} == {id(w) for w in all_works}
    assert len(rest) + len(begun) == len(all_works)
    assert rig.lane.queued == 0
    drained = asyncio.create_task(rig.lane.drained())
    await rig.finish()
    await drained
    assert rig.begun == begun


async def test_a_drain_waits_for_the_last_send(new: NewRig) -> None:
    rig = new(2)
    await rig.put(*works("", 2, P.HIGH))
    drained = asyncio.create_task(rig.lane.drained())
    await rig.end(rig.running[0][0])
    assert not drained.done()
    await rig.finish()
    await asyncio.wait_for(drained, 5)


async def test_what_is_abandoned_is_cut_off_and_nothing_begins_in_its_place(new: NewRig) -> None:
    rig = new(4)
    await rig.put(*(a_work(f"h{i}") for i in range(10)))
    begun = len(rig.begun)
    assert begun == 3
    await rig.lane.abandon()
    assert (rig.running, rig.lane.in_flight, rig.lane.queued) == ([], 0, 0)
    assert len(rig.begun) == begun


async def test_the_memory_of_hosts_is_bounded(new: NewRig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lane_module, "MAX_HOSTS", 3)
    rig = new(10)
    await rig.prove(*(f"host-{i}" for i in range(50)))
    assert len(rig.lane._fast) <= 3
    await rig.put(*works("host-49", 9))
    assert rig.by_host() == {"host-49": 5}, "the last one is remembered"


hosts = st.sampled_from(["", "a", "b", "c", "d", "e", "f"])
steps = st.lists(
    st.tuples(st.just("put"), hosts, st.sampled_from(list(P)), st.booleans())
    | st.tuples(st.sampled_from(["fast", "slow", "error"]), st.integers(0, 50)),
    max_size=60,
)


@given(st.integers(1, 9), steps)
def test_whatever_comes_everything_begins_once_and_within_the_bounds(
    bound: int, steps: list[tuple[str, str, Priority, bool] | tuple[str, int]]
) -> None:
    async def run() -> None:
        fake = FakeTime()
        original, lane_module.time = lane_module.time, fake  # type: ignore[assignment]
        try:
            with capture_logs():
                await play(Rig(bound, fake))
        finally:
            lane_module.time = original

    async def play(rig: Rig) -> None:
        put = 0
        for step in steps:
            if step[0] == "put":
                _, host, priority, solo = step  # type: ignore[misc]
                put += 1
                await rig.put(a_work(str(host), Priority(priority), solo=bool(solo)))
            elif rig.running:
                work = rig.running[int(str(step[1])) % len(rig.running)][0]
                rig.time.now += lane_module.SLOW_SECONDS if step[0] == "slow" else 0.0
                await rig.end(work, OSError() if step[0] == "error" else None)
            ordinary = [w for w, _ in rig.running if not w.solo]
            assert len(ordinary) <= bound
            assert len(rig.running) - len(ordinary) <= 1
            assert len(rig.running) + rig.lane.queued + (len(rig.begun) - len(rig.running)) == put
            assert rig.running or not rig.lane.queued, "the lane sleeps on its work"
        await rig.finish()
        assert (len(rig.begun), rig.lane.queued, rig.lane.in_flight) == (put, 0, 0)
        assert len({id(w) for w in rig.begun}) == put

    with asyncio.Runner() as runner:
        runner.run(run())
