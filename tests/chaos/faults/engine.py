"""Faults of the engine's process: killed, stopped past its lease, asked to end, its clock moved, poisoned, flooded."""

import asyncio
import time

from tests.chaos.cluster import Cluster
from tests.chaos.faults import fault
from tests.chaos.ledger import Row, settled_deliveries
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
