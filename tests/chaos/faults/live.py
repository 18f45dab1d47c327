"""Faults of the live inbox: clients that never read, and all clients coming back at once."""

import asyncio
import time
from collections import defaultdict
from contextlib import AsyncExitStack
from dataclasses import replace

from tests.chaos.clients import Fleet
from tests.chaos.cluster import Cluster
from tests.chaos.faults import fault
from tests.chaos.ledger import Row
from tests.chaos.load import token
from tests.chaos.wait import until
from tests.chaos.world import World, world
from tests.servers.deaf import Deaf

from notification_engine.domain.caller import Role

EVICTED_SECONDS = 40.0
LARGE = {"data": {"x": "y" * 15_000}}
PAST_THE_BOUND = 120  # of these: past the kernel's buffers, the server's and the queue of 1 MiB
DEAF_OF_A_USER = 10
QUEUE_BYTES = 3 * 1024 * 1024 // 2  # a full queue, the frames in the writer's hands and the server's own buffer
SLACK_BYTES = 64 * 1024 * 1024
REPLAYED_SECONDS = 90.0


@fault("clients that never read", full=2_000, short=200)
async def never_reading(count: int, seed: int, shared: Cluster | None, broken: str | None) -> Row:
    """One in twenty of `count` clients never reads a byte, by WebSocket and by SSE."""
    deaf_users = max(1, count // 20 // DEAF_OF_A_USER)
    async with (
        world(shared, seed=seed, broken=broken, WEBSOCKET_MAX_CONNECTIONS=2 * count) as w,
        Fleet([f"u{i}" for i in range(count - deaf_users * DEAF_OF_A_USER)], streams=count // 10) as fleet,
        AsyncExitStack() as stack,
    ):
        w.load.users, w.load.mix = len(fleet.clients), (("in_app",),)
        await fleet.connect(w.engine.address)
        deaf = [
            Deaf(token(f"deaf{user}", Role.USER), stream=bool(i % 2))
            for user in range(deaf_users)
            for i in range(DEAF_OF_A_USER)
        ]
        stack.callback(lambda: [client.close() for client in deaf])
        await asyncio.gather(*(client.connect(w.engine.address) for client in deaf))
        assert await connections(w) == count
        before = peak = w.engine.resident_bytes()
        async with asyncio.TaskGroup() as group:
            group.create_task(w.load.run(2 * len(fleet.clients), concurrency=8))
            for number in range(PAST_THE_BOUND * deaf_users):
                recipients = [{"user_id": f"deaf{number % deaf_users}"}]
                body = w.load.message(10**6 + number, recipients=recipients, title=f"large-{number}", **LARGE)
                await w.load.deliver(body, f"{seed}-large-{number}")
                peak = max(peak, w.engine.resident_bytes())
        began = time.monotonic()
        evicted = await until(lambda: _only(w, len(fleet.clients)), EVICTED_SECONDS, "the deaf ones gone from the hub")
        await asyncio.gather(*(client.lost(EVICTED_SECONDS - evicted) for client in deaf))
        closed = time.monotonic() - began
        peak = max(peak, w.engine.resident_bytes())
        allowed = before + len(deaf) * QUEUE_BYTES + SLACK_BYTES
        w.ledger.check(peak <= allowed, f"{peak >> 20} MiB resident, {allowed >> 20} allowed")
        await check_unharmed(w, fleet)
        note = (
            f"{len(deaf)} deaf: place free after {evicted:.1f} s, transport closed after {closed:.1f} s; "
            f"resident {before >> 20} MiB before, {peak >> 20} at most"
        )
        return await w.verdict("clients that never read", runs=len(deaf), note=note)


async def check_unharmed(w: World, fleet: Fleet) -> None:
    missing = await fleet.complete(await expected(w), REPLAYED_SECONDS)
    w.ledger.check(not missing, f"{len(missing)} healthy clients lack something")
    w.ledger.check(all(client.open for client in fleet.clients), "a healthy client was closed")


@fault("mass reconnect", full=2_000, short=200)
async def mass_reconnect(count: int, seed: int, shared: Cluster | None, broken: str | None) -> Row:
    """`count` clients lose their connections at once and come back together, three times; what was accepted meanwhile
    is in their replays, once and in order. In the last round traffic goes on."""
    rounds = 3
    async with (
        world(shared, seed=seed, broken=broken, WEBSOCKET_MAX_CONNECTIONS=2 * count) as w,
        Fleet([f"u{i}" for i in range(count)], streams=count // 4) as fleet,
    ):
        w.load.users, w.load.mix = count, (("in_app",),)
        await fleet.connect(w.engine.address)
        await w.load.run(count)
        missing = await fleet.complete(await expected(w), REPLAYED_SECONDS)
        slowest = 0.0
        for number in range(rounds):
            await fleet.drop()
            await w.load.run(2 * count)
            before = set(w.ledger.accepted)
            began = time.monotonic()
            async with asyncio.TaskGroup() as group:
                group.create_task(fleet.connect(w.engine.address))
                if number == rounds - 1:
                    group.create_task(w.load.run(count))
            missing |= await fleet.complete(await expected(w), REPLAYED_SECONDS)
            slowest = max(slowest, time.monotonic() - began)
            quiet = number < rounds - 1
            check_replays(w, fleet, before, quiet=quiet)
        w.ledger.check(not any(c.seen.resets for c in fleet.clients), "a reset, though few were missed")
        lost = sum(len(ids) for ids in missing.values())
        row = await w.verdict("mass reconnect", runs=rounds, note=f"all complete within {slowest:.1f} s")
        return replace(row, lost=row.lost + lost)


def check_replays(w: World, fleet: Fleet, before: set[str], *, quiet: bool) -> None:
    """Order is promised for what was there before; nothing comes twice when nothing is sent meanwhile."""
    disorder = sum(client.seen.disorder(before) for client in fleet.clients)
    w.ledger.check(not disorder, f"{disorder} out of order after resume")
    repeated = sum(client.seen.repeated() for client in fleet.clients) if quiet else 0
    w.ledger.check(not repeated, f"{repeated} repeated within a replay")


async def expected(w: World) -> dict[str, set[str]]:
    """By user: what the ledger of 202s promises."""
    accepted = set(w.ledger.accepted)
    by_user: dict[str, set[str]] = defaultdict(set)
    async for document in w.db["notifications"].find({}, {"user_id": 1}):
        if document["_id"] in accepted:
            by_user[document["user_id"]].add(document["_id"])
    return by_user


async def connections(w: World) -> int:
    _, shown = await w.load.call("GET", "/health/channels")
    return int(shown["in_app"]["live"]["connections"])


async def _only(w: World, count: int) -> bool:
    return await connections(w) == count
