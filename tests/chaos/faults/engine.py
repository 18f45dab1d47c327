"""Faults of the engine's process: killed, stopped past its lease, asked to end, its clock moved, poisoned, flooded."""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.chaos.clients import Fleet
from tests.chaos.cluster import Cluster
from tests.chaos.engines import EngineProcess
from tests.chaos.faults import fault
from tests.chaos.ledger import OPEN, Row, settled_deliveries, statuses_text, until_terminal
from tests.chaos.wait import until
from tests.chaos.world import World, world

LEASE_SECONDS = 4
RECOVERY_SECONDS = LEASE_SECONDS + 10


@fault("engine killed mid-batch", full=10_000, short=320)
async def killed(count: int, seed: int, shared: Cluster | None, broken: str | None) -> Row:
    """`count` notifications over all channels; a SIGKILL after every 200 (short: 80) that were accepted."""
    kills = max(4, count // 200)
    async with world(shared, seed=seed, broken=broken, LEASE_SECONDS=LEASE_SECONDS) as w:
        w.slow_receivers(0.05)
        async with asyncio.TaskGroup() as group:
            group.create_task(w.load.run(count))
            for kill in range(kills):
                await w.ledger.reached((kill + 1) * count // (kills + 1))
                await kill_and_restart(w)
        await until_terminal(w.db, RECOVERY_SECONDS)
        dead = await w.db["notifications"].count_documents({"deliveries.status": "failed"})
        w.ledger.check(not dead, f"{dead} healthy ones are dead letters")
        return await w.verdict("engine killed mid-batch", runs=kills, within_seconds=RECOVERY_SECONDS)


async def kill_and_restart(w: World) -> None:
    """What had no outcome in the history when the process was gone may repeat once."""
    began = time.monotonic()
    await w.engine.kill()
    w.ledger.disturbed(began, await settled_deliveries(w.db))
    await w.engine.start()


@fault("stale worker", full=20, short=2)
async def stale(count: int, seed: int, shared: Cluster | None, broken: str | None) -> Row:
    """`count` times: an engine is stopped past its lease with sends on the wire and more in its lanes, another takes
    over, the first wakes up. What it brings back is recorded as stale; what lay in its lanes it does not send."""
    small = {"NOTIFICATION_DAEMON_WORKERS": 1, "NOTIFICATION_DAEMON_BATCH_SIZE": 4, "LEASE_SECONDS": 3}
    patient = {"WEBHOOK_TIMEOUT_SECONDS": 30, "SMTP_TIMEOUT_SECONDS": 30}
    async with world(shared, seed=seed, engines=2, broken=broken, **small, **patient) as w:
        w.slow_receivers(1.0)
        w.load.addresses = w.load.addresses[:1]
        for run in range(count):
            w.load.mix = (("webhook",), ("email",))
            await stop_past_lease(w, run)
        return await w.verdict("stale worker", runs=count)


async def stop_past_lease(w: World, run: int) -> None:
    first = len(w.receivers.receipts)
    await w.load.run(10)
    await w.receivers.received(first + 3)
    w.engine.pause()
    began, paused_at = time.monotonic(), datetime.now(UTC)
    known = await settled_deliveries(w.db)
    w.ledger.disturbed(began, known)
    wired = sorted({r.delivery_id for r in w.receivers.receipts} - known)
    left = {"status": {"$in": OPEN}, "lease.fence": 1}

    async def taken_over() -> bool:
        return await w.db["notifications"].find_one(left) is None

    try:
        await until(taken_over, 30, "the second engine takes over")
    finally:
        w.engine.resume()
    rows = w.db["notification_history"]
    own = {"delivery_id": {"$in": wired}, "fence": 1}

    async def told() -> bool:
        return len(await rows.distinct("delivery_id", own)) == len(wired)

    await until(told, 30, "what the first engine brings back")
    late = set(await rows.distinct("delivery_id", own | {"timestamp": {"$gt": paused_at}}))

    async def known_as_stale() -> bool:
        return late == set(await rows.distinct("delivery_id", own | {"delivery_status": "stale"}))

    try:
        await until(known_as_stale, 10, "stale rows")
    except AssertionError:
        w.ledger.problem(f"run {run}: not all of {len(late)} sends of a lapsed lease were recorded as stale")
    await until_terminal(w.db, 60)


DRAIN_SECONDS = 5 + 5 + 5 + 2  # the longest attempt, the drain's margin, the server's grace, a busy machine


@fault("SIGTERM under load", full=20, short=2)
async def terminated(count: int, seed: int, shared: Cluster | None, broken: str | None) -> Row:
    """`count` times one of two engines is asked to end, with sends on the wire, sockets and streams open."""
    longest = 0.0
    async with world(shared, seed=seed, engines=2, broken=broken) as w:
        w.slow_receivers(0.3)
        stop = asyncio.Event()
        load = asyncio.create_task(w.load.flow(stop))
        for run in range(count):
            engine = w.engines[run % 2]
            async with Fleet([f"u{i}" for i in range(20)], streams=10) as fleet:
                await fleet.connect(engine.address)
                await w.ledger.reached(len(w.ledger.accepted) + 30)
                began = time.monotonic()
                engine.terminate()
                status = await engine.wait(60)
                longest = max(longest, time.monotonic() - began)
                w.ledger.check(status == 0, f"run {run}: exit status {status}")
            await engine.start()
        stop.set()
        await load
        w.ledger.check(longest <= DRAIN_SECONDS, f"{longest:.1f} s until the end, more than {DRAIN_SECONDS} s")
        note = f"longest drain {longest:.1f} s; {statuses_text(w.ledger)}"
        return await w.verdict("SIGTERM under load", runs=count, note=note, gap=True)


JUMPS = ("+1h", "-1h", "+1d", "-1d")


@fault("clock jumps", full=10, short=4)
async def clock_jumps(count: int, seed: int, shared: Cluster | None, broken: str | None) -> Row:
    """`count` times the wall clock of one of two engines jumps under load, by an hour or a day, there and back."""
    async with world(shared, seed=seed, broken=broken, LEASE_SECONDS=LEASE_SECONDS) as w:
        clock = w.directory / "clock"
        clock.write_text("+0")
        moved = await w.engines.add(clock=clock)
        w.load.addresses = [e.address for e in w.engines.all]
        w.slow_receivers(0.3)
        ahead = [await schedule(w, number) for number in range(10)]
        stop = asyncio.Event()
        load = asyncio.create_task(w.load.flow(stop))
        for run in range(count):
            await w.ledger.reached(len(w.ledger.accepted) + 20)
            move(clock, JUMPS[run % len(JUMPS)])
            off = await seconds_off(w, moved)
            w.ledger.check(abs(off) > 3000, f"the clock moved by {off:.0f} s only: this fault proves nothing")
            await w.ledger.reached(len(w.ledger.accepted) + 20)
            move(clock, "+0")
        stop.set()
        await load
        w.ledger.check(moved.alive, "the engine ended")
        await until_terminal(w.db, RECOVERY_SECONDS, {"_id": {"$nin": ahead}})
        await nothing_stolen(w, ahead)
        return await w.verdict("clock jumps", runs=count)


def move(clock: Path, offset: str) -> None:
    """At once for its reader: never an empty file."""
    new = clock.with_suffix(".new")
    new.write_text(offset)
    new.rename(clock)


async def seconds_off(w: World, engine: EngineProcess) -> float:
    """How far its wall clock is from ours, by its own word."""
    _, status = await w.load.call("GET", "/health/status", at=engine.address)
    return datetime.fromisoformat(status["timestamp"]).timestamp() - time.time()


async def schedule(w: World, number: int) -> str:
    """One for later, outside the ledger."""
    body = w.load.message(1_000_000 + number, scheduled_at=(datetime.now(UTC) + timedelta(hours=2)).isoformat())
    status, answer = await w.load.call("POST", "", body)
    assert status == 202, answer
    return str(answer["notifications"][0]["notification_id"])


async def nothing_stolen(w: World, ahead: list[str]) -> None:
    """No lease was taken from an engine that lived, and nothing was sent before its time."""
    collection = w.db["notifications"]
    stolen = await collection.count_documents({"lease.fence": {"$gt": 1}, "_id": {"$nin": ahead}})
    w.ledger.check(not stolen, f"{stolen} were claimed though their first lease had not ended")
    early = await collection.count_documents({"_id": {"$in": ahead}, "status": {"$ne": "scheduled"}})
    w.ledger.check(not early, f"{early} of {len(ahead)} scheduled were begun before their time")
    await collection.delete_many({"_id": {"$in": ahead}})
