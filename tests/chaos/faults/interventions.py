"""Races of people against lanes, over HTTP: a cancel at the moment of the send, replays while a lane still settles."""

import asyncio
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.chaos.cluster import Cluster
from tests.chaos.faults import fault
from tests.chaos.ledger import Row
from tests.chaos.receivers import Answer, first, refused
from tests.chaos.wait import until
from tests.chaos.world import World, world

BATCH = 100
AHEAD_SECONDS = 2.0
AROUND_SECONDS = (-0.2, 0.8)  # of the due moment; the next sweep comes within 0.2 s


@fault("cancel racing its send", full=2_000, short=100)
async def cancel(count: int, seed: int, shared: Cluster | None, broken: str | None) -> Row:
    """`count` scheduled notifications, each cancelled about when it is due. 200: never sent. 409: sent, once."""
    name = "cancel racing its send"
    async with world(shared, seed=seed, broken=broken, webhooks=0) as w:
        await w.register("hook", "chaos.*")
        statuses: dict[str, int] = {}
        for begin in range(0, count, BATCH):
            numbers = range(begin, min(begin + BATCH, count))
            statuses.update(await asyncio.gather(*(_scheduled_and_cancelled(w, seed, number) for number in numbers)))
        row = await w.verdict(name, runs=count)
        receipts = Counter(r.notification_id for r in w.receivers.receipts)
        async for document in w.db["notifications"].find({}, {"status": 1}):
            got = (statuses.get(document["_id"]), document["status"], receipts[document["_id"]])
            w.ledger.check(got in {(200, "cancelled", 0), (409, "delivered", 1)}, f"answer, status, receipts: {got}")
        answers = Counter(statuses.values())
        w.ledger.check(set(answers) == {200, 409}, f"no race: answers {dict(answers)}")
        return replace(
            row, problems=tuple(w.ledger.problems), note=f"{answers[200]} cancelled, {answers[409]} too late"
        )


async def _scheduled_and_cancelled(w: World, seed: int, number: int) -> tuple[str, int]:
    due = datetime.now(UTC) + timedelta(seconds=AHEAD_SECONDS)
    body = w.load.message(number, channels=["webhook"], scheduled_at=due.isoformat())
    accepted = await w.load.deliver(body, f"{seed}-cancel-{number}")
    moment = (due - datetime.now(UTC)).total_seconds() + w.random.uniform(*AROUND_SECONDS)
    await asyncio.sleep(max(0.0, moment))  # the race is what is tried
    status, _ = await w.load.call("POST", f"/{accepted.ids[0]}/cancel")
    return accepted.ids[0], status


@fault("replay racing a settlement", full=2_000, short=60)
async def replay(count: int, seed: int, shared: Cluster | None, broken: str | None) -> Row:
    """`count` notifications of two deliveries: one is refused for good and replayed by two operators at once, while
    the lane still sends the other. Each ends delivered; each replay counts once."""
    async with world(shared, seed=seed, broken=broken, webhooks=0) as w:
        refusing = await w.register("refusing", "chaos.*")
        await w.register("slow", "chaos.*")
        w.receivers.script("refusing", first(refused(400)))
        w.receivers.script("slow", Answer(delay_seconds=0.3))
        await w.load.run(count, channels=["webhook"])
        await until(lambda: _failed_once(w, refusing["webhook_id"], count), 120, "a first refusal of each")
        dead = [
            d["id"]
            async for n in w.db["notifications"].find({})
            for d in n["deliveries"]
            if d["endpoint"] == refusing["webhook_id"]
        ]
        changed = Counter[str]()
        slots = asyncio.Semaphore(32)
        await asyncio.gather(*(_operator(w, slots, delivery_id, changed) for delivery_id in dead * 2))
        row = await w.verdict("replay racing a settlement", runs=2 * count)
        w.ledger.check(set(changed.values()) == {1}, f"replays by delivery: {Counter(changed.values())}")
        received = Counter(Counter(r.delivery_id for r in w.receivers.receipts).values())
        w.ledger.check(received == {1: count, 2: count}, f"receipts by delivery: {dict(received)}")
        async for document in w.db["notifications"].find({}, {"status": 1}):
            w.ledger.check(document["status"] == "delivered", f"ended as {document['status']}")
        return replace(row, problems=(*row.problems, *w.ledger.problems[:10]))


async def _failed_once(w: World, endpoint: str, count: int) -> bool:
    rows: dict[str, Any] = {"endpoint": endpoint, "delivery_status": "failed"}
    return await w.db["notification_history"].count_documents(rows) >= count


async def _operator(w: World, slots: asyncio.Semaphore, delivery_id: str, changed: Counter[str]) -> None:
    """Asks again while the lane holds the notification, until it is replayed, by whomever."""
    async with slots:
        while True:
            status, done = await w.load.call("POST", "/dead-letters/replay", {"delivery_ids": [delivery_id]})
            if status == 200 and done["changed"]:
                changed[delivery_id] += done["changed"]
                return
            if status == 200 and not done["skipped"]:
                return
            await asyncio.sleep(0.05)  # the pause of a person
