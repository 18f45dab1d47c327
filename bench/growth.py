"""Accept and drain with a million notifications stored, against the same with ten thousand."""

import time
from dataclasses import dataclass

from bench.accept import accepted_per_second
from bench.fill import filled
from bench.report import Figure
from bench.rounds import in_turns
from bench.servers import Bed, Server
from bench.webhooks import SIZE, delivered_per_second, register

FEW = 10_000


@dataclass
class _Stored:
    url: str
    name: str
    engine: Server


async def measure(bed: Bed, *, quick: bool) -> list[Figure]:
    many = 100_000 if quick else 1_000_000
    receiver = await bed.receiver()
    big, small = await _stored(bed, receiver, many), await _stored(bed, receiver, FEW)
    seconds, rounds, count = (1.5, 3, 1000) if quick else (3.0, 5, 2000)
    accept = await in_turns(
        rounds,
        lambda: accepted_per_second(big.engine, seconds),
        lambda: accepted_per_second(small.engine, seconds),
    )
    drain = await in_turns(
        rounds,
        lambda: delivered_per_second(big.engine, big.url, big.name, count),
        lambda: delivered_per_second(small.engine, small.url, small.name, count),
    )
    reference = f"with {FEW:,} stored"
    return [
        Figure(
            f"single POST with {many:,} stored",
            accept.a,
            "accepted/s",
            reference,
            accept.b,
            accept.ratio,
            accept.ratios,
            least=0.9,
        ),
        Figure(
            f"webhooks with {many:,} stored",
            drain.a,
            "delivered/s",
            reference,
            drain.b,
            drain.ratio,
            drain.ratios,
            least=0.9,
        ),
    ]


async def _stored(bed: Bed, receiver: Server, count: int) -> _Stored:
    """A mongod of its own for each, so that neither uses the other's cache."""
    name = f"growth_{count}"
    url = await bed.mongod(name)
    began = time.perf_counter()
    await filled(url, name, count)
    filled_at = time.perf_counter()
    engine = await bed.engine(url, name)
    print(f"  {count:,} filled in {filled_at - began:.0f} s, indexed in {engine.started_seconds:.0f} s", flush=True)
    await register(engine, receiver)
    await delivered_per_second(engine, url, name, SIZE)
    return _Stored(url, name, engine)
