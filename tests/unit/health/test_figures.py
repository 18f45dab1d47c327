"""Figures and labels: the page is what the registry tells, and a figure is found by the form of its line."""

import re
from pathlib import Path

import pytest

from notification_engine.cli.metrics_reference import metrics_reference
from notification_engine.domain.delivery import Channel, DeliveryStatus
from notification_engine.health.figures import FIGURES, LABELS, named
from notification_engine.health.metrics import Metrics
from notification_engine.storage.commands import COMMANDS, OTHER

PAGE = Path(__file__).parents[3] / "docs/metrics.md"
RULES = Path(__file__).parents[3] / "deploy/prometheus/rules.yml"


def test_the_page_is_what_the_registry_tells() -> None:
    assert PAGE.read_text() == metrics_reference(), "run `make docs`"


def test_every_metric_says_its_kind_its_labels_and_its_meaning() -> None:
    families = Metrics().families()
    names = [name for name, *_ in families]
    assert len(names) == len(set(names)) > 15
    for name, kind, labels, meaning in families:
        assert name.startswith("notification_")
        assert kind in {"counter", "gauge", "histogram"}
        assert set(labels) <= set(LABELS), name
        assert meaning


def test_what_the_page_says_is_recorded_is_recorded() -> None:
    recorded = re.findall(r"record: (\S+)", RULES.read_text())
    said = re.findall(r"`(notification:[\w:]+|:\w+)`", PAGE.read_text())
    assert len(said) >= 5
    assert {name for name in said if not name.startswith(":")} <= set(recorded)
    assert "notification:delivery_seconds:p99_5m" in recorded


@pytest.mark.parametrize(
    ("figure", "line"),
    [
        ("queue_due", "queue_due"),
        ("lane_email_in_flight", "lane_{channel}_in_flight"),
        ("breaker_ses", "breaker_{provider}"),
        ("rate_limit_refused_auth", "rate_limit_refused_{class}"),
        ("lane_pigeon_in_flight", None),
        ("breaker_user-17", None),
        ("queue_due_", None),
        ("", None),
    ],
)
def test_a_figure_belongs_to_a_line_or_to_none(figure: str, line: str | None) -> None:
    assert named(figure) == line
    assert line is None or line in FIGURES


def test_the_commands_of_the_page_are_those_that_are_timed() -> None:
    assert set(LABELS["command"]) == {*COMMANDS, OTHER}


def test_a_delivery_that_succeeded_is_timed_and_another_is_not() -> None:
    metrics = Metrics()
    metrics.settled(Channel.EMAIL, DeliveryStatus.ACCEPTED, None, 0.5)
    metrics.settled(Channel.EMAIL, DeliveryStatus.FAILED, None, 3600.0)
    metrics.settled(Channel.WEBHOOK, DeliveryStatus.DELIVERED, None, -1.0)
    text = metrics.text({})
    assert 'notification_success_seconds_sum{channel="email"} 0.5' in text
    assert 'notification_success_seconds_count{channel="email"} 1.0' in text
    assert 'notification_success_seconds_sum{channel="webhook"} 0.0' in text


def test_an_answer_is_counted_by_its_class_and_a_command_by_its_fate() -> None:
    metrics = Metrics()
    for status in (200, 202, 404, 503, 0):
        metrics.answered(status, 0.01)
    metrics.commanded("find", 0.01, True)
    metrics.commanded("find", 0.01, False)
    text = metrics.text({})
    for status, count in {"2xx": 2, "4xx": 1, "5xx": 1, "none": 1}.items():
        assert f'notification_http_seconds_count{{status="{status}"}} {float(count)}' in text
    assert 'notification_database_command_seconds_count{command="find"} 2.0' in text
    assert 'notification_database_commands_failed_total{command="find"} 1.0' in text
