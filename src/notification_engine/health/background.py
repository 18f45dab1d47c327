"""Background reports: the heartbeat and figures of this replica, and the checks that are too slow for a probe."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from notification_engine.health.probe import Health
from notification_engine.kit.clock import Clock
from notification_engine.kit.logging import get_logger
from notification_engine.kit.loop import Loop

MAX_SKEW_SECONDS = 1.0

log = get_logger("health-monitoring")


class Reports(Protocol):
    async def beat(self, state: Mapping[str, Any], life: timedelta) -> None: ...
    async def sample(self, figures: Mapping[str, Any], life: timedelta) -> None: ...


class Heartbeat(Loop):
    name = "heartbeat"

    def __init__(self, reports: Reports, health: Health, interval_seconds: float) -> None:
        super().__init__(interval_seconds)
        self._reports = reports
        self._health = health

    async def run_once(self) -> None:
        """Kept for two beats and a little: two missed, and the replica counts as gone."""
        daemon = await self._health.daemon()
        state = {
            "status": daemon["status"],
            "loops": daemon["loops"],
            "connections": dict(self._health.connections()),
        }
        await self._reports.beat(state, timedelta(seconds=2 * self.interval_seconds + 1))


class Sampler(Loop):
    name = "sampler"

    def __init__(self, reports: Reports, health: Health, retention_days: int) -> None:
        super().__init__(60.0)
        self._reports = reports
        self._health = health
        self._life = timedelta(days=retention_days)

    async def run_once(self) -> None:
        figures = await self._health.sample()
        await self._reports.sample({k: v for k, v in figures.items() if k != "timestamp"}, self._life)


class Checks(Loop):
    """Shown in `/health/status` with their age; what fails is logged."""

    name = "checks"

    def __init__(
        self,
        missing_indexes: Callable[[], Awaitable[Sequence[str]]],
        conserve: Callable[[], Awaitable[Mapping[str, Any]]],
        clock: Clock,
        interval_seconds: float,
        observe: Callable[[Mapping[str, bool]], None] = lambda _: None,
    ) -> None:
        super().__init__(interval_seconds)
        self._observe = observe
        self._missing_indexes = missing_indexes
        self._conserve = conserve
        self._clock = clock
        self._result: dict[str, Any] = {}
        self._healthy = self._runs = 0

    async def run_once(self) -> None:
        self._runs += 1
        try:
            result = await self._checked()
        except BaseException:
            self._observe({"completed": False})  # also what could not be looked at is not healthy
            raise
        healthy = {name: check["healthy"] for name, check in result.items()}
        self._observe(healthy | {"completed": True})
        self._healthy += all(healthy.values())
        self._result = result | {"checked_at": datetime.now(UTC)}

    async def _checked(self) -> dict[str, dict[str, Any]]:
        missing = list(await self._missing_indexes())
        skew = self._clock.skew_seconds
        result: dict[str, dict[str, Any]] = {
            "indexes": {"healthy": not missing, "missing": missing},
            "clock": {"healthy": abs(skew) <= MAX_SKEW_SECONDS, "skew_seconds": round(skew, 3)},
            "conservation": dict(await self._conserve()),
        }
        failed = [name for name, check in result.items() if not check["healthy"]]
        if failed:
            log.warning("Background checks failed", checks=failed, missing_indexes=missing, skew_seconds=round(skew, 3))
        return result

    def shown(self) -> dict[str, Any]:
        """The last results, with the guide's uptime: the healthy share of the checks that ran."""
        share = self._healthy / self._runs if self._runs else None
        return {**self._result, "uptime_share": share}
