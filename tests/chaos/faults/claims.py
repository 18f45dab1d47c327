"""What several hands on one notification must not do: two lanes that settle it, two daemons that claim it."""

from datetime import UTC, datetime, timedelta

from tests.chaos.cluster import Cluster
from tests.chaos.faults import fault
from tests.chaos.ledger import Row, until_terminal
from tests.chaos.proxy import proxy
from tests.chaos.receivers import first, refused
from tests.chaos.wait import until
from tests.chaos.world import World, world

SOON = timedelta(seconds=3)
BOUND_SECONDS = 20
CLAIM = b"$lease.solo_deaths"  # what only a claim's pipeline reads
BATCH = 20


@fault("two lanes settle one notification", full=2_000, short=120)
async def two_lanes(count: int, seed: int, shared: Cluster | None, broken: str | None) -> Row:
    """`count` notifications by e-mail and by webhook at once; each webhook is refused once and comes again."""
    async with world(shared, seed=seed, broken=broken) as w:
        w.receivers.script("hook-0", first(refused(503)))
        w.load.mix = (("email", "webhook"), ("in_app", "email", "webhook"))
        await w.load.run(count)
        return await w.verdict("two lanes settle one notification", runs=count, within_seconds=BOUND_SECONDS)


@fault("daemons compete for what is due", full=2_000, short=300)
async def competing(count: int, seed: int, shared: Cluster | None, broken: str | None) -> Row:
    """`count` notifications fall due at one moment before two daemons, whose claims reach the server late: each is
    claimed once, and never when it has ended."""
    async with world(shared, seed=seed, engines=2, broken=broken, SWEEP_INTERVAL_SECONDS=0.05) as w:
        w.load.mix = (("in_app",), ("email",))
        due_at = (datetime.now(UTC) + SOON + timedelta(seconds=count / 100)).isoformat()
        await w.load.run(count, scheduled_at=due_at)
        late = {"blockConnection": True, "blockTimeMS": 60}
        async with w.cluster.failing(["update"], {"activationProbability": 0.5}, **late) as failing:
            await until_terminal(w.db, BOUND_SECONDS)
        w.ledger.check(failing.met > 0, "no claim was late: this fault proves nothing")
        await claimed_once(w)
        return await w.verdict("daemons compete for what is due", runs=count, within_seconds=BOUND_SECONDS)


@fault("a claim comes late", full=20, short=2)
async def late(count: int, seed: int, shared: Cluster | None, broken: str | None) -> Row:
    """`count` times one daemon's claim is on its way until another has claimed, sent and settled all of it."""
    assert shared is not None
    primary = await shared.primary()
    async with proxy("127.0.0.1", primary.port) as p, world(shared, seed=seed, broken=broken) as w:
        slow = await w.engines.add(MONGODB_URL=p.url)
        w.load.addresses = [slow.address]
        w.load.mix = (("in_app",), ("webhook",))
        for run in range(count):
            w.engine.pause()
            p.hold(CLAIM)
            await w.load.run(BATCH, scheduled_at=(datetime.now(UTC) + timedelta(seconds=2)).isoformat())
            await until(lambda: _reached(p.held, 1), 30, "a claim on its way")
            w.engine.resume()
            await until_terminal(w.db, BOUND_SECONDS)
            p.release()
            await until(lambda r=run: _reached(p.late, r + 1), 30, "the late claim's answer")
        await claimed_once(w)
        return await w.verdict("a claim comes late", runs=count, within_seconds=BOUND_SECONDS)


async def _reached(count: int, wanted: int) -> bool:
    return count >= wanted


async def claimed_once(w: World) -> None:
    again = await w.db["notifications"].count_documents({"lease.fence": {"$gt": 1}})
    w.ledger.check(not again, f"{again} were claimed more than once")
