"""Too bad and too much: poison among healthy requests, and three times the traffic that the engine can take."""

import asyncio
import time
from typing import Any

import orjson
from tests.chaos.cluster import Cluster
from tests.chaos.faults import fault
from tests.chaos.ledger import OPEN, Answer, Row, settled_deliveries, statuses_text
from tests.chaos.wait import until
from tests.chaos.world import World, world

from notification_engine.api.admission import MAX_WAIT_SECONDS

MAX_DEATHS = 6  # two claims that ended in a dead process, then three alone, and one for an unlucky moment
LEASE_SECONDS = 2


def poisons(plain: dict[str, Any]) -> list[tuple[str, bytes]]:
    """Bodies that must be refused, each alone, by name."""
    text = orjson.dumps(plain).decode()
    deep = '{"a":' * 10_000 + "1" + "}" * 10_000

    def with_data(data: str) -> bytes:
        return f'{text[:-1]},"data":{data}}}'.encode()

    return [
        ("16 MB", with_data(f'{{"a":"{"a" * 16 * 2**20}"}}')),
        ("depth 10,000", with_data(deep)),
        ("NaN", with_data('{"a":NaN}')),
        ("Infinity", with_data('{"a":-Infinity}')),
        ("2**70", with_data(f'{{"a":{2**70}}}')),
        ("lone surrogate in data", with_data('{"a":"\\ud800"}')),
        ("lone surrogate as key", with_data('{"\\udfff":1}')),
        ("lone surrogate in title", text.replace(plain["title"], "\\ud800").encode()),
        ("NUL key", with_data('{"a\\u0000b":1}')),
        ("operator key", with_data('{"$where":1}')),
        ("header injection", text.replace(plain["title"], "a\\r\\nBcc: b@example.org").encode()),
        ("not UTF-8", text.encode().replace(plain["title"].encode(), b"\xff\xfe")),
        ("cut short", text[:-2].encode()),
        ("no object", b"[]"),
        ("nothing", b""),
    ]


ODD = (
    "{{ 7 * 7 }} {% raw %}",
    "<script>alert(1)</script>",
    "\u202eabc",
    "%s %(x)s {0}",
    "a" * 65_536,
    "\U0001f600\u0301",
)


@fault("poison", full=10_000, short=150)
async def poison(count: int, seed: int, shared: Cluster | None, broken: str | None) -> Row:
    """`count` healthy requests; every hundredth (short: every tenth) beside it is poison, and one kills its engine."""
    build = broken or "dies-of-poison"
    async with world(shared, seed=seed, broken=build, LEASE_SECONDS=LEASE_SECONDS) as w:
        await refused_alone(w, count)
        only_healthy = [a for a in w.ledger.answers if not a.key.startswith("poison")]
        w.ledger.check(all(a.status == 202 for a in only_healthy), "a healthy request was refused beside poison")
        deaths = await dead_letter(w)
        note = f"{deaths} deaths until the dead letter; {statuses_text(w.ledger)}"
        return await w.verdict("poison", runs=max(15, count // 100) + 1, within_seconds=20, note=note)


async def refused_alone(w: World, count: int) -> None:
    """Poison and healthy traffic at once, so that they would share a group commit."""
    rounds = max(1, count // 100 // 15)
    healthy = asyncio.create_task(w.load.run(count - len(ODD)))
    for index, odd in enumerate(ODD):
        await w.load.deliver(w.load.message(2_000_000 + index, body=odd), f"odd-{index}")
    for turn in range(rounds):
        for name, body in poisons(w.load.message(3_000_000)):
            answer = await w.load.post(f"poison-{turn}-{name}", body)
            w.ledger.check(answer.status in (400, 413, 422), f"{name} was answered {answer.status}")
    await batch_with_poison(w)
    await healthy


async def batch_with_poison(w: World) -> None:
    """Items of one call: the poisoned one is refused, its neighbours are accepted."""
    items = [w.load.message(4_000_000 + n) for n in range(10)]
    items[4]["data"] = {"a": 2**70}
    text = orjson.dumps([i for n, i in enumerate(items) if n != 4])
    poisoned = orjson.dumps(w.load.message(4_000_004))[:-1] + f',"data":{{"a":{2**70}}}}}'.encode()
    status, answer = await w.load.call("POST", "/batch", b'{"notifications":' + text[:-1] + b"," + poisoned + b"]}")
    results = [r["status"] for r in answer.get("results", [])]
    w.ledger.check(status == 207 and results == [202] * 9 + [422], f"a batch with poison: {status}, {results}")


async def dead_letter(w: World) -> int:
    """One notification kills each engine that sends it, until the poison rule ends it; answers the deaths. Healthy
    ones are sent all the while."""
    deadly = await w.load.deliver(w.load.message(5_000_000, title="deadly", channels=["webhook"]), "deadly")
    query = {"_id": deadly.ids[0]}
    stop = asyncio.Event()
    load = asyncio.create_task(w.load.flow(stop, concurrency=2))
    deaths = await deaths_of(w, query)
    stop.set()
    if not w.engine.alive:
        load.cancel()  # nobody is left to answer it
    await asyncio.wait([load])
    document = await w.db["notifications"].find_one(query)
    reason = document["deliveries"][0].get("reason") if document else None
    w.ledger.check(reason == "poison" and deaths <= MAX_DEATHS, f"after {deaths} deaths its reason is {reason}")
    strangers = {"deliveries.status": "failed", "_id": {"$ne": deadly.ids[0]}}
    for stranger in await w.db["notifications"].find(strangers, limit=3).to_list():
        delivery = next(d for d in stranger["deliveries"] if d["status"] == "failed")
        w.ledger.problem(f"a stranger is a dead letter: {delivery}")
    return deaths


async def deaths_of(w: World, query: dict[str, Any]) -> int:
    """Starts the engine again after each death, until the notification has ended."""
    deaths = 0

    async def ended() -> bool:
        found = await w.db["notifications"].find_one({**query, "status": {"$nin": OPEN}})
        return found is not None or not w.engine.alive

    while True:
        await until(ended, 60, "the next death, or the dead letter")
        if w.engine.alive or deaths > MAX_DEATHS:
            break
        deaths += 1
        w.ledger.disturbed(time.monotonic(), await settled_deliveries(w.db))
        await w.engine.start(ready=False)
    return deaths


RECIPIENTS = 100
WARM_SECONDS = 4.0


@fault("overload at three times capacity", full=180, short=8)
async def overload(count: int, seed: int, shared: Cluster | None, broken: str | None) -> Row:
    """For `count` seconds three times as many requests come as the engine can answer, whether it answers or not."""
    alone = {"HTTP_MAX_IN_FLIGHT": 100_000} if broken else {}  # no other bound hides what is broken
    async with world(shared, seed=seed, broken=broken, LEASE_SECONDS=30, **alone) as w:  # longer than an accept
        capacity = await capacity_of(w)
        used: list[int] = []
        watch = asyncio.create_task(watch_memory(w, used))
        await flood(w, 3 * capacity, float(count))
        watch.cancel()
        refused = [a for a in w.ledger.answers if a.status in (429, 503)]
        w.ledger.check(bool(refused), "nothing was refused: this was no overload")
        w.ledger.check(all(a.retry_after for a in refused), "503 without Retry-After")
        longest = max(a.seconds for a in w.ledger.answers if a.status == 202)
        w.ledger.check(longest < 4 * MAX_WAIT_SECONDS, f"a 202 came after {longest:.1f} s, when nobody waits for it")
        others = {s: n for s, n in w.ledger.statuses().items() if s not in (202, 503)}
        w.ledger.check(not others, f"answers other than 202 and 503: {others}")
        middle, last = max(used[len(used) // 3 : -len(used) // 3]), max(used[-len(used) // 3 :])
        w.ledger.check(last <= middle * 1.25, f"memory grew from {middle >> 20} to {last >> 20} MiB")
        note = (
            f"{capacity * RECIPIENTS:.0f}/s alone; a 202 after {longest:.1f} s at most; "
            f"memory {middle >> 20} to {last >> 20} MiB; {statuses_text(w.ledger)}"
        )
        return await all_delivered(w, note)


def request(w: World, number: int) -> dict[str, Any]:
    recipients = [{"user_id": f"o{number}-{n}", "email": f"o{n}@example.org"} for n in range(RECIPIENTS)]
    channels = ["webhook"] if number % 20 == 0 else ["in_app"]
    return w.load.message(number, recipients=recipients, channels=channels)


async def capacity_of(w: World) -> float:
    """Requests a second with sixteen clients that wait for their answers."""
    began, numbers = time.monotonic(), iter(range(10**6))

    async def client() -> int:
        done = 0
        while time.monotonic() - began < WARM_SECONDS:
            number = next(numbers)
            done += (await w.load.post(f"warm-{number}", request(w, number))).status == 202
        return done

    done = sum(await asyncio.gather(*(client() for _ in range(16))))
    return done / (time.monotonic() - began)


async def flood(w: World, per_second: float, seconds: float) -> None:
    began, sent = time.monotonic(), 0
    tasks: set[asyncio.Task[Answer]] = set()
    while (passed := time.monotonic() - began) < seconds:
        while sent < passed * per_second:
            task = asyncio.create_task(w.load.post(f"flood-{sent}", orjson.dumps(request(w, 10**6 + sent))))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            sent += 1
        await asyncio.sleep(0.01)  # the pace of the flood
    while tasks:
        await asyncio.wait(tasks)


async def watch_memory(w: World, used: list[int]) -> None:
    while True:
        used.append(w.engine.resident_bytes())
        await asyncio.sleep(0.2)


async def all_delivered(w: World, note: str) -> Row:
    """Too many for `verdict`: the accepted are looked up in parts. Every delivery has one receipt at most."""
    await until(lambda: nothing_open(w), 120, "the end of what was accepted")
    accepted, there = w.ledger.accepted, 0
    for start in range(0, len(accepted), 1000):
        part = {"_id": {"$in": accepted[start : start + 1000]}, "status": "delivered"}
        there += await w.db["notifications"].count_documents(part)
    ids = [r.delivery_id for r in w.receivers.receipts]
    again = len(ids) - len(set(ids))
    return Row(
        "overload at three times capacity",
        1,
        len(accepted),
        lost=len(accepted) - there,
        duplicates=again,
        unexplained=again,
        problems=tuple(w.ledger.problems),
        note=note,
    )


async def nothing_open(w: World) -> bool:
    return await w.db["notifications"].find_one({"status": {"$in": OPEN}}, {"_id": 1}) is None
