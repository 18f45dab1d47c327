"""`python -m bench.kpi [--short] [--rate N]`: the guide's KPI table under ten minutes (one) of mixed load.

Exit 1 when a target is missed. Only a full run writes bench/results/kpi.md.
"""

import argparse
import asyncio
import os
import signal
import sys

from bench import kpi_load, kpi_report
from bench.servers import Bed

FULL_SECONDS, SHORT_SECONDS = 600.0, 60.0
RATE = 100.0  # notifications a second: 6,000 a minute, sixty times the guide's target


async def measure(seconds: float, rate: float = RATE) -> kpi_load.Taken:
    async with Bed() as bed:
        return await kpi_load.run(bed, seconds=seconds, rate=rate)


async def _until_done(seconds: float, rate: float) -> kpi_load.Taken:
    """SIGTERM ends a run as Ctrl-C does: every process it started ends first."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await measure(seconds, rate)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.kpi", description=__doc__)
    parser.add_argument("--short", action="store_true", help="one minute; for a look, not for a record")
    parser.add_argument("--rate", type=float, default=RATE, help="notifications a second")
    given = parser.parse_args()
    load_before = os.getloadavg()[0]
    taken = asyncio.run(_until_done(SHORT_SECONDS if given.short else FULL_SECONDS, given.rate))
    found = kpi_report.rows(taken)
    text = kpi_report.markdown(taken, found, (load_before, os.getloadavg()[0]))
    print(text)
    if not given.short:
        kpi_report.write(text)
    return 0 if all(row.met for row in found) else 1


if __name__ == "__main__":
    sys.exit(main())
