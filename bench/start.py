"""Start-up of `serve` and of a second `dev`, and the memory of an idle engine, against importing it."""

import asyncio
import sys
import time
from statistics import median

from bench.report import Figure
from bench.servers import Bed, stop, surroundings

IDLE_SECONDS = 3


async def measure(bed: Bed, *, quick: bool) -> list[Figure]:
    url = await bed.mongod()
    serving, developing, importing, memory = [], [], [], 0.0
    await stop((await bed.engine(url, "start")).process)  # migrations
    await stop((await bed.dev("dev")).process)
    for _ in range(1 if quick else 3):
        engine = await bed.engine(url, "start")
        serving.append(engine.started_seconds)
        await asyncio.sleep(IDLE_SECONDS)
        memory = engine.memory_mb()
        await stop(engine.process)
        importing.append(await _import_seconds())  # in the same calm as `serve`
        dev = await bed.dev("dev")
        developing.append(dev.started_seconds)
        await stop(dev.process)
    reference = "Python importing the engine"
    return [
        Figure("`serve` to its first 200", median(serving), "s", reference, median(importing), aim=2, up=False),
        Figure("a second `dev` to its first 200", median(developing), "s", reference, median(importing), up=False),
        Figure("memory of an idle engine", memory, "MB", aim=150, up=False),
    ]


async def _import_seconds() -> float:
    began = time.perf_counter()
    command = "import os, notification_engine.cli.main; os._exit(0)"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", command, env=surroundings())
    await process.wait()
    return time.perf_counter() - began
