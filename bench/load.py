"""The load generator: a process of its own that keeps N connections busy with POSTs, one request at a time each.

`python -m bench.load` reads a `Load` as JSON from standard input and prints a `Result` as JSON.
"""

import asyncio
import itertools
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import cast

import orjson
import uvloop

from bench.http import Framer, request


@dataclass
class Load:
    """For `seconds` after `warm_seconds`; or, when `requests` is set, exactly that many, all of them measured."""

    host: str
    port: int
    path: str
    bodies: list[str]
    headers: dict[str, str] = field(default_factory=dict)
    connections: int = 64
    warm_seconds: float = 0.5
    seconds: float = 4.0
    requests: int = 0


@dataclass
class Result:
    answered: int
    seconds: float
    statuses: dict[str, int]
    p50_ms: float
    p99_ms: float
    cpu_seconds: float = 0.0  # of the generator, in those seconds

    @property
    def per_second(self) -> float:
        return self.answered / self.seconds


class _Run:
    def __init__(self, load: Load) -> None:
        wire = [request(f"{load.host}:{load.port}", load.path, load.headers, body.encode()) for body in load.bodies]
        self.next = itertools.cycle(wire).__next__
        self.left = load.requests or -1
        self.measuring = bool(load.requests)
        self.took: list[float] = []
        self.statuses: Counter[str] = Counter()
        self.wanted = load.requests
        self.done = asyncio.Event()  # all of a fixed number were answered
        self.over = asyncio.Event()

    def answered(self, status: str, seconds: float) -> None:
        if self.measuring:
            self.statuses[status] += 1
            self.took.append(seconds)
            if len(self.took) == self.wanted:
                self.done.set()


class _Connection(asyncio.Protocol):
    def __init__(self, run: _Run) -> None:
        self._run = run
        self._framer = Framer()
        self._began = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's own class
        self._send()

    def data_received(self, data: bytes) -> None:
        for head in self._framer.feed(data):
            self._run.answered(head[9:12].decode(), time.perf_counter() - self._began)
            self._send()

    def connection_lost(self, error: Exception | None) -> None:
        if not self._run.over.is_set() and self._run.left != 0:
            self._run.answered("lost", 0.0)

    def _send(self) -> None:
        if self._run.left == 0 or self._run.over.is_set():
            self._transport.close()
            return
        self._run.left -= 1
        self._began = time.perf_counter()
        self._transport.write(self._run.next())


async def _generate(load: Load) -> Result:
    run, loop = _Run(load), asyncio.get_running_loop()
    began, cpu = time.perf_counter(), time.process_time()
    connections = min(load.connections, load.requests or load.connections)
    for _ in range(connections):
        await loop.create_connection(lambda: _Connection(run), load.host, load.port)
    if load.requests:
        await run.done.wait()
        seconds = time.perf_counter() - began
    else:
        await asyncio.sleep(load.warm_seconds)
        began, cpu, run.measuring = time.perf_counter(), time.process_time(), True
        await asyncio.sleep(load.seconds)
        run.measuring, seconds = False, time.perf_counter() - began
    cpu = time.process_time() - cpu
    run.over.set()
    took = sorted(run.took) or [0.0]
    p50, p99 = (1000 * took[int(len(took) * share)] for share in (0.5, 0.99))
    return Result(len(run.took), seconds, dict(run.statuses), p50, p99, cpu)


async def generate(load: Load, *, expected: str = "202") -> Result:
    """Runs it in a process of its own. Raises RuntimeError when any answer was not the expected one."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.load", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(load.warm_seconds + load.seconds + 60):
            out, _ = await process.communicate(orjson.dumps(asdict(load)))
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    result = Result(**orjson.loads(out))
    if set(result.statuses) != {expected}:
        raise RuntimeError(f"{load.path} answered {result.statuses}, not {expected} alone")
    return result


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        sys.stdout.buffer.write(
            orjson.dumps(asdict(runner.run(_generate(Load(**orjson.loads(sys.stdin.buffer.read()))))))
        )
