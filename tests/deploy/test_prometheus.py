"""Prometheus: the guide's own file; rules that promtool takes, that fire when they should and are quiet otherwise."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.deploy.alerts import BURNS, CASES, FAILED, Series, deliveries
from tests.servers.debian import program

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy/prometheus"
GROUPS: list[dict[str, Any]] = yaml.safe_load((FOLDER / "rules.yml").read_text())["groups"]
RULES: list[dict[str, Any]] = [rule for group in GROUPS for rule in group["rules"]]
ALERTS = {rule["alert"]: rule for rule in RULES if "alert" in rule}
KINDS = {"downtime", "error-rate", "performance", "security", "promise"}


def promtool(*words: str | Path) -> str:
    ended = subprocess.run(
        [program("promtool", "prometheus"), *map(str, words)], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def evaluated(tmp_path: Path, series: Series, tests: dict[str, Any], every: str = "1m") -> None:
    test = {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        **tests,
    }
    file = tmp_path / "test.yml"
    text = {"rule_files": [str(FOLDER / "rules.yml")], "evaluation_interval": every, "tests": [test]}
    file.write_text(yaml.safe_dump(text))
    promtool("test", "rules", file)


def test_the_file_is_the_guides_with_the_rules_beside_it() -> None:
    section = (ROOT / "docs/deployment-guide.md").read_text().partition("#### Prometheus Metrics")[2]
    block = re.search(r"```yaml\n(.*?)```", section, re.DOTALL)
    assert block is not None
    ours = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
    assert ours.pop("rule_files") == ["rules.yml"]
    assert ours == yaml.safe_load(block[1])


def test_promtool_takes_both_files() -> None:
    assert f"{len(RULES)} rules found" in promtool("check", "config", FOLDER / "prometheus.yml")
    promtool("check", "rules", "--lint=all", "--lint-fatal", FOLDER / "rules.yml")


def test_every_alert_says_how_bad_it_is_what_is_wrong_and_where_to_read_on() -> None:
    for rule in ALERTS.values():
        assert rule["labels"]["severity"] in {"critical", "warning"}
        assert rule["labels"]["kind"] in KINDS
        page = ROOT / rule["annotations"]["runbook_url"]
        assert page.parent == ROOT / "docs/runbooks"
        assert page.exists(), page
        assert {"summary", "description", "runbook_url"} == set(rule["annotations"])
        assert rule["for"]
    assert {rule["labels"]["kind"] for rule in ALERTS.values()} == KINDS, "the guide's four kinds, and the promises"


def test_every_alert_is_tried() -> None:
    assert set(CASES) == set(ALERTS)


def firing(name: str, minutes: int, count: int) -> dict[str, Any]:
    expression = f'count by (severity, kind) (ALERTS{{alertname="{name}",alertstate="firing"}})'
    labels = ALERTS[name]["labels"]
    shown = [{"labels": f'{{severity="{labels["severity"]}",kind="{labels["kind"]}"}}', "value": 1}]
    test = {"expr": expression, "eval_time": f"{minutes}m", "exp_samples": shown if count else []}
    return {"promql_expr_test": [test]}


@pytest.mark.parametrize("name", CASES)
def test_an_alert_fires_when_it_should_and_is_quiet_otherwise(tmp_path: Path, name: str) -> None:
    case = CASES[name]
    evaluated(tmp_path, case.fires, firing(name, case.minutes, 1), case.every)
    evaluated(tmp_path, case.quiet, firing(name, case.minutes, 0), case.every)


@pytest.mark.parametrize(("name", "slo"), BURNS)
def test_a_budget_that_burns_is_told_by_the_name_of_its_objective(tmp_path: Path, name: str, slo: str) -> None:
    """Just above the burn rate the alert fires, for this objective alone; just below it is quiet."""
    case = BURNS[name, slo]
    for series, shown in ((case.fires, [{"labels": f'{{slo="{slo}"}}', "value": 1}]), (case.quiet, [])):
        expression = f'count by (slo) (ALERTS{{alertname="{name}",alertstate="firing"}})'
        test = {"expr": expression, "eval_time": f"{case.minutes}m", "exp_samples": shown}
        evaluated(tmp_path, series, {"promql_expr_test": [test]}, case.every)


def test_a_burn_that_is_over_is_told_no_longer(tmp_path: Path) -> None:
    """A quarter of an hour after the last failure nobody is paged, though the hour's share is still above the rate."""
    over = {"expr": 'ALERTS{alertname="ErrorBudgetBurnsFast"}', "eval_time": "75m", "exp_samples": []}
    series = deliveries(bad=0) | {FAILED: "0+60x60 3600x5940"}
    still = "notification:slo_bad:ratio_rate1h > bool 0.144"
    told = {"expr": still, "eval_time": "75m", "exp_samples": [{"labels": '{slo="delivery"}', "value": 1}]}
    evaluated(tmp_path, series, {"promql_expr_test": [over, told]})


def test_every_window_of_an_objective_has_one_formula() -> None:
    formulas: dict[str, set[str]] = {}
    windows: dict[str, set[str]] = {}
    for rule in RULES:
        if found := re.fullmatch(r"notification:slo_bad:ratio_rate(\w+)", rule.get("record", "")):
            slo = rule["labels"]["slo"]
            formulas.setdefault(slo, set()).add(rule["expr"].replace(f"[{found[1]}]", "[]"))
            windows.setdefault(slo, set()).add(found[1])
            assert "[" + found[1] + "]" in rule["expr"], rule
    assert [len(all_of_one) for all_of_one in formulas.values()] == [1] * len(formulas)
    assert {frozenset(of_one) for of_one in windows.values()} == {frozenset({"5m", "30m", "1h", "6h", "3d", "30d"})}


def test_the_budgets_and_the_burns_are_those_of_the_page() -> None:
    page = (ROOT / "docs/runbooks/slos.md").read_text()
    said = {
        m[1]: round(1 - float(m[2]) / 100, 6)
        for m in re.finditer(r"^\| ([\w -]+?) \| [^|]+ \| ([\d.]+) % \|", page, re.M)
    }
    budgets = {rule["labels"]["slo"]: rule["expr"] for rule in RULES if rule.get("record", "").endswith("budget:ratio")}
    assert {slo: f"vector({share:g})" for slo, share in said.items()} == budgets
    told = re.findall(r"^\| `(ErrorBudget\w+)` \| ([\d.]+) \| (\w+) \| (\w+) \| (\w+) \|", page, re.M)
    found = []
    for name, rule in ALERTS.items():
        if name.startswith("ErrorBudget"):
            long, short = re.findall(r"slo_bad:ratio_rate(\w+) > ", rule["expr"])
            factors = set(re.findall(r"> (?:([\d.]+) \* )?notification:slo_budget", rule["expr"]))
            assert len(factors) == 1
            found.append((name, factors.pop() or "1", long, short, rule["labels"]["severity"]))
            assert rule["annotations"]["runbook_url"] == "docs/runbooks/slos.md"
    assert told == found


def test_a_test_of_an_alert_can_fail(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="FAILED"):
        evaluated(tmp_path, CASES["EngineDown"].quiet, firing("EngineDown", 3, 1))
    with pytest.raises(AssertionError, match="FAILED"):
        evaluated(tmp_path, CASES["EngineDown"].fires, firing("EngineDown", 3, 0))


def test_the_kpis_are_the_designs_formulas(tmp_path: Path) -> None:
    """Success: delivered, for e-mail also accepted, of all that ended but for suppressed, expired and cancelled."""
    ended = 'notification_deliveries_total{channel="%s",status="%s"}'
    series = {
        ended % ("in_app", "delivered"): "0+60x60",
        ended % ("email", "accepted"): "0+20x60",
        ended % ("webhook", "failed"): "0+10x60",
        ended % ("email", "unknown"): "0+10x60",
        ended % ("email", "suppressed"): "0+1000x60",
        ended % ("email", "expired"): "0+1000x60",
        ended % ("in_app", "cancelled"): "0+1000x60",
        'notification_success_seconds_sum{channel="in_app"}': "0+6x60",
        'notification_success_seconds_count{channel="in_app"}': "0+60x60",
        'notification_checks_total{outcome="healthy"}': "0+3x60",
        'notification_checks_total{outcome="unhealthy"}': "0+1x60",
    }
    values = {
        "notification:success:ratio_rate5m": ("{}", 0.8),
        "notification:errors:ratio_rate5m": ("{}", 0.1),
        "notification:ended:per_minute5m": ("{}", 100),
        "notification:delivery_seconds:mean5m": ('{channel="in_app"}', 0.1),
        "notification:uptime:ratio_rate30d": ("{}", 0.75),
    }
    tests = [
        {"expr": f"round({name}, 0.001)", "eval_time": "30m", "exp_samples": [{"labels": labels, "value": value}]}
        for name, (labels, value) in values.items()
    ]
    evaluated(tmp_path, series, {"promql_expr_test": tests})
