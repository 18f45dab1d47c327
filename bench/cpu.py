"""CPU of the engine's process for each notification: the figure that others' work on the machine hardly moves.

Beside `/batch` stands the CPU of the driver's bare `insert_many` of the same documents, beside webhooks that of bare
aiohttp posts; neither counts mongod, the client or the receiver.
"""

import os
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from pymongo import AsyncMongoClient

from bench.batch import bare_inserts, migrated
from bench.load import Load, generate
from bench.messages import batches, singles
from bench.report import Figure
from bench.servers import API, Bed, Server, bearer
from bench.webhooks import bare_posts, register, until_nothing_is_due

SIZE = 1000
TICKS = os.sysconf("SC_CLK_TCK")
Send = Callable[[int], Awaitable[None]]


async def measure(bed: Bed, *, quick: bool) -> list[Figure]:
    url = await bed.mongod()
    engine, receiver = await bed.engine(url, "batch"), await bed.receiver()
    await register(engine, receiver)
    await migrated(url, "bare")
    count, rounds = (2_000, 3) if quick else (4_000, 5)
    one = await _per_notification(engine, partial(_singles, engine), count, rounds)
    many = await _per_notification(engine, partial(_batches, engine), 2 * count, rounds)
    inserted = await bare_inserts(url, seconds=2.0)
    hooks = await _per_notification(engine, partial(_webhooks, engine, url), count, rounds)
    posted = await bare_posts(receiver, count)
    return [
        _figure("single POST", one, "", None),
        _figure("POST /batch", many, "insert_many of the same documents", inserted.cpu_micros),
        _figure("webhook, accept to settled", hooks, "bare aiohttp posts", posted.cpu_micros),
    ]


def _figure(name: str, micros: float, reference: str, value: float | None) -> Figure:
    return Figure(f"CPU of a {name}", micros, "µs", reference and f"CPU of {reference}", value, up=False)


async def _per_notification(engine: Server, send: Send, count: int, rounds: int) -> float:
    """Microseconds; the median of the rounds, after one that warms up."""
    took = []
    for _ in range(rounds + 1):
        before = cpu_seconds(engine.process.pid)
        await send(count)
        took.append(1e6 * (cpu_seconds(engine.process.pid) - before) / count)
    return median(took[1:])


def cpu_seconds(pid: int) -> float:
    """Of all threads of a process, in user and system mode (proc_pid_stat(5), fields 14 and 15)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


async def _singles(engine: Server, count: int) -> None:
    await generate(Load("127.0.0.1", engine.port, API, singles(), bearer(), requests=count))


async def _batches(engine: Server, count: int, channel: str = "in_app") -> None:
    bodies = batches(SIZE, count // SIZE, channel)
    await generate(Load("127.0.0.1", engine.port, f"{API}/batch", bodies, bearer(), 3, requests=len(bodies)))


async def _webhooks(engine: Server, url: str, count: int) -> None:
    await _batches(engine, count, "webhook")
    async with AsyncMongoClient[dict[str, Any]](url) as client:
        await until_nothing_is_due(client["batch"]["notifications"])
