"""Single durable POSTs, against the same application storing nothing."""

from functools import partial

from bench.load import Load, generate
from bench.messages import singles
from bench.report import Figure
from bench.rounds import in_turns
from bench.servers import API, Bed, Server, bearer

CONNECTIONS = 64


async def measure(bed: Bed, *, quick: bool) -> list[Figure]:
    url = await bed.mongod()
    engine, hollow = await bed.engine(url, "accept"), await bed.hollow(url, "hollow")
    seconds, rounds = (1.5, 3) if quick else (4.0, 5)
    durable = partial(accepted_per_second, engine, seconds)
    stored = await in_turns(rounds, durable, partial(accepted_per_second, hollow, seconds))
    strict = await in_turns(rounds, durable, partial(accepted_per_second, hollow, seconds, path="/bench/validated"))
    return [
        Figure(
            "single POST, durable, 64 connections",
            stored.a,
            "accepted/s",
            "the same app, stores nothing",
            stored.b,
            stored.ratio,
            stored.ratios,
            least=0.5,
            aim=0.7,
        ),
        Figure(
            "the same",
            strict.a,
            "accepted/s",
            "a route that only authenticates and validates",
            strict.b,
            strict.ratio,
            strict.ratios,
        ),
    ]


async def accepted_per_second(server: Server, seconds: float, path: str = API) -> float:
    load = Load(
        "127.0.0.1", server.port, path, singles(), bearer(), connections=CONNECTIONS, warm_seconds=0.5, seconds=seconds
    )
    return (await generate(load)).per_second
