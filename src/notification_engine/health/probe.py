"""Health: every figure measured, every answer within the guide's targets, also while the database is down.

A live ping has a short time of its own; queue figures come from a prober in the background and carry their age.
Readiness turns false only after 30 s without a primary, so that a short election does not take all replicas away.
"""

import asyncio
import os
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Protocol

from notification_engine.domain.breaker import BreakerState
from notification_engine.domain.errors import EngineError
from notification_engine.health.group import Group, Told, added, shown
from notification_engine.health.metrics import Metrics
from notification_engine.health.presence import Presence
from notification_engine.kit.clock import Clock
from notification_engine.kit.loop import Loop

PING_SECONDS = 0.08
_ADDED = ("database_pool", "daemon", "connections")
_WORST = ("not_ready", "draining", "seconds_without_primary", "clock_skew_seconds", "loops_late", "loop_errors")
_BREAKER_FIGURE = {BreakerState.CLOSED: 0.0, BreakerState.HALF_OPEN: 1.0, BreakerState.OPEN: 2.0}
NOT_READY_AFTER_SECONDS = 30.0
PROBE_SECONDS = 2.0


class ProbedDatabase(Protocol):
    async def ping(self, timeout: float) -> float: ...
    async def synchronise(self, clock: Clock) -> None: ...
    def pool(self) -> dict[str, int]: ...


class ProbedQueue(Protocol):
    async def queue_depth(self) -> dict[str, int]: ...


class ProbedBus(Protocol):
    def shown(self) -> Mapping[str, Any]: ...
    def figures(self) -> Mapping[str, int]: ...


class Health(Loop):
    """`daemon` and `connections` are read when asked; `loops` are those whose beats are shown."""

    name = "prober"

    def __init__(
        self,
        database: ProbedDatabase,
        queue: ProbedQueue,
        metrics: Metrics,
        clock: Clock,
        *,
        daemon: Callable[[], Mapping[str, Any]],
        connections: Callable[[], Mapping[str, int]],
        providers: Mapping[str, list[str]],
        heartbeat_seconds: float,
        version: str,
        breakers: Callable[[], Mapping[str, Mapping[str, Any]]] = dict,
        checks: Callable[[], Mapping[str, Any]] = dict,
        limits: Callable[[], Mapping[str, int]] = dict,
        bus: ProbedBus | None = None,
        presence: Presence | None = None,
        group: Group | None = None,
    ) -> None:
        super().__init__(PROBE_SECONDS)
        self._database = database
        self._queue = queue
        self._metrics = metrics
        self._clock = clock
        self._daemon = daemon
        self.connections = connections
        self._bus = bus
        self._presence = presence
        self._breakers = breakers
        self._providers = providers
        self._heartbeat_seconds = heartbeat_seconds
        self._version = version
        self._checks = checks
        self._limits = limits
        self._group = group
        self._began_at = datetime.now(UTC)
        self._started = time.monotonic()
        self._last_primary = time.monotonic()
        self._depth: tuple[float, dict[str, int]] | None = None
        self.loops: list[Loop] = []
        self.draining = False

    async def run_once(self) -> None:
        """Keeps what must not be asked within an answer's time: the queue's depth and the server's clock."""
        self._report()
        async with asyncio.timeout(PROBE_SECONDS * 2):
            await self._database.synchronise(self._clock)
            self._last_primary = time.monotonic()
            self._depth = (time.monotonic(), await self._queue.queue_depth())
            if self._presence is not None:
                await self._presence.look()

    def ready(self) -> bool:
        return not self.draining and time.monotonic() - self._last_primary < NOT_READY_AFTER_SECONDS

    async def live(self) -> dict[str, Any]:
        return {"status": "ok", "version": self._version, "uptime_seconds": round(time.monotonic() - self._started, 1)}

    async def status(self) -> dict[str, Any]:
        database = await self._ping()
        daemon = await self.daemon()
        bus = self._bus_state()
        healthy = database["status"] == bus["status"] == "up" and daemon["status"] in {"running", "disabled"}
        return {
            "status": "draining" if self.draining else "healthy" if healthy else "degraded",
            "ready": self.ready(),
            "version": self._version,
            "timestamp": datetime.now(UTC),
            "database": database | {"pool": self._database.pool()},
            "queue": self._queue_figures(),
            "daemon": daemon,
            "bus": bus,
            "channels": await self.channels(),
            "checks": dict(self._checks()),
            "processes": await self.processes(),
        }

    async def daemon(self) -> dict[str, Any]:
        now = datetime.now(UTC)
        loops = {
            loop.name: {"last_beat": loop.last_beat, "errors": loop.errors, "late": self._late(loop, now)}
            for loop in self.loops
        }
        late = any(loop["late"] for loop in loops.values())
        snapshot = dict(self._daemon())
        state = "disabled" if not snapshot else "degraded" if late else "running"
        return {"status": state, "pid": os.getpid(), "loops": loops, **snapshot}

    def _late(self, loop: Loop, now: datetime) -> bool:
        silent = (now - (loop.last_beat or self._began_at)).total_seconds()
        return silent > 2 * max(self._heartbeat_seconds, loop.interval_seconds)

    def _condition(self) -> dict[str, float]:
        """Of this process; for several the worst is shown."""
        now = datetime.now(UTC)
        return {
            "not_ready": float(not self.ready()),
            "draining": float(self.draining),
            "seconds_without_primary": round(time.monotonic() - self._last_primary, 1),
            "clock_skew_seconds": abs(self._clock.skew_seconds),
            "loops_late": float(sum(self._late(loop, now) for loop in self.loops)),
            "loop_errors": float(sum(loop.errors for loop in self.loops)),
        }

    async def processes(self) -> list[dict[str, Any]]:
        """Those of this machine, as each tells every two seconds."""
        return [shown(slot, told) for slot, told in enumerate(self._told())]

    async def channels(self) -> dict[str, Any]:
        lanes = self._daemon().get("lanes", {})
        shown: dict[str, Any] = {
            name: {"providers": providers, "lane": lanes.get(name)} for name, providers in self._providers.items()
        }
        shown.setdefault("email", {})["breakers"] = dict(self._breakers())
        shown["in_app"] = shown.get("in_app", {}) | {"live": dict(self.connections())}
        if self._presence is not None:
            shown["in_app"]["fleet"] = self._presence.shown()
        return shown

    async def metrics_json(self) -> dict[str, Any]:
        """Of all processes of this machine."""
        parts = [told for told in self._told() if told is not None]
        own = await self.sample()
        return own | {
            "kpis": self._metrics.kpis(everywhere=True),
            **{name: added([told[name] for told in parts]) for name in _ADDED},
            "processes": await self.processes(),
        }

    async def sample(self) -> dict[str, Any]:
        """Of this process alone."""
        return {
            "timestamp": datetime.now(UTC),
            "kpis": self._metrics.kpis(),
            "queue": self._queue_figures(),
            "clock_skew_seconds": self._clock.skew_seconds,
            **self._own(),
        }

    async def metrics_text(self) -> str:
        """Of all processes of this machine."""
        parts = [told for told in self._told() if told is not None]
        total = added([{name: told[name] for name in _ADDED} for told in parts])
        figures: dict[str, float] = {f"pool_{k}": v for k, v in total["database_pool"].items()}
        figures |= {f"live_{k}": v for k, v in total["connections"].items()}
        refused = added([told.get("rate_limits", {}) for told in parts])
        figures |= {f"rate_limit_{k}": v for k, v in refused.items()}
        figures |= {f"queue_{k}": v for k, v in self._queue_figures().items() if v is not None}
        figures |= {name: max(told["condition"][name] for told in parts) for name in _WORST}
        figures["uptime_seconds"] = self._metrics.kpis(everywhere=True)["uptime_seconds"] or 0.0
        figures |= {k: total["daemon"][k] for k in ("leases_held", "room") if k in total["daemon"]}
        for lane, state in total["daemon"].get("lanes", {}).items():
            figures |= {f"lane_{lane}_{k}": v for k, v in state.items()}
        if self._bus is not None:
            figures |= {f"bus_{k}": v for k, v in self._bus.figures().items()}
            figures["bus_up"] = float(self._bus_state()["status"] == "up")
        for told in parts:
            for name, value in told["breakers"].items():
                figures[f"breaker_{name}"] = max(value, figures.get(f"breaker_{name}", 0.0))
        if self._group is not None:
            figures |= {"processes": self._group.count, "processes_up": len(parts)}
        return self._metrics.text(figures)

    def _bus_state(self) -> dict[str, Any]:
        return dict(self._bus.shown()) if self._bus is not None else {"kind": "local", "status": "up", "reason": None}

    def _own(self) -> dict[str, Any]:
        return {
            "database_pool": self._database.pool(),
            "daemon": dict(self._daemon()),
            "connections": dict(self.connections()),
        }

    def _report(self) -> Told:
        """What this process is, for the others of its group and for its own answers."""
        figures = self._own() | {
            "breakers": {name: _BREAKER_FIGURE[view["state"]] for name, view in self._breakers().items()},
            "condition": self._condition(),
            "rate_limits": dict(self._limits()),
            "age_seconds": round(time.monotonic() - self._started, 1),
        }
        state = "draining" if self.draining else "serving"
        if self._group is None:
            return {"pid": os.getpid(), "state": state, "at": time.monotonic(), **figures}
        return self._group.tell(state, figures)

    def _told(self) -> list[Told | None]:
        """By slot, this process's own of this moment; the others' are two seconds old at most while they are well."""
        own = self._report()
        if self._group is None:
            return [own]
        told = list(self._group.told())
        told[self._group.slot] = own
        return told

    def _queue_figures(self) -> dict[str, Any]:
        if self._depth is None:
            return {"waiting": None, "due": None, "oldest_due_ms": None, "age_seconds": None}
        return {**self._depth[1], "age_seconds": round(time.monotonic() - self._depth[0], 1)}

    async def _ping(self) -> dict[str, Any]:
        away = time.monotonic() - self._last_primary
        try:
            milliseconds = await self._database.ping(PING_SECONDS)
        except EngineError:
            return {"status": "down", "ping_ms": None, "seconds_since_primary": round(away, 1)}
        return {"status": "up", "ping_ms": round(milliseconds, 2), "seconds_since_primary": round(away, 1)}
