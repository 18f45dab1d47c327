"""Faults of the database: elections, no majority, lost connections and replies, write-concern errors, a full disk."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from pymongo.errors import PyMongoError
from tests.chaos.cluster import Cluster, Member, cluster
from tests.chaos.faults import fault
from tests.chaos.ledger import Ledger, Row, settled_deliveries
from tests.chaos.proxy import proxy
from tests.chaos.wait import until
from tests.chaos.world import World, world

DEADLINE_SECONDS = 12.0  # 503 within the engine's own deadline of 10 s, and a margin for a busy machine
RECOVERY_SECONDS = 30
COMMANDS = ("insert", "update", "find")  # `update` is the claim, the settlement (bulk_write) and the renewal
SMALL_DISK = 380 * 1024 * 1024


@fault("primary steps down", full=10_000, short=300)
async def stepped_down(count: int, seed: int, shared: Cluster | None, broken: str | None) -> Row:
    """`count` notifications; ten elections (short: 2) while they are sent."""

    async def step_down(w: World) -> None:
        await w.cluster.step_down()
        await w.cluster.primary()

    return await elections("primary steps down", step_down, 5.0, count, seed, shared, broken)


@fault("primary killed", full=10_000, short=300)
async def primary_killed(count: int, seed: int, shared: Cluster | None, broken: str | None) -> Row:
    """`count` notifications; ten SIGKILLs of the primary (short: 2) while they are sent."""

    async def kill(w: World) -> None:
        member = await w.cluster.kill_primary()
        await w.cluster.primary()
        await w.cluster.restart(member)

    return await elections("primary killed", kill, 15.0, count, seed, shared, broken)


async def elections(
    name: str,
    disturb: Callable[[World], Awaitable[None]],
    gap_seconds: float,
    count: int,
    seed: int,
    shared: Cluster | None,
    broken: str | None,
) -> Row:
    runs = max(2, count // 1000)
    async with world(shared, seed=seed, broken=broken) as w:
        w.slow_receivers(0.05)
        async with asyncio.TaskGroup() as group:
            group.create_task(w.load.run(count, concurrency=4))
            for run in range(runs):
                await w.ledger.reached((run + 1) * count // (runs + 1))
                await disturbed(w, disturb)
                await w.cluster.whole()
        only(w.ledger, 202, 503)
        gap = w.ledger.longest_gap() or 0.0
        w.ledger.check(gap <= gap_seconds, f"{gap:.1f} s without a 202, more than {gap_seconds:.0f} s")
        return await w.verdict(name, runs=runs, within_seconds=RECOVERY_SECONDS, gap=True)


async def disturbed(w: World, disturb: Callable[[World], Awaitable[None]]) -> None:
    """What had no outcome in the history before may repeat once."""
    known = await settled_deliveries(w.db)
    began = time.monotonic()
    await disturb(w)
    w.ledger.disturbed(began, known)


def only(ledger: Ledger, *allowed: int) -> None:
    """The API answered nothing else."""
    others = {status: n for status, n in ledger.statuses().items() if status not in allowed}
    ledger.check(not others, f"answers other than {', '.join(map(str, allowed))}: {others}")


@fault("both secondaries gone", full=3, short=1)
async def without_majority(count: int, seed: int, shared: Cluster | None, broken: str | None) -> Row:
    """`count` times both secondaries are killed, for 60 s (a single time: for 12 s)."""
    seconds = 60.0 if count > 1 else 12.0
    async with world(shared, seed=seed, broken=broken) as w:
        await w.load.run(40)
        for _ in range(count):
            await disturbed(w, lambda w: lose_majority(w, seconds))
            await w.load.run(40)
        only(w.ledger, 202, 503)
        return await w.verdict("both secondaries gone", runs=count, within_seconds=RECOVERY_SECONDS, gap=True)


async def lose_majority(w: World, seconds: float) -> None:
    lost = await w.cluster.secondaries()
    await asyncio.gather(*(member.kill() for member in lost))
    began = time.monotonic()
    before = len(w.ledger.answers)
    load = asyncio.create_task(w.load.run(40, concurrency=8))
    try:
        await until(lambda: passed(began + seconds), seconds + 5, "the time without a majority", pause=0.5)
        meanwhile = w.ledger.answers[before:]
    finally:
        await w.cluster.restart(*lost)
    await load
    promised = [a for a in meanwhile if a.status == 202]
    w.ledger.check(not promised, f"{len(promised)} times 202 without a majority")
    slow = [a.seconds for a in w.ledger.answers[before:] if a.status == 503 and a.seconds > DEADLINE_SECONDS]
    w.ledger.check(not slow, f"{len(slow)} times 503 only after {max(slow, default=0):.1f} s")
    w.ledger.check(any(a.status == 503 for a in meanwhile), "no 503 without a majority")


async def passed(moment: float) -> bool:
    return time.monotonic() >= moment


@fault("connection lost before a command", full=200, short=8)
async def lost_before(count: int, seed: int, shared: Cluster | None, broken: str | None) -> Row:
    """`count` times for each command the server closes the connection instead of executing it."""
    return await failing(
        "connection lost before a command", COMMANDS, count, seed, shared, broken, closeConnection=True
    )


@fault("write-concern error", full=200, short=8)
async def write_concern(count: int, seed: int, shared: Cluster | None, broken: str | None) -> Row:
    """`count` times for each write the server executes it and reports that no majority confirmed it."""
    error = {"code": 64, "errmsg": "waiting for replication timed out"}
    return await failing(
        "write-concern error", ("insert", "update"), count, seed, shared, broken, writeConcernError=error
    )


async def failing(
    name: str,
    commands: tuple[str, ...],
    count: int,
    seed: int,
    shared: Cluster | None,
    broken: str | None,
    **data: Any,
) -> Row:
    """In bursts of four, so that the driver's one retry fails, too."""
    async with world(shared, seed=seed, broken=broken) as w:
        for command in commands:
            met = 0
            while met < count:
                known, began = await settled_deliveries(w.db), time.monotonic()
                async with w.cluster.failing([command], {"times": min(4, count - met)}, **data) as failed:
                    await w.load.run(24)
                w.ledger.disturbed(began, known)
                met += failed.met
        only(w.ledger, 202, 503)
        return await w.verdict(name, runs=count * len(commands), within_seconds=RECOVERY_SECONDS)


@fault("reply lost after a command", full=200, short=8)
async def lost_after(count: int, seed: int, shared: Cluster | None, broken: str | None) -> Row:
    """`count` times for each command a proxy cuts the connection after its execution."""
    assert shared is not None
    primary = await shared.primary()
    async with proxy("127.0.0.1", primary.port) as p, world(shared, seed=seed, broken=broken, url=p.url) as w:
        for command in COMMANDS:
            while p.cuts.get(command, 0) < count:
                known, began = await settled_deliveries(w.db), time.monotonic()
                p.cut(command, min(4, count - p.cuts.get(command, 0)))
                await w.load.run(24)
                await until(lambda c=command: spent(p.left(c)), 30, f"cut replies to {command}")
                w.ledger.disturbed(began, known)
        only(w.ledger, 202, 503)
        return await w.verdict(
            "reply lost after a command", runs=count * len(COMMANDS), within_seconds=RECOVERY_SECONDS
        )


async def spent(left: int) -> bool:
    return left == 0


@fault("disk full", full=1, short=1, shares=False)
async def disk_full(count: int, seed: int, shared: Cluster | None, broken: str | None) -> Row:
    """Once: the primary's directory is a small tmpfs, which other data fills. Needs root, for the mount."""
    async with cluster(limited_bytes=SMALL_DISK) as members, world(members, seed=seed, broken=broken) as w:
        small = members.members[0]
        await until(lambda: leads(members, small), 30, "the member with the small disk leads")
        await w.load.run(100)
        await disturbed(w, lambda w: fill(w, small))
        await w.load.run(100)
        only(w.ledger, 202, 503)
        return await w.verdict("disk full", within_seconds=RECOVERY_SECONDS, gap=True)


async def leads(members: Cluster, member: Member) -> bool:
    return await members.primary() is member


async def fill(w: World, member: Member) -> None:
    """Under load: a file and other data take what is left, until the server gives up and another leads."""
    stop = asyncio.Event()
    load = asyncio.create_task(w.load.flow(stop))
    try:
        await asyncio.to_thread(take_all, member.directory / "ballast")
        await write_until_dead(w, member)
        await w.cluster.primary()
        await w.ledger.reached(len(w.ledger.accepted) + 20, 60)
    finally:
        stop.set()
    await load
    (member.directory / "ballast").unlink()
    await w.cluster.restart(member)


async def write_until_dead(w: World, member: Member) -> None:
    """Another application's data, a megabyte at a time, straight to that member."""
    assert member.child is not None
    writing = asyncio.create_task(write_until_refused(member))
    try:
        async with asyncio.timeout(60):
            await member.child.wait()
    finally:
        writing.cancel()


async def write_until_refused(member: Member) -> None:
    async with member.client(w=1, retryWrites=False) as client:
        for _ in range(SMALL_DISK // 2**20):
            try:
                await client["ballast"]["data"].insert_one({"data": bytes(2**20)})
            except PyMongoError:  # full, or dead of it
                return


def take_all(ballast: Path) -> None:
    """Writes until the disk is full."""
    block = bytes(64 * 1024)
    with ballast.open("wb", buffering=0) as file:
        try:
            while file.write(block) == len(block):
                pass
        except OSError:  # no space left: that is what it is for
            return
