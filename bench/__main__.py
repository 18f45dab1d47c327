"""`python -m bench [--only NAME ...] [--quick]`: starts everything itself, prints one table, writes bench/results/."""

import argparse
import asyncio
import os
import signal
import subprocess
import time
from collections.abc import Awaitable
from typing import Protocol

from bench import (
    accept,
    batch,
    cpu,
    defences,
    disk,
    email,
    growth,
    listener,
    live,
    replicas,
    report,
    start,
    traces,
    webhooks,
)
from bench.servers import Bed
from notification_engine.storage.embedded import find_binary

BOUND_SECONDS = 1800


class Measure(Protocol):
    def __call__(self, bed: Bed, *, quick: bool) -> Awaitable[list[report.Figure]]: ...


MEASURES: dict[str, Measure] = {
    "accept": accept.measure,
    "batch": batch.measure,
    "webhooks": webhooks.measure,
    "cpu": cpu.measure,
    "defences": defences.measure,
    "listener": listener.measure,
    "traces": traces.measure,
    "live": live.measure,
    "email": email.measure,
    "replicas": replicas.measure,
    "growth": growth.measure,
    "start": start.measure,
}


async def _run(names: list[str], *, quick: bool) -> report.Run:
    began, load = time.perf_counter(), os.getloadavg()[0]
    figures: list[report.Figure] = []
    syncs: list[float] = []
    async with asyncio.timeout(BOUND_SECONDS):
        for name in names:
            print(f"{name} ...", flush=True)
            async with Bed() as bed:  # one for each, so that no measure meets what another left
                syncs.append(disk.fdatasync_ms(bed.directory))
                found = await MEASURES[name](bed, quick=quick)
            figures += found
            print(report.table(found), flush=True)
    return report.Run(
        date=report.now(),
        quick=quick,
        seconds=time.perf_counter() - began,
        machine=report.machine(),
        versions=report.versions(_mongod_version()),
        load_before=load,
        fdatasync_ms=sorted(syncs)[len(syncs) // 2],
        figures=figures,
    )


def _mongod_version() -> str:
    out = subprocess.run([str(find_binary(None)), "--version"], capture_output=True, text=True, check=True).stdout
    return out.splitlines()[0].removeprefix("db version v")


async def _until_done(names: list[str], *, quick: bool) -> report.Run:
    """SIGTERM ends a run as Ctrl-C does: every process it started ends first."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await _run(names, quick=quick)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--only", action="append", choices=list(MEASURES), help="repeat it for several")
    parser.add_argument("--quick", action="store_true", help="a tenth of the time; for a look, not for a record")
    given = parser.parse_args()
    run = asyncio.run(_until_done(given.only or list(MEASURES), quick=given.quick))
    print("\n" + report.markdown(run))
    if not given.only and not given.quick:
        report.write(run)


if __name__ == "__main__":
    main()
