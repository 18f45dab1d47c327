"""Faults of the engine's process: killed, stopped past its lease, asked to end, its clock moved, poisoned, flooded."""

import asyncio
import time
from datetime import UTC, datetime

from tests.chaos.cluster import Cluster
from tests.chaos.faults import fault
from tests.chaos.ledger import OPEN, Row, settled_deliveries, until_terminal
from tests.chaos.wait import until
from tests.chaos.world import World, world

LEASE_SECONDS = 4
RECOVERY_SECONDS = LEASE_SECONDS + 10


@fault("engine killed mid-batch", full=10_000, short=480)
async def killed(count: int, seed: int, shared: Cluster | None, broken: str | None) -> Row:
    """`count` notifications over all channels; a SIGKILL after every 200 (short: 120) that were accepted."""
    kills = max(4, count // 200)
    async with world(shared, seed=seed, broken=broken, LEASE_SECONDS=LEASE_SECONDS) as w:
        w.slow_receivers(0.05)
        async with asyncio.TaskGroup() as group:
            group.create_task(w.load.run(count))
            for kill in range(kills):
                await w.ledger.reached((kill + 1) * count // (kills + 1))
                await kill_and_restart(w)
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
    await w.load.run(16)
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
