"""What a process holds, beside a store and a sender that do what the test says; also the loops that feed it."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from structlog.testing import capture_logs
from tests.unit.builders import NOW, FakeHistory, a_delivery, a_notification

from notification_engine.daemon import dispatcher as dispatcher_module
from notification_engine.daemon.dispatcher import Dispatcher
from notification_engine.daemon.janitor import BATCH, Janitor
from notification_engine.daemon.leases import Leases
from notification_engine.daemon.sweeper import Sweeper
from notification_engine.domain.delivery import Channel, DeliveryStatus
from notification_engine.domain.errors import Unavailable
from notification_engine.domain.notification import Lease, Notification
from notification_engine.domain.outcome import Message
from notification_engine.kit.clock import Clock
from notification_engine.services.work import Work

C = Channel


class Rig:
    """Stands for store, send and settle. A send waits until `finish`."""

    def __init__(self, *, lane_bound: int = 10, queue_size: int = 100) -> None:
        self.sent: list[str] = []
        self.gate = asyncio.Event()
        self.renewed: list[list[tuple[str, int]]] = []
        self.given_back: list[tuple[str, int]] = []
        self.surfaces: list[str] = []
        self.drained = 0
        self.due: list[Notification] = []
        self.claims: list[int] = []
        self.resume_failure: Exception | None = None
        self.claim_failure: Exception | None = None
        self.already_settled: set[str] = set()
        self.dispatcher = Dispatcher(
            self,  # type: ignore[arg-type]
            self,  # type: ignore[arg-type]
            SimpleNamespace(drain=self._drain, surfaced=self._surfaced),  # type: ignore[arg-type]
            list(C),
            Clock(),
            owner="replica-1",
            lane_bound=lane_bound,
            queue_size=queue_size,
            lease_seconds=30,
            processing_timeout=300,
        )

    def sender(self, channel: Channel) -> Any:
        def host(message: Message) -> str:
            return ""

        return SimpleNamespace(host=host)

    async def send(self, work: Work) -> None:
        self.sent.append(work.delivery.id)
        await self.gate.wait()

    async def resume(self, works: Sequence[Work]) -> list[Work]:
        if self.resume_failure:
            raise self.resume_failure
        return [w for w in works if w.delivery.id not in self.already_settled]

    async def claim(self, owner: str, limit: int, lease_seconds: float) -> list[Notification]:
        if self.claim_failure:
            raise self.claim_failure
        assert (owner, lease_seconds) == ("replica-1", 30)
        self.claims.append(limit)
        taken, self.due = self.due[:limit], self.due[limit:]
        return taken

    async def renew(self, owner: str, held: Sequence[tuple[str, int]], lease_seconds: float) -> None:
        self.renewed.append(list(held))

    async def give_back(self, held: Sequence[tuple[str, int]]) -> None:
        self.given_back += held

    async def _drain(self) -> None:
        self.drained += 1

    async def _surfaced(self, work: Work) -> None:
        self.surfaces.append(work.notification.id)

    async def quiet(self) -> None:
        for _ in range(10):
            await asyncio.sleep(0)

    async def finish(self) -> None:
        self.gate.set()
        async with asyncio.timeout(5):
            while self.held:
                await self.quiet()

    @property
    def held(self) -> int:
        return int(str(self.dispatcher.snapshot()["leases_held"]))


@pytest.fixture
async def rigs() -> AsyncIterator[list[Rig]]:
    """What a test leaves in flight is ended."""
    made: list[Rig] = []
    yield made
    for rig in made:
        rig.gate.set()
        await rig.dispatcher.drain(5)


@pytest.fixture
async def rig(rigs: list[Rig]) -> Rig:
    rigs.append(Rig())
    return rigs[-1]


def leased(number: int, deliveries: int = 1, fence: int = 1, channel: Channel = C.WEBHOOK) -> Notification:
    """A document under our lease; every delivery is claimed by this fence."""
    own = [a_delivery(i, channel, id=f"dlv_{number}_{i}", claim=fence) for i in range(deliveries)]
    return a_notification(own, id=f"ntfy_{number}", lease=Lease("replica-1", "t", fence, NOW))


async def test_what_is_taken_counts_until_its_last_delivery_is_settled(rig: Rig) -> None:
    assert rig.dispatcher.reserve(1) == 1
    rig.dispatcher.take([leased(1, deliveries=3)])
    await rig.quiet()
    assert (rig.sent, rig.held, rig.dispatcher.room) == (["dlv_1_0", "dlv_1_1", "dlv_1_2"], 1, 99)
    await rig.finish()
    assert (rig.held, rig.dispatcher.room) == (0, 100)


async def test_nothing_is_reserved_past_the_bound(rigs: list[Rig]) -> None:
    rig = Rig(queue_size=5)
    rigs.append(rig)
    assert (rig.dispatcher.reserve(3), rig.dispatcher.reserve(3), rig.dispatcher.reserve(1)) == (3, 2, 0)
    rig.dispatcher.take([leased(1), leased(2)])
    assert rig.dispatcher.room == 0
    rig.dispatcher.release(3)
    assert rig.dispatcher.room == 3
    await rig.finish()
    assert rig.dispatcher.room == 5


async def test_only_what_is_claimed_under_this_fence_is_sent(rig: Rig) -> None:
    notification = leased(1, deliveries=3, fence=2)
    notification.deliveries[0].claim = 1
    notification.deliveries[2].claim = None
    rig.dispatcher.claimed([notification])
    await rig.quiet()
    assert rig.sent == ["dlv_1_1"]


async def test_each_channel_has_its_lane(rig: Rig) -> None:
    rig.dispatcher.reserve(2)
    rig.dispatcher.take([leased(1, channel=C.EMAIL), leased(2, channel=C.WEBHOOK)])
    await rig.quiet()
    assert {c: lane.in_flight for c, lane in rig.dispatcher.lanes.items()} == {C.IN_APP: 0, C.EMAIL: 1, C.WEBHOOK: 1}
    lanes: Any = rig.dispatcher.snapshot()["lanes"]
    assert lanes["email"] == {"queued": 0, "in_flight": 1, "bound": 10}


async def test_what_the_history_has_settled_is_let_go_without_a_send(rig: Rig) -> None:
    rig.already_settled = {"dlv_1_0"}
    rig.dispatcher.claimed([leased(1, deliveries=2, fence=2), leased(2, fence=2)])
    await rig.quiet()
    assert rig.sent == ["dlv_1_1", "dlv_2_0"]
    rig.already_settled = {"dlv_3_0"}
    rig.dispatcher.claimed([leased(3, fence=2)])
    await rig.quiet()
    assert rig.held == 2


async def test_claimed_work_that_cannot_be_resumed_is_let_go_and_its_lease_expires(rig: Rig) -> None:
    rig.resume_failure = Unavailable("away")
    with capture_logs() as logged:
        rig.dispatcher.claimed([leased(1, deliveries=2, fence=2)])
        await rig.quiet()
    assert (rig.sent, rig.held, rig.given_back) == ([], 0, [])
    assert [line["log_level"] for line in logged] == ["error"]


async def test_a_snooze_that_ended_surfaces_and_is_let_go(rig: Rig) -> None:
    notification = leased(1, fence=3)
    notification.deliveries[0].claim = None
    notification.deliveries[0].status = DeliveryStatus.DELIVERED
    rig.dispatcher.claimed([notification])
    await rig.quiet()
    assert (rig.surfaces, rig.held, rig.sent) == (["ntfy_1"], 0, [])


async def test_a_late_end_under_an_old_fence_lets_nothing_go(rig: Rig) -> None:
    rig.dispatcher.reserve(1)
    rig.dispatcher.take([leased(1, fence=1)])
    await rig.quiet()
    rig.dispatcher.claimed([leased(1, fence=2)])
    rig.dispatcher._drop(Work(leased(1, fence=1), leased(1).deliveries[0], 1))
    assert rig.held == 1


async def test_what_is_held_is_renewed_until_the_processing_timeout(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(dispatcher_module, "time", SimpleNamespace(monotonic=lambda: now[0]))
    rig.dispatcher.reserve(2)
    rig.dispatcher.take([leased(1)])
    now[0] += 200
    rig.dispatcher.take([leased(2, fence=4)])
    leases = Leases(rig.dispatcher)
    assert leases.interval_seconds == 10
    await leases.run_once()
    now[0] += 100
    await leases.run_once()
    now[0] += 200
    await leases.run_once()
    assert rig.renewed == [[("ntfy_1", 1), ("ntfy_2", 4)], [("ntfy_2", 4)]], "and nothing is asked for nothing"


async def test_a_drain_gives_back_what_has_not_begun_and_waits_for_the_rest(rigs: list[Rig]) -> None:
    rig = Rig(lane_bound=2)
    rigs.append(rig)
    rig.dispatcher.reserve(5)
    rig.dispatcher.take([leased(i) for i in range(5)])
    await rig.quiet()
    draining = asyncio.create_task(rig.dispatcher.drain(5))
    await rig.quiet()
    assert (rig.dispatcher.room, rig.dispatcher.reserve(1), draining.done()) == (0, 0, False)
    rig.gate.set()
    await draining
    assert rig.sent == ["dlv_0_0"]
    assert sorted(rig.given_back) == [(f"ntfy_{i}", 1) for i in range(1, 5)]
    assert rig.drained == 1


async def test_a_drain_ends_at_its_bound(rig: Rig) -> None:
    rig.dispatcher.reserve(1)
    rig.dispatcher.take([leased(1)])
    await rig.quiet()
    with capture_logs() as logged:
        await rig.dispatcher.drain(0.01)
    assert [line["log_level"] for line in logged] == ["warning"]
    assert rig.given_back == []


async def test_what_is_resumed_during_a_drain_is_given_back(rig: Rig) -> None:
    rig.dispatcher.claimed([leased(1, fence=2)])
    rig.dispatcher.draining = True
    await rig.quiet()
    assert (rig.sent, rig.given_back, rig.held) == ([], [("ntfy_1", 2)], 0)


def sweeper(rig: Rig, batch_size: int = 4) -> Sweeper:
    return Sweeper(rig, rig.dispatcher, interval_seconds=1, batch_size=batch_size)  # type: ignore[arg-type]


async def test_a_sweep_goes_on_until_nothing_is_left(rig: Rig) -> None:
    """A short batch is no end: with several daemons it is what the others have claimed of the same candidates."""
    rig.due = [leased(i, fence=2) for i in range(10)]
    await sweeper(rig).run_once()
    assert (rig.claims, rig.held) == ([4, 4, 4, 4], 10)


async def test_a_sweep_claims_no_more_than_there_is_room_for(rigs: list[Rig]) -> None:
    rig = Rig(queue_size=6)
    rigs.append(rig)
    rig.due = [leased(i, fence=2) for i in range(10)]
    await sweeper(rig).run_once()
    assert (rig.claims, rig.held, len(rig.due)) == ([4, 2], 6, 4)
    await sweeper(rig).run_once()
    assert rig.claims == [4, 2]


async def test_a_claim_that_fails_gives_its_room_back(rig: Rig) -> None:
    rig.claim_failure = Unavailable("away")
    with pytest.raises(Unavailable):
        await sweeper(rig).run_once()
    assert rig.dispatcher.room == 100


async def test_a_draining_process_claims_nothing(rig: Rig) -> None:
    rig.due = [leased(1)]
    rig.dispatcher.draining = True
    await sweeper(rig).run_once()
    assert rig.claims == []


class Noon(Clock):
    def at(self, monotonic: float) -> Any:
        return NOW


class FakeWalk:
    """Notifications in pages, each with its watermark."""

    def __init__(self, *pages: list[Notification]) -> None:
        self.pages = list(pages)
        self.mark = "ntfy_0"
        self.asked: list[tuple[str, Any, int]] = []

    async def watermark(self) -> str:
        return self.mark

    async def without_history(self, after: str, before: Any, limit: int) -> tuple[list[Notification], str]:
        self.asked.append((after, before, limit))
        if not self.pages:
            return [], after
        page = self.pages.pop(0)
        return page, page[-1].id if page else f"{after}+"

    async def advance(self, watermark: str) -> None:
        self.mark = watermark


def suppressed(number: int) -> Notification:
    own = a_delivery(0, C.EMAIL, id=f"dlv_{number}_0", status=DeliveryStatus.SUPPRESSED)
    return a_notification([own], id=f"ntfy_{number}")


async def test_the_janitor_writes_what_is_missing_and_moves_its_mark_behind_it() -> None:
    walk, history = FakeWalk([suppressed(1), suppressed(2)], [], [suppressed(4)]), FakeHistory()
    await Janitor(walk, history, Noon()).run_once()  # type: ignore[arg-type]
    assert [row.delivery_id for row in history.rows] == ["dlv_1_0", "dlv_2_0", "dlv_4_0"]
    assert walk.mark == "ntfy_4"
    assert [after for after, _, _ in walk.asked] == ["ntfy_0", "ntfy_2", "ntfy_2+", "ntfy_4"]
    assert {(before, limit) for _, before, limit in walk.asked} == {(NOW - timedelta(seconds=60), BATCH)}


async def test_the_janitor_does_not_move_past_what_it_could_not_write() -> None:
    walk, history = FakeWalk([suppressed(1)]), FakeHistory(Unavailable("away"))
    with pytest.raises(Unavailable):
        await Janitor(walk, history, Noon()).run_once()  # type: ignore[arg-type]
    assert walk.mark == "ntfy_0"


async def test_a_janitor_without_work_writes_nothing() -> None:
    walk, history = FakeWalk(), FakeHistory()
    await Janitor(walk, history, Noon()).run_once()  # type: ignore[arg-type]
    assert (walk.mark, history.batches) == ("ntfy_0", [])
