"""Faults of providers: they refuse, cut, lie, answer late or a byte at a time, or take a message and drop the line."""

import asyncio
import math
from collections.abc import Sequence
from typing import Any

from tests.chaos.cluster import Cluster
from tests.chaos.faults import fault
from tests.chaos.ledger import Row
from tests.chaos.receivers import loris
from tests.chaos.world import World, world

SLOW_ENDPOINTS = 200
NOISE_SECONDS = 0.5  # a p99 below this says more about the machine, shared with the receivers, than about the engine


@fault("slow-loris receivers", full=10_000, short=400)
async def slow_loris(count: int, seed: int, shared: Cluster | None, broken: str | None) -> Row:
    """`count` healthy calls without, then `count` beside 200 endpoints that answer a byte at a time, whose backlog is
    twice what one process may lease. The healthy p99 stays within twice that of before."""
    room = 300 if count < 5_000 else 1_000
    settings = {"NOTIFICATION_QUEUE_SIZE": room, "WEBHOOK_MAX_RETRIES": 0, "WEBHOOK_TIMEOUT_SECONDS": 2}
    async with world(shared, seed=seed, broken=broken, webhooks=0, **settings) as w:
        await w.register("healthy", "healthy.*")
        await register_slow(w)
        before = await healthy_p99(w, count)
        await send(w, [w.load.message(i, channels=["webhook"], **slow(i)) for i in range(10**6, 10**6 + 2 * room)])
        beside = await healthy_p99(w, count)
        w.ledger.check(beside <= max(2 * before, NOISE_SECONDS), f"healthy p99 {beside:.2f} s, before {before:.2f} s")
        note = f"healthy p99 {before * 1000:.0f} ms before, {beside * 1000:.0f} ms beside"
        return await w.verdict("slow-loris receivers", runs=SLOW_ENDPOINTS, within_seconds=180, note=note)


def slow(number: int) -> dict[str, Any]:
    return {"notification_type": f"slow.n{number % SLOW_ENDPOINTS}"}


async def register_slow(w: World) -> None:
    """Each on an address of its own, because shares are by host."""
    hosts = [f"127.0.{1 + i // 100}.{1 + i % 100}" for i in range(SLOW_ENDPOINTS)]
    await w.receivers.listen(*hosts)
    for i, host in enumerate(hosts):
        w.receivers.script(f"slow-{i}", loris(1.0))
        await w.load.register(w.receivers.webhook_url(f"slow-{i}", host), f"slow.n{i}")


async def healthy_p99(w: World, count: int) -> float:
    """Seconds from the request to its receipt."""
    answers, receipts, calls = len(w.ledger.answers), len(w.receivers.receipts), w.receivers.calls["healthy"]
    await w.load.run(count, concurrency=2, channels=["webhook"], notification_type="healthy.call")
    begun = {i: a.at for a in w.ledger.answers[answers:] for i in a.ids}

    await w.receivers.ledger.until(lambda: w.receivers.calls["healthy"] >= calls + len(begun), 120)
    arrived = {r.notification_id: r.at for r in w.receivers.receipts[receipts:] if r.notification_id in begun}
    seconds = sorted(at - begun[i] for i, at in arrived.items())
    return seconds[math.ceil(len(seconds) * 0.99) - 1]


async def send(w: World, bodies: Sequence[dict[str, Any]], *, concurrency: int = 16) -> None:
    """Each until it is accepted."""
    left = iter(bodies)

    async def client() -> None:
        for body in left:
            await w.load.deliver(body, f"own-{body['title']}")

    async with asyncio.TaskGroup() as group:
        for _ in range(concurrency):
            group.create_task(client())
