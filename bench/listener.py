"""What the metrics' command listener costs: accept rate and processor time with it, against the engine without it."""

import json
from functools import partial

from bench.cpu import cpu_seconds
from bench.defences import per_second
from bench.load import Load, generate
from bench.messages import USERS, message, singles
from bench.report import Figure
from bench.rounds import in_turns
from bench.servers import API, Bed, Server, bearer


async def measure(bed: Bed, *, quick: bool) -> list[Figure]:
    url = await bed.mongod()
    heard, unheard = await bed.engine(url, "heard"), await bed.altered("bench.unheard", url, "unheard")
    seconds, rounds, count = (1.5, 3, 1_000) if quick else (4.0, 5, 4_000)
    texts = [json.dumps(message(i, "in_app")) for i in range(USERS)]
    rate = await in_turns(
        rounds, partial(per_second, heard, seconds, texts), partial(per_second, unheard, seconds, texts)
    )
    cost = await in_turns(rounds, partial(_micros, heard, count), partial(_micros, unheard, count))
    name, reference = "single POST, commands of MongoDB timed", "no command listener"
    return [
        Figure(name, rate.a, "accepted/s", reference, rate.b, rate.ratio, rate.ratios),
        Figure("CPU of the same", cost.a, "µs", reference, cost.b, cost.ratio, cost.ratios, up=False),
    ]


async def _micros(engine: Server, count: int) -> float:
    """Of the engine's process, for each notification accepted."""
    before = cpu_seconds(engine.process.pid)
    await generate(Load("127.0.0.1", engine.port, API, singles(), bearer(), requests=count))
    return 1e6 * (cpu_seconds(engine.process.pid) - before) / count
