"""`python -m tests.chaos [--only NAME] [--short] [--seed N] [--prove] [--out DIR]`: the suite, and its table."""

import argparse
import asyncio
import sys
import time
from pathlib import Path

import pytest
from tests.chaos.broken import FOUND_BY
from tests.chaos.cluster import Cluster, cluster
from tests.chaos.faults import FAULTS, Fault
from tests.chaos.faults import all as _registered  # noqa: F401 - fills the table
from tests.chaos.ledger import Row
from tests.chaos.report import cells, markdown, write

FAILURES = (AssertionError, TimeoutError, OSError, pytest.fail.Exception)  # the last: a program that is missing


async def run(options: argparse.Namespace) -> list[Row]:
    chosen = [f for name, f in FAULTS.items() if not options.only or any(o in name for o in options.only)]
    rows: list[Row] = []
    async with cluster() as shared:
        for chosen_fault in chosen:
            rows.append(await run_one(chosen_fault, shared, options))
            if options.out:  # after each: a run that is ended early has shown what it has shown
                write(options.out, rows, options.seed, not options.short)
    return rows


async def run_one(chosen: Fault, shared: Cluster, options: argparse.Namespace) -> Row:
    started = time.monotonic()
    count = options.count or (chosen.short if options.short else chosen.full)
    await shared.whole()
    try:
        row = await chosen.run(count, options.seed, shared if chosen.shares else None, options.broken)
    except (*FAILURES, ExceptionGroup) as error:  # the others are worth having
        row = Row(chosen.name, runs=count, accepted=0, problems=(f"did not come to its end: {told(error)}"[:300],))
    print("ok  " if row.passed else "FAIL", *cells(row), f"({time.monotonic() - started:.0f} s)", row.note, flush=True)
    for problem in row.problems:
        print("     ", problem, flush=True)
    return row


def told(error: BaseException) -> str:
    return "; ".join(map(told, error.exceptions)) if isinstance(error, BaseExceptionGroup) else str(error)


async def prove(options: argparse.Namespace) -> dict[str, bool]:
    """Every broken build under the fault that must find it, by the short counts."""
    found = {}
    async with cluster() as shared:
        for build, name in FOUND_BY.items():
            await shared.whole()
            row = await FAULTS[name].run(
                FAULTS[name].short, options.seed, shared if FAULTS[name].shares else None, build
            )
            found[build] = not row.passed
            print("found " if found[build] else "MISSED", build, "by", name, *row.problems[:1], flush=True)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description="The fault suite.")
    parser.add_argument("--only", action="append", help="part of a fault's name; repeat it")
    parser.add_argument("--short", action="store_true", help="the counts of `make test`")
    parser.add_argument("--count", type=int, help="this count for every fault")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--broken", help="a deliberately broken build of tests.chaos.broken")
    parser.add_argument("--out", type=Path, help="where chaos.json and chaos.md go")
    parser.add_argument("--prove", action="store_true", help="run the broken builds: each must be found")
    options = parser.parse_args()
    if options.prove:
        return int(not all(asyncio.run(prove(options)).values()))
    rows = asyncio.run(run(options))
    print("\n" + markdown(rows, options.seed, not options.short))
    return int(not all(row.passed for row in rows))


if __name__ == "__main__":
    sys.exit(main())
