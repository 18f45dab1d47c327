"""The metric registry: names start with `notification_`, labels are closed sets, KPIs come from the same counters.

Beside other processes of a group every value lies in a file that all of them read (`prometheus_client`'s multiprocess
mode), by slot: any of them answers for all, and what a dead one counted stays.
"""

import os
import time
from collections.abc import Iterator, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, values
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.samples import Sample

from notification_engine.domain.delivery import Channel, DeliveryStatus, Reason
from notification_engine.domain.feedback import EventKind
from notification_engine.health.group import Group

_LEFT_OUT = {DeliveryStatus.SUPPRESSED, DeliveryStatus.EXPIRED, DeliveryStatus.CANCELLED}
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 3600)


class Metrics:
    """Implements `services.ports.Recorder`."""

    def __init__(self, group: Group | None = None) -> None:
        """Beside a group: once a process, and before anything else of it counts."""
        self._group = group
        if group is not None:
            os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(group.directory)  # the library takes it from nowhere else
            values.ValueClass = values.MultiProcessValue(lambda: group.slot)  # type: ignore[no-untyped-call]
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
        self._success = Histogram(
            "notification_success_seconds",
            "Accept or schedule to success: the guide's delivery time",
            ["channel"],
            buckets=_SECONDS,
            registry=r,
        )
        self._delivered_seconds = Counter(
            "notification_delivered_seconds", "Accept or schedule to success, added up", registry=r
        )
        self._breaches = Gauge(
            "notification_conservation_breaches",
            "What must not exist, by kind; 0 is right",
            ["kind"],
            registry=r,
            multiprocess_mode="livemostrecent",  # each process counts the whole database
        )
        self._dead = Gauge(
            "notification_dead_letters",
            "Notifications that hold a dead letter",
            registry=r,
            multiprocess_mode="livemostrecent",
        )
        self._held = Gauge(
            "notification_unknown_held",
            "Notifications of unknown outcome that wait for an operator",
            registry=r,
            multiprocess_mode="livemostrecent",
        )
        self._checks = Counter(
            "notification_checks",
            "Background checks, by what came of them; uptime is the healthy share",
            ["outcome"],
            registry=r,
        )
        self._failing = Gauge(
            "notification_check_failing",
            "1: the last run of that background check failed",
            ["check"],
            registry=r,
            multiprocess_mode="livemostrecent",
        )
        self._answers = Histogram(
            "notification_http_seconds",
            "Answers of the API by class of status; probes are left out",
            ["status"],
            buckets=_SECONDS[:12],
            registry=r,
        )
        self._commands = Histogram(
            "notification_database_command_seconds",
            "Commands of MongoDB as the driver sees them",
            ["command"],
            buckets=_SECONDS[:12],
            registry=r,
        )
        self._failed_commands = Counter(
            "notification_database_commands_failed",
            "Commands of MongoDB that failed or got no answer",
            ["command"],
            registry=r,
        )
        self._candidates = Counter(
            "notification_claim_candidates",
            "What sweeps tried to claim: claimed, or lost to another daemon",
            ["outcome"],
            registry=r,
        )
        self._denied = Counter("notification_access_denied", "Requests answered 401 or 403", ["action"], registry=r)
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

        self._of_attempts: dict[object, tuple[Counter, Histogram]] = {}
        self._of_ends: dict[object, tuple[Counter, Histogram]] = {}
        self._of_commands: dict[str, Histogram] = {}
        self._of_answers: dict[str, Histogram] = {}
        for outcome in ("healthy", "unhealthy"):  # there from the first scrape, or the first one counted is no increase
            self._checks.labels(outcome)

    def accepted(self, count: int) -> None:
        self._accepted.inc(count)

    def attempted(
        self, channel: Channel, provider: str, status: DeliveryStatus | str, reason: Reason | None, latency_ms: float
    ) -> None:
        labels = (channel, provider, status, reason or "")
        if labels not in self._of_attempts:  # kept: finding a child by its labels costs more than counting
            self._of_attempts[labels] = self._attempts.labels(*labels), self._latency.labels(channel, provider)
        calls, latency = self._of_attempts[labels]
        calls.inc()
        latency.observe(latency_ms / 1000)

    def settled(self, channel: Channel, status: DeliveryStatus, reason: Reason | None, seconds: float) -> None:
        labels = (channel, status, reason or "")
        if labels not in self._of_ends:
            self._of_ends[labels] = self._settled.labels(*labels), self._delivery.labels(channel)
        ends, delivery = self._of_ends[labels]
        ends.inc()
        delivery.observe(seconds)
        if _succeeded(channel, status):
            seconds = max(0.0, seconds)  # the clock follows the server's, and may go back a little
            self._delivered_seconds.inc(seconds)
            self._success.labels(channel).observe(seconds)

    def denied(self, action: str) -> None:
        """`access.unauthenticated` or `access.forbidden`."""
        self._denied.labels(action).inc()

    def stale(self, count: int) -> None:
        self._stale.inc(count)

    def reported(self, provider: str, kind: EventKind | None, *, matched: bool) -> None:
        self._reported.labels(provider, kind or "unrecognised", str(matched).lower()).inc()

    def breached(self, kind: str, count: int) -> None:
        self._breaches.labels(kind).set(count)

    def dead(self, count: int) -> None:
        self._dead.set(count)

    def held(self, count: int) -> None:
        self._held.set(count)

    def checked(self, healthy: Mapping[str, bool]) -> None:
        """One run of the background checks, by their names."""
        self._checks.labels("healthy" if all(healthy.values()) else "unhealthy").inc()
        for name, well in healthy.items():
            self._failing.labels(name).set(not well)

    def answered(self, status: int, seconds: float) -> None:
        """Status 0: the client had gone before there was one."""
        kind = f"{status // 100}xx" if status else "none"
        if kind not in self._of_answers:
            self._of_answers[kind] = self._answers.labels(kind)
        self._of_answers[kind].observe(seconds)

    def commanded(self, command: str, seconds: float, succeeded: bool) -> None:
        """`command`: of the closed set of `storage.commands`."""
        if command not in self._of_commands:
            self._of_commands[command] = self._commands.labels(command)
        self._of_commands[command].observe(seconds)
        if not succeeded:
            self._failed_commands.labels(command).inc()

    def committed(self, size: int) -> None:
        self._batch.observe(size)

    def claimed(self, candidates: int, claimed: int) -> None:
        self._candidates.labels("claimed").inc(claimed)
        self._candidates.labels("lost").inc(candidates - claimed)

    def kpis(self, *, everywhere: bool = False) -> dict[str, float | None]:
        """The guide's KPIs since this process began, or `everywhere`: of all processes of its group since that began.
        None while nothing has ended."""
        registry, began = self.registry, self._started
        if everywhere and self._group is not None:
            registry, began = self._all(), self._group.began
        totals = {"accepted": 0.0, "success": 0.0, "failed": 0.0, "ended": 0.0, "seconds": 0.0}
        for sample in _samples(registry):
            _add(totals, sample)
        ended, success, up = totals["ended"], totals["success"], time.monotonic() - began
        return {
            "accepted": totals["accepted"],
            "ended": ended,
            "success_rate": success / ended if ended else None,
            "error_rate": totals["failed"] / ended if ended else None,
            "average_delivery_ms": 1000 * totals["seconds"] / success if success else None,
            "ended_per_minute": 60 * ended / up,
            "uptime_seconds": up,
        }

    def families(self) -> list[tuple[str, str, tuple[str, ...], str]]:
        """Name, kind, labels and meaning of each metric but `notification_state`."""
        collectors = self.registry._collector_to_names
        return [
            (metric.name, metric.type, tuple(getattr(collector, "_labelnames", ())), metric.documentation)
            for collector in collectors
            for metric in collector.collect()
        ]

    def text(self, figures: dict[str, float]) -> str:
        """All counters of the group's processes, and these figures."""
        registry = self.registry if self._group is None else self._all()
        shown = CollectorRegistry()
        shown.register(_Figures(figures))
        return (generate_latest(registry) + generate_latest(shown)).decode()

    def _all(self) -> CollectorRegistry:
        assert self._group is not None
        registry = CollectorRegistry()
        MultiProcessCollector(registry, str(self._group.directory))  # type: ignore[no-untyped-call]
        return registry


class _Figures:
    """Figures measured at the scrape; a gauge of its own, because they are added up by rules of their own."""

    def __init__(self, figures: dict[str, float]) -> None:
        self._figures = figures

    def collect(self) -> Iterator[Metric]:
        family = GaugeMetricFamily("notification_state", "Figures measured at the scrape", labels=["figure"])
        for name, value in self._figures.items():
            family.add_metric([name], value)
        yield family


def _succeeded(channel: str, status: str) -> bool:
    return status == DeliveryStatus.DELIVERED or (channel == Channel.EMAIL and status == DeliveryStatus.ACCEPTED)


def _samples(registry: CollectorRegistry) -> Iterator[Sample]:
    return (sample for metric in registry.collect() for sample in metric.samples)


def _add(totals: dict[str, float], sample: Sample) -> None:
    match sample.name:
        case "notification_accepted_total":
            totals["accepted"] += sample.value
        case "notification_delivered_seconds_total":
            totals["seconds"] += sample.value
        case "notification_deliveries_total" if sample.labels["status"] not in _LEFT_OUT:
            channel, status = sample.labels["channel"], sample.labels["status"]
            totals["ended"] += sample.value
            totals["success"] += sample.value if _succeeded(channel, status) else 0
            totals["failed"] += sample.value if status == DeliveryStatus.FAILED else 0
