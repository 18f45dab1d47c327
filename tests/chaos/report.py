"""The table of a run, as text, Markdown and JSON, with what a reader needs to repeat it."""

import os
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import orjson
from tests.chaos.ledger import Row

HEAD = ("fault", "runs", "accepted", "lost", "duplicates", "explained", "unexplained", "longest gap")


def cells(row: Row) -> tuple[str, ...]:
    gap = "" if row.longest_gap_seconds is None else f"{row.longest_gap_seconds:.1f} s"
    numbers = (row.runs, row.accepted, row.lost, row.duplicates, row.explained, row.unexplained)
    return (row.fault, *map(str, numbers), gap)


def markdown(rows: Sequence[Row], seed: int, full: bool) -> str:
    about = conditions(seed, full)
    lines = [f"| {' | '.join(HEAD)} |", "|---|" + "---:|" * (len(HEAD) - 1)]
    lines += [f"| {' | '.join(cells(row))} |" for row in rows]
    notes = [f"- {row.fault}: {'; '.join((*row.problems, row.note))}" for row in rows if row.problems or row.note]
    facts = [f"{name}: {value}" for name, value in about.items()]
    return "\n".join([*lines, "", *notes, "", "; ".join(facts), ""])


def conditions(seed: int, full: bool) -> dict[str, Any]:
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "counts": "full" if full else "short",
        "seed": seed,
        "engine": version("notification-engine"),
        "commit": _commit(),
        "pymongo": version("pymongo"),
        "python": platform.python_version(),
        "kernel": platform.release(),
        "processors": os.cpu_count(),
        "load_average_15_min": round(os.getloadavg()[2], 1),
        "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30),
    }


def _commit() -> str:
    """Of this checkout, `+` where files differ from it; empty where git does not know."""
    words = ["git", "describe", "--always", "--abbrev=10", "--dirty=+", "--exclude=*"]
    told = subprocess.run(words, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    return told.stdout.strip()


def write(directory: Path, rows: Sequence[Row], seed: int, full: bool) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    body = conditions(seed, full) | {"rows": [asdict(row) | {"passed": row.passed} for row in rows]}
    (directory / "chaos.json").write_bytes(orjson.dumps(body, option=orjson.OPT_INDENT_2))
    (directory / "chaos.md").write_text(markdown(rows, seed, full))
