"""Grafana's dashboard and the rules of Prometheus ask for nothing that a real engine does not tell."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.deploy.test_prometheus import RULES, promtool
from tests.integration.conftest import Start
from tests.integration.health.exercised import Scrape, exercised, scraped
from tests.servers.receiver import Receiver

from notification_engine.health.figures import LABELS, named

ROOT = Path(__file__).parents[2]
GRAFANA = ROOT / "deploy/grafana"
BOARD: dict[str, Any] = json.loads((GRAFANA / "dashboards/notification-engine.json").read_text())
PANELS = [panel for panel in BOARD["panels"] if panel["type"] != "row"]
TARGETS: list[tuple[str, str]] = [(t["expr"], t["legendFormat"]) for panel in PANELS for t in panel["targets"]]
RECORDED = {rule["record"]: rule["expr"] for rule in RULES if "record" in rule}
GIVEN = {label for rule in RULES if "record" in rule for label in rule.get("labels", {})}  # the objective's name
SELECTOR = re.compile(r"(?<![\w:$])(notification_\w+)(?:\{([^{}]*)\})?")
MATCHER = re.compile(r'(\w+)(=~|!~|!=|=)"([^"]*)"')
GROUPED = re.compile(r"\b(?:by|on|ignoring) \(([\w, ]*)\)")
SCRAPER = {"instance", "job"}  # Prometheus adds these itself
EXPRESSIONS = [expr for expr, _ in TARGETS] + [rule["expr"] for rule in RULES]


def selectors(expression: str) -> Iterator[tuple[str, list[tuple[str, str, str]]]]:
    for found in SELECTOR.finditer(expression):
        yield found[1], MATCHER.findall(found[2] or "")


@pytest.fixture
async def told(start: Start, receiver: Receiver) -> Scrape:
    return await scraped(await exercised(start, receiver))


def exists(label: str, operator: str, value: str, of: set[str]) -> bool:
    """Whether something that the engine can tell has that value; `!=` and `!~` take away, and may find nothing."""
    if label in SCRAPER or operator in {"!=", "!~"}:
        return True
    if label == "figure" and operator == "=":
        return named(value) is not None
    known = of if label in {"figure", "le"} else set(LABELS[label])
    return (
        value in known
        if operator == "="
        else all(any(re.fullmatch(part, one) for one in known) for part in value.split("|") if "(" not in value)
        and any(re.fullmatch(value, one) for one in known)
    )


async def test_everything_that_is_asked_for_is_told_with_its_labels_and_values(told: Scrape) -> None:
    open_sets = {label: told.values(label) for label in ("figure", "le")}
    for expression in EXPRESSIONS:
        for name, matchers in selectors(expression):
            assert name in told.names(), f"{name} of {expression}"
            for label, operator, value in matchers:
                assert label in told.labels(name) | SCRAPER, f"{label} of {expression}"
                assert exists(label, operator, value, open_sets.get(label, set())), (
                    f"{label}{operator}{value} of {expression}"
                )


async def test_what_is_grouped_or_named_is_a_label_of_what_is_asked_for(told: Scrape) -> None:
    for expression, legend in TARGETS:
        names = {name for name, _ in selectors(expression)}
        labels = {label for name in names for label in told.labels(name)} | SCRAPER
        for recorded in re.findall(r"notification:[\w:]+", expression):
            labels |= set(",".join(GROUPED.findall(RECORDED[recorded])).replace(" ", "").split(","))
            labels |= GIVEN if ":slo_" in recorded else set()
        for group in GROUPED.findall(expression):
            assert {label.strip() for label in group.split(",")} <= labels, expression
        assert set(re.findall(r"\{\{(\w+)\}\}", legend)) <= labels, legend
    for rule in RULES:
        names = {name for name, _ in selectors(rule["expr"])}
        labels = {label for name in names for label in told.labels(name)} | SCRAPER | {""}
        for group in GROUPED.findall(rule["expr"]):
            assert {label.strip() for label in group.split(",")} <= labels, rule["expr"]


def test_every_recorded_name_that_is_asked_for_is_recorded() -> None:
    for expression in EXPRESSIONS:
        assert set(re.findall(r"notification:[\w:]+", expression)) <= set(RECORDED), expression


def test_a_name_that_nobody_tells_would_be_found() -> None:
    """The readers above see what they should: names, labels, and values of all four operators."""
    expression = 'sum by (a) (rate(notification_x_total{b="c",d=~"e|f",g!="h"}[5m])) / notification_y'
    assert list(selectors(expression)) == [
        ("notification_x_total", [("b", "=", "c"), ("d", "=~", "e|f"), ("g", "!=", "h")]),
        ("notification_y", []),
    ]
    assert not exists("figure", "=", "queue_depth", {"queue_due"})
    assert not exists("figure", "=~", "bus_.*", {"queue_due"})
    assert not exists("status", "=", "done", set())
    assert not exists("le", "=", "30", {"0.5", "30.0"})
    assert not exists("status", "=~", "delivered|done", set())


def test_prometheus_takes_every_expression_of_the_dashboard(tmp_path: Path) -> None:
    rules = [
        {"record": f"panel:{number}", "expr": expr.replace("$instance", ".*")}
        for number, (expr, _) in enumerate(TARGETS)
    ]
    file = tmp_path / "panels.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    assert f"{len(TARGETS)} rules found" in promtool("check", "rules", "--lint=none", file)


def test_the_dashboard_is_one_that_grafana_takes() -> None:
    """Ids and places are its own, nothing overlaps, and every query asks the source that is provisioned."""
    ids = [panel["id"] for panel in BOARD["panels"]]
    assert len(set(ids)) == len(ids)
    taken: set[tuple[int, int]] = set()
    for panel in BOARD["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells
    [source] = yaml.safe_load((GRAFANA / "provisioning/datasources/prometheus.yaml").read_text())["datasources"]
    asked = [t["datasource"] for panel in PANELS for t in panel["targets"]]
    asked += [v["datasource"] for v in BOARD["templating"]["list"]] + [panel["datasource"] for panel in PANELS]
    assert all(one == {"type": source["type"], "uid": source["uid"]} for one in asked)


def test_the_files_of_provisioning_are_where_compose_mounts_them() -> None:
    compose = yaml.safe_load((ROOT / "deploy/compose/compose.yaml").read_text())
    grafana = compose["services"]["grafana"]
    targets = {
        (ROOT / "deploy/compose" / compose["configs"][one["source"]]["file"]).resolve(): one["target"]
        for one in grafana["configs"]
    }
    assert {file.relative_to(GRAFANA / "provisioning").as_posix(): target for file, target in targets.items()} == {
        "datasources/prometheus.yaml": "/etc/grafana/provisioning/datasources/prometheus.yaml",
        "dashboards/engine.yaml": "/etc/grafana/provisioning/dashboards/engine.yaml",
    }
    [provider] = yaml.safe_load((GRAFANA / "provisioning/dashboards/engine.yaml").read_text())["providers"]
    assert f"../grafana/dashboards:{provider['options']['path']}:ro" in grafana["volumes"]


def test_the_dashboard_shows_the_guides_targets() -> None:
    section = (ROOT / "docs/deployment-guide.md").read_text().partition("(KPIs)")[2].partition("####")[0]
    shown = " ".join(f"{panel['title']}: {panel['description']}" for panel in PANELS)
    for target in re.findall(r"[<>] ?[\d.]+ ?(?:%|ms|s\b)?", section):
        assert target.replace(" ", "") in shown.replace(" ", ""), target
