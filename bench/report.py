"""The table of a run: on standard output, as Markdown and as JSON in `bench/results/`."""

import json
import os
import platform
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
README = Path(__file__).parent / "README.md"
BEGIN, END = "<!-- last run -->", "<!-- end of the last run -->"
PACKAGES = ("notification-engine", "pymongo", "fastapi", "pydantic", "uvicorn", "uvloop", "aiohttp", "orjson")


@dataclass(frozen=True)
class Figure:
    """One measured figure beside its reference. `least` and `aim` are of the ratio where there is one, else of the
    value; `up` says that more is better."""

    name: str
    value: float
    unit: str
    reference: str = ""
    reference_value: float | None = None
    ratio: float | None = None
    ratios: tuple[float, ...] = ()
    least: float | None = None
    aim: float | None = None
    up: bool = True

    @property
    def judged(self) -> str:
        wanted = self.aim if self.aim is not None else self.least
        if wanted is None:
            return ""
        shown = self.value if self.ratio is None else self.ratio
        if shown >= wanted if self.up else shown <= wanted:
            return "met"
        enough = self.least is not None and self.ratio is not None and self.ratio >= self.least
        return "least met" if enough else "missed"


@dataclass(frozen=True)
class Run:
    date: str
    quick: bool
    seconds: float
    machine: dict[str, str]
    versions: dict[str, str]
    load_before: float
    fdatasync_ms: float
    figures: list[Figure]


def machine() -> dict[str, str]:
    cpus = [line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    kilobytes = next((int(line.split()[1]) for line in _lines("/proc/meminfo") if line.startswith("MemTotal")), 0)
    return {
        "cpu": cpus[0] if cpus else platform.processor(),
        "cores": str(os.cpu_count()),
        "memory": f"{kilobytes / 1024 / 1024:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}",
    }


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines()


def versions(mongod: str) -> dict[str, str]:
    return {"python": platform.python_version(), "mongod": mongod} | {name: version(name) for name in PACKAGES}


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")


def table(figures: list[Figure]) -> str:
    head = (
        "Figure",
        "Measured",
        "Reference of the same run",
        "Its value",
        "Ratio (of the rounds)",
        "At least",
        "Aim",
        "",
    )
    rows = [head, *(_row(figure) for figure in figures)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def _row(f: Figure) -> tuple[str, ...]:
    unit = "/s" if f.ratio and f.unit.endswith("/s") else f.unit
    value = "" if f.reference_value is None else f"{_number(f.reference_value)} {unit}"
    rounds = f" ({min(f.ratios):.2f} to {max(f.ratios):.2f})" if f.ratios else ""
    ratio = "" if f.ratio is None else f"{f.ratio:.2f}{rounds}"
    sign, unit = "" if f.up else "≤ ", "" if f.ratio is not None else f" {f.unit}"
    least, aim = ("" if wanted is None else f"{sign}{_number(wanted)}{unit}" for wanted in (f.least, f.aim))
    return f.name, f"{_number(f.value)} {f.unit}", f.reference, value, ratio, least, aim, f.judged


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def markdown(run: Run) -> str:
    kind = "a quick run" if run.quick else "a full run"
    return "\n".join(
        [
            f"Written by `make bench`: {run.date}, {kind} of {run.seconds:.0f} s.",
            "",
            f"- Machine: {', '.join(f'{k} {v}' for k, v in run.machine.items())}",
            f"- Versions: {', '.join(f'{k} {v}' for k, v in run.versions.items())}",
            f"- Load average of the machine before it began, by others: {run.load_before:.1f}",
            f"- Disk: {run.fdatasync_ms:.2f} ms for 4 KiB and fdatasync (median of 200)",
            "",
            table(run.figures),
            "",
        ]
    )


def write(run: Run) -> None:
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "latest.md").write_text("# Last benchmark run\n\n" + markdown(run))
    before, _, rest = README.read_text().partition(BEGIN)
    README.write_text(f"{before}{BEGIN}\n{markdown(run)}{END}{rest.partition(END)[2]}")
    shown = asdict(run) | {"figures": [asdict(f) | {"judged": f.judged} for f in run.figures]}
    (RESULTS / "latest.json").write_text(json.dumps(shown, indent=2) + "\n")
