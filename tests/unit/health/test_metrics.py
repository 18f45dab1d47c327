import time
from itertools import product
from types import SimpleNamespace

import pytest
from prometheus_client.parser import text_string_to_metric_families

from notification_engine.domain.delivery import Channel, DeliveryStatus, Reason
from notification_engine.health import metrics as metrics_module
from notification_engine.health.metrics import Metrics

C, S = Channel, DeliveryStatus
ENDED = [s for s in S if s not in {S.PENDING, S.SENDING}]
LEFT_OUT = {S.SUPPRESSED, S.EXPIRED, S.CANCELLED}


def of(*ended: tuple[Channel, DeliveryStatus, float]) -> Metrics:
    metrics = Metrics()
    for channel, status, seconds in ended:
        metrics.settled(channel, status, None, seconds)
    return metrics


@pytest.mark.parametrize(("channel", "status"), list(product(C, ENDED)))
def test_each_end_counts_by_the_formula(channel: Channel, status: DeliveryStatus) -> None:
    """Success: delivered, for e-mail also accepted; of all that ended but for suppressed, expired and cancelled."""
    kpis = of((channel, status, 1.0)).kpis()
    success = status is S.DELIVERED or (status is S.ACCEPTED and channel is C.EMAIL)
    counted = status not in LEFT_OUT
    assert kpis["ended"] == counted
    assert kpis["success_rate"] == (float(success) if counted else None)
    assert kpis["error_rate"] == (float(status is S.FAILED) if counted else None)


def test_the_rates_are_shares_of_what_ended() -> None:
    ended = [(C.IN_APP, S.DELIVERED, 0.1)] * 6 + [(C.EMAIL, S.ACCEPTED, 2.0)] + [(C.WEBHOOK, S.FAILED, 60.0)] * 2
    ended += [(C.EMAIL, S.UNKNOWN, 30.0)] + [(C.EMAIL, S.SUPPRESSED, 0.0)] * 100
    kpis = of(*ended).kpis()
    assert (kpis["ended"], kpis["success_rate"], kpis["error_rate"]) == (10, 0.7, 0.2)


def test_the_delivery_time_is_that_of_what_was_delivered() -> None:
    """An hour of retries that ended in a failure is no delivery time."""
    kpis = of((C.IN_APP, S.DELIVERED, 0.1), (C.EMAIL, S.ACCEPTED, 0.3), (C.WEBHOOK, S.FAILED, 3600.0)).kpis()
    assert kpis["average_delivery_ms"] == pytest.approx(200.0)
    assert of((C.WEBHOOK, S.FAILED, 3600.0)).kpis()["average_delivery_ms"] is None


def test_a_clock_that_went_back_costs_nothing() -> None:
    kpis = of((C.IN_APP, S.DELIVERED, -0.2), (C.IN_APP, S.DELIVERED, 0.4)).kpis()
    assert (kpis["ended"], kpis["average_delivery_ms"]) == (2, pytest.approx(200.0))


def test_before_anything_ended_there_are_no_rates() -> None:
    kpis = Metrics().kpis()
    assert (kpis["success_rate"], kpis["error_rate"], kpis["average_delivery_ms"]) == (None, None, None)
    assert (kpis["accepted"], kpis["ended"], kpis["ended_per_minute"]) == (0, 0, 0.0)


def test_the_queue_rate_is_a_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    metrics = of(*[(C.IN_APP, S.DELIVERED, 0.1)] * 30)
    later = time.monotonic() + 120
    monkeypatch.setattr(metrics_module, "time", SimpleNamespace(monotonic=lambda: later))
    kpis = metrics.kpis()
    assert kpis["ended_per_minute"] == pytest.approx(15, rel=0.01)
    assert kpis["uptime_seconds"] == pytest.approx(120, rel=0.01)


def test_what_was_accepted_is_counted_by_notifications() -> None:
    metrics = Metrics()
    metrics.accepted(3)
    metrics.accepted(4)
    assert metrics.kpis()["accepted"] == 7


def label_values(labels: dict[str, str]) -> tuple[str, ...]:
    """In the order of the labels' names."""
    return tuple(value for _, value in sorted(labels.items()))


def samples(metrics: Metrics, figures: dict[str, float] | None = None) -> dict[tuple[str, tuple[str, ...]], float]:
    families = text_string_to_metric_families(metrics.text(figures or {}))
    return {(s.name, label_values(s.labels)): s.value for f in families for s in f.samples}


def test_the_text_is_prometheus_and_every_name_is_ours() -> None:
    metrics = of((C.WEBHOOK, S.DELIVERED, 0.02))
    metrics.accepted(2)
    metrics.attempted(C.WEBHOOK, "webhook", S.PENDING, Reason.TIMEOUT, 1500.0)
    metrics.stale(1)
    metrics.committed(7)
    shown = samples(metrics, {"queue_due": 3.0})
    assert all(name.startswith("notification_") for name, _ in shown)
    assert shown["notification_accepted_total", ()] == 2
    assert shown["notification_attempts_total", ("webhook", "webhook", "timeout", "pending")] == 1
    assert shown["notification_deliveries_total", ("webhook", "", "delivered")] == 1
    assert shown["notification_attempt_seconds_sum", ("webhook", "webhook")] == 1.5
    assert shown["notification_delivery_seconds_sum", ("webhook",)] == 0.02
    assert shown["notification_stale_total", ()] == 1
    assert shown["notification_commit_size_sum", ()] == 7
    assert shown["notification_state", ("queue_due",)] == 3.0


def test_a_figure_of_the_last_scrape_is_replaced() -> None:
    metrics = Metrics()
    samples(metrics, {"queue_due": 3.0})
    assert samples(metrics, {"queue_due": 1.0})["notification_state", ("queue_due",)] == 1.0


def test_two_engines_in_a_process_count_apart() -> None:
    first, second = Metrics(), Metrics()
    first.accepted(1)
    assert second.kpis()["accepted"] == 0
    assert samples(second)["notification_accepted_total", ()] == 0
