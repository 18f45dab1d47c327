"""Faults of Redis, between three engines on one database: killed, flushed, paused, partitioned, restarted empty.

Clients hear at the first engine what the two others accept. None of it may cost more than latency: no disturbance is
written into the ledger, so that no repeat is excused.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Any

from tests.chaos.clients import Fleet
from tests.chaos.cluster import Cluster
from tests.chaos.engines import EngineProcess
from tests.chaos.faults import fault
from tests.chaos.ledger import Row
from tests.chaos.wait import until
from tests.chaos.world import World, world
from tests.servers.redis import RedisServer, Wire, valkey

ENGINES = 3
USERS = 11  # with no common divisor with the kinds of traffic, so that each user gets all of them
POLL_SECONDS = 1.0
MARGIN_SECONDS = 3.0  # the look itself, and a machine that three engines and a replica set share
SLOW_COMMIT_SECONDS = 2.0  # past it, docs/scaling.md promises the tenth look
HEALED_SECONDS = 10.0  # an attempt that met the fault (4 s), the longest pause (2 s), the connection; docs/scaling.md
NOTICED_SECONDS = 15.0
LOAD = 24  # accepted before, during and after each
COMPLETE_SECONDS = 30.0
PROBE_SECONDS = 0.1
SETTLED_SECONDS = 1.0  # a live frame is not on its way so long


@dataclass
class Bed:
    """`wires`: each engine's own way to Redis; clients of the first engine, `steady` ones and those that resume."""

    w: World
    redis: RedisServer
    wires: Sequence[Wire]
    steady: Fleet
    resuming: Fleet
    watched: list[dict[str, Any]] = field(default_factory=list)  # every health answer there was
    slowest_heal: float = 0.0
    starved: float = 0.0  # the longest time for which the suite itself got no core

    async def buses(self, status: str, whom: Sequence[EngineProcess], seconds: float) -> float:
        """Waits until these engines show their bus so, and themselves healthy or degraded; the seconds."""
        whole = "healthy" if status == "up" else "degraded"

        async def all_so() -> bool:
            shown = [await self.health(engine) for engine in whom]
            return all(s["bus"]["status"] == status and s["status"] == whole for s in shown)

        return await until(all_so, seconds, f"bus {status}, health {whole}")

    async def health(self, engine: EngineProcess) -> dict[str, Any]:
        code, shown = await self.w.load.call("GET", "/health/status", at=engine.address)
        self.watched.append(shown | {"code": code, "engine": engine.name})
        return self.watched[-1]

    async def heard(self) -> int:
        return int((await self.health(self.w.engine))["bus"]["heard"])

    async def accepted(self, more: int = LOAD) -> None:
        await self.w.ledger.reached(len(self.w.ledger.accepted) + more, 60)


Break = Callable[[Bed, int], Awaitable[Sequence[EngineProcess]]]  # answers who has to notice
Mend = Callable[[Bed], Awaitable[None]]


@fault("Redis killed", full=10, short=1)
async def killed(count: int, seed: int, shared: Cluster | None, broken: str | None) -> Row:
    """`count` times SIGKILL; it stays away while traffic goes on."""

    async def kill(bed: Bed, run: int) -> Sequence[EngineProcess]:
        await bed.redis.kill()
        return bed.w.engines.all

    return await redis_fault("Redis killed", kill, lambda bed: bed.redis.start(), count, seed, shared, broken)


@fault("Redis paused", full=10, short=1)
async def paused(count: int, seed: int, shared: Cluster | None, broken: str | None) -> Row:
    """`count` times SIGSTOP: its connections stay open, and nothing answers."""

    async def pause(bed: Bed, run: int) -> Sequence[EngineProcess]:
        bed.redis.pause()
        return bed.w.engines.all

    async def resume(bed: Bed) -> None:
        bed.redis.resume()

    return await redis_fault("Redis paused", pause, resume, count, seed, shared, broken)


@fault("Redis partitioned", full=10, short=2)
async def partitioned(count: int, seed: int, shared: Cluster | None, broken: str | None) -> Row:
    """`count` times: in turns the way of the engine that the clients are at falls silent, the way of all does, and all
    connections are reset and new ones refused."""

    async def part(bed: Bed, run: int) -> Sequence[EngineProcess]:
        alone = run % 3 == 0
        for wire in bed.wires[:1] if alone else bed.wires:
            wire.sever() if run % 3 == 1 else wire.cut()
        return bed.w.engines.all[:1] if alone else bed.w.engines.all

    async def mend(bed: Bed) -> None:
        for wire in bed.wires:
            wire.mend()

    return await redis_fault("Redis partitioned", part, mend, count, seed, shared, broken)


@fault("Redis restarted empty", full=10, short=1)
async def restarted(count: int, seed: int, shared: Cluster | None, broken: str | None) -> Row:
    """`count` times SIGKILL and at once a new one that knows nothing: whoever was subscribed is not."""

    async def restart(bed: Bed, run: int) -> Sequence[EngineProcess]:
        await bed.redis.ask("SET", "kept", "no")
        await bed.redis.restart()
        bed.w.ledger.check(await bed.redis.ask("DBSIZE") == 0, "Redis was not empty: this fault proves nothing")
        return ()

    return await redis_fault("Redis restarted empty", restart, nothing, count, seed, shared, broken)


@fault("Redis flushed", full=10, short=1)
async def flushed(count: int, seed: int, shared: Cluster | None, broken: str | None) -> Row:
    """`count` times everything in it is deleted, scripts too; the link stays up."""

    async def flush(bed: Bed, run: int) -> Sequence[EngineProcess]:
        await bed.redis.ask("FLUSHALL")
        await bed.redis.ask("SCRIPT", "FLUSH")
        return ()

    return await redis_fault("Redis flushed", flush, nothing, count, seed, shared, broken)


async def nothing(bed: Bed) -> None:
    """It is over by itself."""


async def redis_fault(
    name: str, break_it: Break, mend: Mend, count: int, seed: int, shared: Cluster | None, broken: str | None
) -> Row:
    async with bed_on(shared, seed, broken) as bed:
        stop = asyncio.Event()
        flow = asyncio.create_task(bed.w.load.flow(stop, concurrency=2))
        try:
            for run in range(count):
                await one_run(bed, run, break_it, mend)
        finally:
            stop.set()
        await flow
        missing = await bed.steady.complete(await in_inboxes(bed.w), COMPLETE_SECONDS)
        missing |= await bed.resuming.complete(await in_inboxes(bed.w), COMPLETE_SECONDS)
        check_health(bed)
        note = f"{latencies(bed)}; healthy again after {bed.slowest_heal:.1f} s at most"
        row = await bed.w.verdict(name, runs=count, note=note)
        return replace(row, lost=row.lost + sum(len(ids) for ids in missing.values()))


async def one_run(bed: Bed, run: int, break_it: Break, mend: Mend) -> None:
    """Broken and noticed; clients lose their connections and resume beside it; mended, and heard by the bus again."""
    await bed.accepted()
    concerned = await break_it(bed, run)
    try:
        if concerned:
            await bed.buses("degraded", concerned, NOTICED_SECONDS)
        await bed.accepted()
        await bed.resuming.drop()
        await bed.accepted()
        began = time.monotonic()
        await bed.resuming.connect(bed.w.engine.address)
        await bed.accepted()
    finally:
        await mend(bed)
    bed.slowest_heal = max(bed.slowest_heal, await bed.buses("up", bed.w.engines.all, HEALED_SECONDS))
    heard = await bed.heard()
    await until(lambda: more_than(bed, heard), HEALED_SECONDS, "messages over Redis after it is back")
    missing = await bed.resuming.complete(await in_inboxes(bed.w, before=began), COMPLETE_SECONDS)
    bed.w.ledger.check(not missing, f"run {run}: clients that resumed lack something")
    known = accepted_before(bed.w, began - SETTLED_SECONDS)
    disorder = sum(client.seen.disorder(known) for client in bed.resuming.clients)
    bed.w.ledger.check(not disorder, f"run {run}: {disorder} out of order after resume")


async def more_than(bed: Bed, heard: int) -> bool:
    return await bed.heard() > heard


@asynccontextmanager
async def bed_on(shared: Cluster | None, seed: int, broken: str | None) -> AsyncIterator[Bed]:
    users = [f"u{i}" for i in range(USERS)]
    async with (
        world(shared, seed=seed, broken=broken, engines=0, webhooks=0, LIVE_POLL_SECONDS=POLL_SECONDS) as w,
        ways(w) as (redis, wires),
        Fleet(users) as steady,
        Fleet(users, streams=USERS // 2) as resuming,
    ):
        for wire in wires:
            await w.engines.add(ready=False, REDIS_URL=wire.url)
        await asyncio.gather(*(engine.ready() for engine in w.engines.all))
        w.load.users = USERS
        w.load.addresses = [engine.address for engine in w.engines.all[1:]]
        await w.register("hook-0")
        bed = Bed(w, redis, wires, steady, resuming)
        await steady.connect(w.engine.address)
        await resuming.connect(w.engine.address)
        async with watching(bed):
            yield bed


@asynccontextmanager
async def ways(w: World) -> AsyncIterator[tuple[RedisServer, Sequence[Wire]]]:
    redis = RedisServer(valkey(), w.directory)
    wires = [Wire(redis.port) for _ in range(ENGINES)]
    await redis.start()
    try:
        for wire in wires:
            await wire.start()
        yield redis, wires
    finally:
        for wire in wires:
            await wire.stop()
        await redis.kill()


@asynccontextmanager
async def watching(bed: Bed) -> AsyncIterator[None]:
    """Each engine is asked for its health all the time."""

    async def watch(engine: EngineProcess) -> None:
        while True:
            await bed.health(engine)
            began = time.monotonic()
            await asyncio.sleep(PROBE_SECONDS)
            bed.starved = max(bed.starved, time.monotonic() - began - PROBE_SECONDS)

    tasks = [asyncio.create_task(watch(engine)) for engine in bed.w.engines.all]
    try:
        yield
        ended = [task.exception() for task in tasks if task.done()]
        assert not ended, ended
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def check_health(bed: Bed) -> None:
    """Never 503 and never down: a balancer keeps what works. Degraded has a reason, and up has none."""
    for shown in bed.watched:
        bus = shown["bus"]
        bed.w.ledger.check(shown["code"] == 200 and shown["ready"], f"{shown['engine']} said {shown['code']}")
        bed.w.ledger.check(shown["status"] in {"healthy", "degraded"}, f"{shown['engine']} said {shown['status']}")
        lost = bus["status"] == "degraded"
        bed.w.ledger.check(not lost or shown["status"] == "degraded", "the bus is lost and the health is good")
        bed.w.ledger.check(bool(bus["reason"]) is lost, f"bus {bus['status']}, reason {bus['reason']}")


def latencies(bed: Bed) -> str:
    """From the 202 of another engine to the frame, of the clients that stayed; checks the bound that is documented."""
    answers = {i: a for a in bed.w.ledger.answers for i in a.ids}
    took = []
    for client in bed.steady.clients:
        for notification_id, at in client.seen.at.items():
            answer = answers[notification_id]
            took.append(max(0.0, at - answer.at - answer.seconds))
            looks = 10 if answer.seconds > SLOW_COMMIT_SECONDS else 1
            bound = looks * POLL_SECONDS + MARGIN_SECONDS + bed.starved
            bed.w.ledger.check(took[-1] <= bound, f"a frame came {took[-1]:.1f} s after its 202, allowed {bound:.1f} s")
    bed.w.ledger.check(bool(took), "no frame was seen")
    return f"frame after the 202 of another engine: median {1000 * median(took):.0f} ms, at most {max(took):.1f} s"


def accepted_before(w: World, moment: float) -> set[str]:
    return {i for a in w.ledger.answers if a.at + a.seconds <= moment for i in a.ids}


async def in_inboxes(w: World, *, before: float | None = None) -> dict[str, set[str]]:
    """By user: what the ledger of 202s promises to the inbox, of those accepted before that moment."""
    promised = accepted_before(w, time.monotonic() if before is None else before)
    found: dict[str, set[str]] = {}
    async for document in w.db["notifications"].find({"inbox.visible_at": {"$exists": True}}, {"user_id": 1}):
        if document["_id"] in promised:
            found.setdefault(document["user_id"], set()).add(document["_id"])
    return found
