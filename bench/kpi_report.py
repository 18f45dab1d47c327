"""The guide's KPI table and its response-time targets, with what was measured; `bench.kpi_load` measures."""

from dataclasses import dataclass
from math import ceil
from pathlib import Path
from statistics import fmean

from bench.kpi_load import HEALTH, Taken
from bench.report import RESULTS, machine, now

RESULT = RESULTS / "kpi.md"


@dataclass(frozen=True)
class Row:
    """`measured` is what the target is of; `beside` what else is worth knowing."""

    name: str
    target: str
    measured: str
    beside: str
    met: bool


def percentile(values: list[float], share: float) -> float:
    """Nearest rank."""
    return sorted(values)[max(0, ceil(len(values) * share) - 1)]


def rows(taken: Taken) -> list[Row]:
    return [*_kpis(taken), *(_health(path, limit, taken.answered_ms[path]) for path, limit in HEALTH.items())]


def _kpis(t: Taken) -> list[Row]:
    success, errors = t.succeeded / t.ended, t.failed / t.ended
    per_minute = 60 * t.ended / t.seconds
    up = sum(t.ready) / len(t.ready)
    return [
        Row(
            "Delivery Success Rate",
            "> 99 %",
            f"{100 * success:.3f} %",
            f"{t.succeeded:,} of {t.ended:,}",
            success > 0.99,
        ),
        _time("Average Delivery Time, in-app (POST to frame)", 500, t.in_app_ms),
        _time("Average Delivery Time, e-mail (POST to mail server)", 30_000, t.email_ms),
        Row(
            "Queue Processing Rate",
            "> 100 /min",
            f"{per_minute:,.0f} /min",
            f"offered {t.rate * 60:,.0f} /min: {t.shares}",
            per_minute > 100,
        ),
        Row(
            "Error Rate",
            "< 1 %",
            f"{100 * errors:.3f} %",
            f"{t.failed:,} failed, {t.refused:,} POSTs refused",
            errors < 0.01,
        ),
        Row("System Uptime (ready, by probe)", "> 99.9 %", f"{100 * up:.2f} %", f"{len(t.ready):,} probes", up > 0.999),
    ]


def _time(name: str, limit_ms: float, took: list[float]) -> Row:
    mean = fmean(took)
    beside = f"p50 {percentile(took, 0.5):,.0f} ms, p99 {percentile(took, 0.99):,.0f} ms, {len(took):,} measured"
    return Row(name, f"< {limit_ms:,.0f} ms", f"{mean:,.0f} ms", beside, mean < limit_ms)


def _health(path: str, limit_ms: float, took: list[float]) -> Row:
    p99 = percentile(took, 0.99)
    beside = f"p50 {percentile(took, 0.5):,.1f} ms, {len(took):,} asked"
    return Row(f"`{path}`, p99", f"< {limit_ms:,.0f} ms", f"{p99:,.1f} ms", beside, p99 < limit_ms)


def table(found: list[Row]) -> str:
    head = ("KPI of the guide", "Target", "Measured", "", "")
    cells = [head, *((r.name, r.target, r.measured, r.beside, "met" if r.met else "missed") for r in found)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
    lines = ["| " + " | ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) + " |" for row in cells]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def markdown(taken: Taken, found: list[Row], load: tuple[float, float]) -> str:
    """`load`: the machine's load average before and at the end."""
    p50, p99 = (percentile(taken.late_ms, share) for share in (0.5, 0.99))
    return "\n".join(
        [
            "# The guide's KPIs, measured",
            "",
            f"Written by `make kpi`: {now()}, {taken.seconds:.0f} s of load on one engine process with its defaults.",
            "",
            f"- Machine: {', '.join(f'{k} {v}' for k, v in machine().items())}; the load generator and mongod share it",
            f"- Load average before it began, by others: {load[0]:.1f}; at its end: {load[1]:.1f}",
            f"- The load generator's own turns came late by {p50:,.0f} ms (p50), {p99:,.0f} ms (p99): "
            "waiting for a core, which every figure below holds as well",
            "",
            table(found),
            "",
        ]
    )


def write(text: str, path: Path = RESULT) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
