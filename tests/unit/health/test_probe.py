"""Health beside a database that is there, slow or down; its time is moved by hand."""

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from notification_engine.domain.errors import ConfigurationError, Unavailable
from notification_engine.health import probe as probe_module
from notification_engine.health.background import Checks, Heartbeat, Sampler
from notification_engine.health.group import Group
from notification_engine.health.metrics import Metrics
from notification_engine.health.presence import Presence
from notification_engine.health.probe import NOT_READY_AFTER_SECONDS, PING_SECONDS, Health
from notification_engine.kit.clock import Clock
from notification_engine.kit.loop import Loop
from notification_engine.services.ports import Beat

LANES = {"email": {"queued": 2, "in_flight": 1, "bound": 250}}
SNAPSHOT = {"lanes": LANES, "leases_held": 3, "room": 997, "draining": False}
DEPTH = {"waiting": 5, "due": 2, "oldest_due_ms": 40}


class FakeDatabase:
    """Answers, or raises what it was told to."""

    def __init__(self) -> None:
        self.down: Exception | None = None
        self.timeouts: list[float] = []

    async def ping(self, timeout: float) -> float:
        self.timeouts.append(timeout)
        if self.down:
            raise self.down
        return 1.234

    async def synchronise(self, clock: Clock) -> None:
        if self.down:
            raise self.down

    def pool(self) -> dict[str, int]:
        return {"in_use": 1, "idle": 2, "waiting": 0, "max": 20}


class FakeQueue:
    async def queue_depth(self) -> dict[str, int]:
        return dict(DEPTH)


class FakeLoop(Loop):
    async def run_once(self) -> None: ...


class Rig:
    def __init__(self) -> None:
        self.database = FakeDatabase()
        self.snapshot: dict[str, Any] = dict(SNAPSHOT)
        self.health = Health(
            self.database,
            FakeQueue(),
            Metrics(),
            Clock(),
            daemon=lambda: self.snapshot,
            connections=lambda: {"websocket": 4, "sse": 1},
            providers={"in_app": ["in_app"], "email": ["smtp"], "webhook": ["webhook"]},
            heartbeat_seconds=30,
            version="0.1.0",
            checks=lambda: {"uptime_share": 1.0},
        )
        self.loop = FakeLoop(1.0)
        self.loop.name = "sweeper"
        self.loop.last_beat = datetime.now(UTC)
        self.health.loops = [self.loop]


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How far the probe's clock stands ahead, in seconds."""
    ahead = [0.0]
    monkeypatch.setattr(probe_module, "time", SimpleNamespace(monotonic=lambda: time.monotonic() + ahead[0]))
    return ahead


@pytest.fixture
def rig(later: list[float]) -> Rig:
    return Rig()


DOWN = Unavailable("The database did not answer (ServerSelectionTimeoutError).")


async def test_all_is_well(rig: Rig) -> None:
    await rig.health.run_once()
    status = await rig.health.status()
    assert (status["status"], status["ready"], status["version"]) == ("healthy", True, "0.1.0")
    assert status["database"]["status"] == "up"
    assert status["database"]["ping_ms"] == 1.23
    assert status["database"]["pool"] == rig.database.pool()
    assert {k: status["queue"][k] for k in DEPTH} == DEPTH
    assert status["daemon"]["status"] == "running"
    assert status["checks"] == {"uptime_share": 1.0}


class FakeBus:
    status = "degraded"

    def shown(self) -> dict[str, Any]:
        return {"kind": "redis", "status": self.status, "reason": "the server does not answer"}

    def figures(self) -> dict[str, int]:
        return {"told": 3}


async def test_a_bus_that_is_down_degrades_and_readiness_stays(rig: Rig) -> None:
    bus = rig.health._bus = FakeBus()
    status = await rig.health.status()
    assert (status["status"], status["ready"], status["bus"]) == ("degraded", True, bus.shown())
    text = await rig.health.metrics_text()
    assert 'notification_state{figure="bus_told"} 3.0' in text
    assert 'notification_state{figure="bus_up"} 0.0' in text
    bus.status = "up"
    assert (await rig.health.status())["status"] == "healthy"


async def test_presence_adds_what_others_told_with_its_age(rig: Rig) -> None:
    other = {"connections": 3, "users": 2, "max": 10}

    class Beats:
        async def alive(self) -> list[Beat]:
            return [Beat("me", 9.0, {"connections": 7, "users": 7}), Beat("old", 5.0, {}), Beat("b", 1.5, other)]

    presence = rig.health._presence = Presence(Beats(), "me", lambda: {"connections": 1, "users": 1, "max": 10})
    assert presence.shown()["connections"] == 1
    await rig.health.run_once()
    fleet = (await rig.health.channels())["in_app"]["fleet"]
    assert (fleet["connections"], fleet["users"]) == (4, 3)
    assert [one["replica"] for one in fleet["replicas"]] == ["me", "old", "b"]
    assert [one["age_seconds"] for one in fleet["replicas"]] == [0.0, 5.0, 1.5]


async def test_a_database_that_is_down_is_told_and_every_answer_still_comes(rig: Rig) -> None:
    await rig.health.run_once()
    rig.database.down = DOWN
    status = await rig.health.status()
    assert (status["status"], status["database"]["status"], status["database"]["ping_ms"]) == ("degraded", "down", None)
    assert status["database"]["pool"]["max"] == 20
    assert {k: status["queue"][k] for k in DEPTH} == DEPTH, "the last figures, with their age"
    assert (await rig.health.live())["status"] == "ok"
    assert (await rig.health.daemon())["status"] == "running"
    assert set(await rig.health.channels()) == {"in_app", "email", "webhook"}
    assert (await rig.health.metrics_json())["kpis"]["ended"] == 0
    assert "notification_state" in await rig.health.metrics_text()


async def test_the_ping_of_an_answer_has_a_short_time_of_its_own(rig: Rig) -> None:
    """The guide asks for the comprehensive status within half a second."""
    await rig.health.status()
    assert rig.database.timeouts == [PING_SECONDS]
    assert PING_SECONDS < 0.1


async def test_a_short_election_takes_no_replica_away(rig: Rig, later: list[float]) -> None:
    await rig.health.run_once()
    rig.database.down = DOWN
    later[0] = NOT_READY_AFTER_SECONDS - 1
    assert rig.health.ready()
    later[0] = NOT_READY_AFTER_SECONDS + 1
    assert not rig.health.ready()
    status = await rig.health.status()
    assert status["ready"] is False
    assert status["database"]["seconds_since_primary"] >= NOT_READY_AFTER_SECONDS
    rig.database.down = None
    await rig.health.run_once()
    assert rig.health.ready()


async def test_a_probe_that_fails_changes_no_figure(rig: Rig, later: list[float]) -> None:
    await rig.health.run_once()
    rig.database.down = DOWN
    later[0] = 10.0
    with pytest.raises(Unavailable):
        await rig.health.run_once()
    queue = (await rig.health.status())["queue"]
    assert queue["due"] == 2
    assert queue["age_seconds"] >= 10.0


async def test_before_the_first_probe_the_queue_is_unknown_and_not_empty(rig: Rig) -> None:
    assert set((await rig.health.status())["queue"].values()) == {None}
    assert "queue_" not in await rig.health.metrics_text()


async def test_a_draining_process_says_so_and_is_not_ready(rig: Rig) -> None:
    await rig.health.run_once()
    rig.health.draining = True
    status = await rig.health.status()
    assert (status["status"], status["ready"]) == ("draining", False)


@pytest.mark.parametrize(("missed", "late"), [(0, False), (59, False), (61, True)])
async def test_two_missed_beats_are_a_degraded_daemon(rig: Rig, missed: int, late: bool) -> None:
    rig.loop.last_beat = datetime.now(UTC) - timedelta(seconds=missed)
    daemon = await rig.health.daemon()
    assert daemon["loops"]["sweeper"]["late"] is late
    assert daemon["status"] == ("degraded" if late else "running")
    assert (await rig.health.status())["status"] == ("degraded" if late else "healthy")


async def test_a_loop_with_a_long_interval_is_not_late_within_it(rig: Rig) -> None:
    rig.loop.interval_seconds = 3600
    rig.loop.last_beat = datetime.now(UTC) - timedelta(seconds=3700)
    assert (await rig.health.daemon())["status"] == "running"


async def test_a_loop_that_never_ran_is_late_after_its_time(rig: Rig) -> None:
    rig.loop.last_beat = None
    assert (await rig.health.daemon())["status"] == "running"
    rig.health._began_at -= timedelta(minutes=10)
    assert (await rig.health.daemon())["status"] == "degraded"


async def test_a_process_without_a_daemon_is_healthy_without_it(rig: Rig) -> None:
    rig.snapshot = {}
    rig.health.loops = []
    assert (await rig.health.daemon())["status"] == "disabled"
    assert (await rig.health.status())["status"] == "healthy"


async def test_each_channel_shows_its_providers_and_its_lane(rig: Rig) -> None:
    channels = await rig.health.channels()
    assert channels["email"] == {"providers": ["smtp"], "lane": LANES["email"], "breakers": {}}
    assert channels["webhook"] == {"providers": ["webhook"], "lane": None}
    assert channels["in_app"]["live"] == {"websocket": 4, "sse": 1}


async def test_the_scrape_holds_every_figure(rig: Rig) -> None:
    await rig.health.run_once()
    text = await rig.health.metrics_text()
    for figure in ("pool_in_use", "live_websocket", "queue_due", "queue_age_seconds", "lane_email_queued"):
        assert f'notification_state{{figure="{figure}"}}' in text


async def test_a_standalone_server_is_no_matter_of_health(rig: Rig) -> None:
    """A wrong setting is not taken for a database that is down."""
    rig.database.down = ConfigurationError("MONGODB_URL points to a standalone MongoDB")
    with pytest.raises(ConfigurationError):
        await rig.health.status()


class FakeReports:
    def __init__(self) -> None:
        self.beats: list[tuple[dict[str, Any], timedelta]] = []
        self.samples: list[tuple[dict[str, Any], timedelta]] = []

    async def beat(self, state: Any, life: timedelta) -> None:
        self.beats.append((dict(state), life))

    async def sample(self, figures: Any, life: timedelta) -> None:
        self.samples.append((dict(figures), life))


async def test_a_heartbeat_lives_for_two_beats(rig: Rig) -> None:
    reports = FakeReports()
    await Heartbeat(reports, rig.health, 30).run_once()
    ((state, life),) = reports.beats
    assert (state["status"], list(state["loops"])) == ("running", ["sweeper"])
    assert timedelta(seconds=60) < life < timedelta(seconds=90)


async def test_a_sample_lives_for_its_days(rig: Rig) -> None:
    reports = FakeReports()
    await Sampler(reports, rig.health, 30).run_once()
    ((figures, life),) = reports.samples
    assert life == timedelta(days=30)
    assert "timestamp" not in figures
    assert figures["kpis"]["ended"] == 0


async def conserved() -> dict[str, Any]:
    return {"healthy": True}


async def checked(missing: list[str], skew: float) -> Checks:
    async def missing_indexes() -> list[str]:
        return missing

    clock = Clock()
    clock.skew_seconds = skew
    checks = Checks(missing_indexes, conserved, clock, 60)
    await checks.run_once()
    return checks


@pytest.mark.parametrize(
    ("missing", "skew", "indexes", "clock"),
    [([], 0.0, True, True), (["a.b_1"], 0.0, False, True), ([], 1.5, True, False), ([], -1.5, True, False)],
)
async def test_a_check_tells_what_is_missing_and_what_is_skewed(
    missing: list[str], skew: float, indexes: bool, clock: bool
) -> None:
    shown = (await checked(missing, skew)).shown()
    assert (shown["indexes"]["healthy"], shown["clock"]["healthy"]) == (indexes, clock)
    assert (shown["indexes"]["missing"], shown["clock"]["skew_seconds"]) == (missing, skew)
    assert shown["uptime_share"] == (1.0 if indexes and clock else 0.0)
    assert datetime.now(UTC) - shown["checked_at"] < timedelta(minutes=1)


async def test_the_uptime_is_the_healthy_share_of_the_checks() -> None:
    checks = await checked([], 0.0)
    for skew in (5.0, 0.0, 0.0):
        checks._clock.skew_seconds = skew
        await checks.run_once()
    assert checks.shown()["uptime_share"] == 0.75


def test_before_the_first_check_there_is_no_uptime() -> None:
    async def never() -> list[str]:
        raise AssertionError("not asked yet")

    assert Checks(never, conserved, Clock(), 60).shown() == {"uptime_share": None}


async def test_a_check_that_could_not_be_made_is_not_a_healthy_one() -> None:
    async def away() -> list[str]:
        raise DOWN

    checks = Checks(away, conserved, Clock(), 60)
    with pytest.raises(Unavailable):
        await checks.run_once()
    assert checks.shown()["uptime_share"] == 0.0


async def test_each_run_of_the_checks_is_told_also_the_one_that_could_not_be_made() -> None:
    """The uptime that Prometheus records is the one that the status shows."""
    down = False
    told: list[dict[str, bool]] = []

    async def missing() -> list[str]:
        if down:
            raise DOWN
        return ["a.b_1"]

    checks = Checks(missing, conserved, Clock(), 60, lambda healthy: told.append(dict(healthy)))
    await checks.run_once()
    down = True
    with pytest.raises(Unavailable):
        await checks.run_once()
    assert told == [
        {"indexes": False, "clock": True, "conservation": True, "completed": True},
        {"completed": False},
    ]


async def test_the_scrape_tells_how_the_process_is(rig: Rig, later: list[float]) -> None:
    await rig.health.run_once()
    rig.database.down = DOWN
    later[0] = 31.0
    rig.loop.last_beat = datetime.now(UTC) - timedelta(minutes=5)
    rig.loop.errors = 3
    text = await rig.health.metrics_text()
    for figure, value in {"not_ready": 1, "draining": 0, "loops_late": 1, "loop_errors": 3, "leases_held": 3}.items():
        assert f'notification_state{{figure="{figure}"}} {float(value)}' in text, figure
    assert 'notification_state{figure="seconds_without_primary"} 31' in text


async def test_of_several_processes_the_worst_is_told(later: list[float], tmp_path: Path) -> None:
    well, ill = Rig(), Rig()
    for slot, one in enumerate((well, ill)):
        one.health._group = Group(tmp_path, slot, 2, time.monotonic())
    ill.health.draining = True
    ill.health._clock.skew_seconds = -2.5
    await ill.health.run_once()
    text = await well.health.metrics_text()
    for figure, value in {"not_ready": 1, "draining": 1, "clock_skew_seconds": 2.5, "leases_held": 6}.items():
        assert f'notification_state{{figure="{figure}"}} {float(value)}' in text, figure
