"""`make kpi`, a moment of it on a real engine: every row of the guide's tables is there, and computed. No timing."""

import re
from pathlib import Path

from bench import kpi, kpi_load, kpi_report

GUIDE = (Path(__file__).parents[3] / "docs" / "deployment-guide.md").read_text()


async def test_every_row_of_the_guides_tables_is_measured(tmp_path: Path) -> None:
    taken = await kpi.measure(seconds=2, rate=20)
    assert (taken.accepted, taken.refused) == (40, 0)
    assert (taken.ended, taken.succeeded, taken.failed) == (40, 40, 0)
    assert (len(taken.in_app_ms), len(taken.email_ms), len(taken.webhook_ms)) == (24, 8, 8)
    assert all(took > 0 for took in (*taken.in_app_ms, *taken.email_ms, *taken.webhook_ms))
    assert all(taken.answered_ms.values())
    assert all(taken.ready)
    assert len(taken.late_ms) == 40
    found = kpi_report.rows(taken)
    text = kpi_report.markdown(taken, found, (0.5, 0.5))
    for name in re.findall(r"^- \*\*(.+?)\*\*: Target", GUIDE, re.MULTILINE):
        assert name in text
    for path, limit in re.findall(r"^\| `(/\S+)` \|.*\| < (\d+)ms \|", GUIDE, re.MULTILINE):
        assert re.search(rf"\| `{path}`, p99 +\| < {int(limit):,} ms +\|", text), path
    assert "100.000 %" in text
    kpi_report.write(text, tmp_path / "results" / "kpi.md")
    assert (tmp_path / "results" / "kpi.md").read_text() == text


def test_a_target_that_is_missed_is_said_to_be() -> None:
    taken = kpi_load.Taken(rate=1, seconds=60, in_app_ms=[900.0], email_ms=[31_000.0], ended=50, succeeded=48, failed=2)
    taken.ready = [True, False]
    taken.answered_ms = {path: [limit + 1] for path, limit in kpi_load.HEALTH.items()}
    found = kpi_report.rows(taken)
    assert len(found) == 11
    assert not any(row.met for row in found)
    assert "96.000 %" in kpi_report.table(found)


def test_a_percentile_is_a_value_that_was_measured() -> None:
    values = [float(i) for i in range(1, 101)]
    assert (kpi_report.percentile(values, 0.99), kpi_report.percentile(values, 0.5)) == (99.0, 50.0)
    assert kpi_report.percentile([7.0], 0.99) == 7.0


def test_the_shares_of_the_load_are_exact() -> None:
    counted = [kpi_load.channel_of(index) for index in range(100)]
    assert {channel: counted.count(channel) / 100 for channel in kpi_load.SHARES} == kpi_load.SHARES
