"""Two processes on one port against one: the API alone, without a database, and without the load generator's share.

The generator runs on the same cores and tells the processor time that it took. Of C cores it took u, so p processes had
min(p, C - u); a rate is told as if they had had min(p, C) of them. Beside it stand the rates as they were, and what two
would do by the processor time of a request, each on a core of its own: that holds on a busy machine too, and does not
see what they wait for.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from bench.load import Load, generate
from bench.messages import singles
from bench.report import Figure
from bench.servers import API, Bed, Server, bearer

CONNECTIONS = 64
TOGETHER = 2


@dataclass(frozen=True)
class Taken:
    """One run; seconds of processor time are of all its processes together."""

    requests: int
    seconds: float
    server_seconds: float
    generator_seconds: float
    processes: int

    @property
    def per_second(self) -> float:
        return self.requests / self.seconds

    @property
    def alone(self) -> float:
        """A second, the generator's share given back."""
        cores = os.cpu_count() or 1
        left = max(0.1, cores - self.generator_seconds / self.seconds)
        return self.per_second * min(self.processes, cores) / min(self.processes, left)

    @property
    def by_processor_time(self) -> float:
        """A second, had each process a core and nothing else to wait for."""
        return self.processes * self.requests / self.server_seconds


Pair = tuple[Taken, Taken]


async def measure(bed: Bed, *, quick: bool) -> list[Figure]:
    url = await bed.mongod("processes")
    one, two = await bed.hollow(url, "one"), await bed.hollow_together(url, "two", TOGETHER)
    requests, rounds = (1_500, 3) if quick else (6_000, 5)
    for servers in ([one], two):
        await _run(servers, 500)  # warm
    pairs = [(await _run(two, requests), await _run([one], requests)) for _ in range(rounds)]
    return [
        _figure("the API alone, two processes, generator taken out", pairs, lambda run: run.alone, aim=1.5),
        _figure("the same, as it was with the generator", pairs, lambda run: run.per_second),
        _figure("the same, by processor time of a request", pairs, lambda run: run.by_processor_time, aim=1.5),
    ]


def _figure(name: str, pairs: Sequence[Pair], rate: Callable[[Taken], float], aim: float | None = None) -> Figure:
    twos, ones = (median(rate(pair[i]) for pair in pairs) for i in range(2))
    ratios = tuple(rate(both) / rate(single) for both, single in pairs)
    return Figure(name, twos, "accepted/s", "one process", ones, median(ratios), ratios, aim=aim)


async def _run(servers: list[Server], requests: int) -> Taken:
    port = servers[0].port
    before = sum(server.cpu_seconds() for server in servers)
    load = Load("127.0.0.1", port, API, singles(), bearer(), connections=CONNECTIONS, requests=requests)
    result = await generate(load)
    taken = sum(server.cpu_seconds() for server in servers) - before
    return Taken(result.answered, result.seconds, taken, result.cpu_seconds, len(servers))
