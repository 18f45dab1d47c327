"""What the defences cost: the accept rate with everything on, against the engine with authentication only."""

import json
from functools import partial

from bench.accept import CONNECTIONS
from bench.load import Load, generate
from bench.messages import USERS, message
from bench.report import Figure
from bench.rounds import in_turns
from bench.servers import API, Bed, Server, bearer

ON = {
    "RATE_LIMIT_SEND": "1000000/second",
    "TRUSTED_HOSTS": '["127.0.0.1", "localhost"]',
    "CORS_ENABLED": "true",
    "CORS_ORIGINS": '["https://app.example"]',
}
OFF = {"RATE_LIMITS_ENABLED": "false"}


def addressed(index: int) -> dict[str, object]:
    """With the recipient's address, which is sealed with the user's own key."""
    given = message(index, "in_app")
    return given | {"recipients": [r | {"email": f"user{index % USERS}@example.org"} for r in given["recipients"]]}


async def measure(bed: Bed, *, quick: bool) -> list[Figure]:
    url = await bed.mongod()
    defended, bare = await bed.engine(url, "defended", **ON), await bed.altered("bench.bare", url, "bare", **OFF)
    seconds, rounds = (1.5, 3) if quick else (4.0, 5)
    figures = []
    for name, bodies in (
        ("single POST, every defence on", [message(i, "in_app") for i in range(USERS)]),
        ("the same, with addresses to seal", [addressed(i) for i in range(USERS)]),
    ):
        texts = [json.dumps(body) for body in bodies]
        found = await in_turns(
            rounds, partial(per_second, defended, seconds, texts), partial(per_second, bare, seconds, texts)
        )
        figures.append(
            Figure(name, found.a, "accepted/s", "authentication only", found.b, found.ratio, found.ratios, least=0.85)
        )
    return figures


async def per_second(server: Server, seconds: float, bodies: list[str]) -> float:
    load = Load(
        "127.0.0.1", server.port, API, bodies, bearer(), connections=CONNECTIONS, warm_seconds=1.0, seconds=seconds
    )
    return (await generate(load)).per_second
