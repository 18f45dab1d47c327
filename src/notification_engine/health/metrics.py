"""The metric registry: names start with `notification_`, labels are closed sets, KPIs come from the same counters."""

import time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from notification_engine.domain.delivery import Channel, DeliveryStatus, Reason
from notification_engine.domain.feedback import EventKind

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 3600)


class Metrics:
    """Implements `services.ports.Recorder`."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._started = time.monotonic()
        r = self.registry
        self._accepted = Counter("notification_accepted", "Notifications answered with 202", registry=r)
        self._attempts = Counter(
            "notification_attempts", "Calls of providers", ["channel", "provider", "status", "reason"], registry=r
        )
        self._settled = Counter(
            "notification_deliveries", "Deliveries that ended", ["channel", "status", "reason"], registry=r
        )
        self._latency = Histogram(
            "notification_attempt_seconds", "One attempt", ["channel", "provider"], buckets=_SECONDS, registry=r
        )
        self._delivery = Histogram(
            "notification_delivery_seconds", "Accept or schedule to end", ["channel"], buckets=_SECONDS, registry=r
        )
        self._breaches = Gauge(
            "notification_conservation_breaches", "What must not exist, by kind; 0 is right", ["kind"], registry=r
        )
        self._dead = Gauge("notification_dead_letters", "Notifications that hold a dead letter", registry=r)
        self._stale = Counter("notification_stale", "Outcomes of workers without their lease", registry=r)
        self._reported = Counter(
            "notification_provider_events",
            "Events that providers reported; matched: of a delivery of ours",
            ["provider", "kind", "matched"],
            registry=r,
        )
        self._batch = Histogram(
            "notification_commit_size",
            "Documents in a group commit",
            buckets=(1, 3, 10, 30, 100, 300, 1000),
            registry=r,
        )
        self._gauges = Gauge("notification_state", "Figures measured at the scrape", ["figure"], registry=r)
        self._totals: dict[str, float] = {"accepted": 0, "success": 0, "failed": 0, "ended": 0, "seconds": 0.0}

    def accepted(self, count: int) -> None:
        self._accepted.inc(count)
        self._totals["accepted"] += count

    def attempted(
        self, channel: Channel, provider: str, status: DeliveryStatus | str, reason: Reason | None, latency_ms: float
    ) -> None:
        self._attempts.labels(channel, provider, status, reason or "").inc()
        self._latency.labels(channel, provider).observe(latency_ms / 1000)

    def settled(self, channel: Channel, status: DeliveryStatus, reason: Reason | None, seconds: float) -> None:
        self._settled.labels(channel, status, reason or "").inc()
        self._delivery.labels(channel).observe(seconds)
        if status in {DeliveryStatus.SUPPRESSED, DeliveryStatus.EXPIRED, DeliveryStatus.CANCELLED}:
            return
        success = status is DeliveryStatus.DELIVERED or (channel is Channel.EMAIL and status is DeliveryStatus.ACCEPTED)
        self._totals["ended"] += 1
        self._totals["success"] += success
        self._totals["failed"] += status is DeliveryStatus.FAILED
        self._totals["seconds"] += seconds if success else 0.0

    def stale(self, count: int) -> None:
        self._stale.inc(count)

    def reported(self, provider: str, kind: EventKind | None, *, matched: bool) -> None:
        self._reported.labels(provider, kind or "unrecognised", str(matched).lower()).inc()

    def breached(self, kind: str, count: int) -> None:
        self._breaches.labels(kind).set(count)

    def dead(self, count: int) -> None:
        self._dead.set(count)

    def committed(self, size: int) -> None:
        self._batch.observe(size)

    def kpis(self) -> dict[str, float | None]:
        """The guide's KPIs since this process began; None while nothing has ended."""
        ended, success, up = self._totals["ended"], self._totals["success"], time.monotonic() - self._started
        return {
            "accepted": self._totals["accepted"],
            "ended": ended,
            "success_rate": success / ended if ended else None,
            "error_rate": self._totals["failed"] / ended if ended else None,
            "average_delivery_ms": 1000 * self._totals["seconds"] / success if success else None,
            "ended_per_minute": 60 * ended / up,
            "uptime_seconds": up,
        }

    def text(self, figures: dict[str, float]) -> str:
        for name, value in figures.items():
            self._gauges.labels(name).set(value)
        return generate_latest(self.registry).decode()
