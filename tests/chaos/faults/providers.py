"""Faults of providers: they refuse, cut, lie, answer late or a byte at a time, or take a message and drop the line."""

import asyncio
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

from tests.chaos import mail
from tests.chaos.cluster import Cluster
from tests.chaos.faults import fault
from tests.chaos.ledger import Row
from tests.chaos.mail import MailAnswer, Step
from tests.chaos.receivers import (
    HTML,
    RESET_AFTER,
    RESET_BEFORE,
    TRUNCATED,
    Answer,
    first,
    gzip_bomb,
    late,
    loris,
    refused,
)
from tests.chaos.wait import until
from tests.chaos.world import World, world

SLOW_ENDPOINTS = 200
NOISE_SECONDS = 0.5  # a p99 below this says more about the machine, shared with the receivers, than about the engine
DEADLINE_SECONDS = 4
SHUT = "breakers-never-open"  # of the mail server's faults: each message is to meet its lie, not an open breaker
BACKOFF = (0.0, 0.2)  # WEBHOOK_RETRY_DELAY_SECONDS and NOTIFICATION_RETRY_DELAY_SECONDS of the suite, full jitter
HOUR = (3600.0, 3600.0)


@dataclass(frozen=True)
class Case:
    """What a provider does to the first call, and what the engine has to make of it: the first attempt's status and
    reason, the span of its pause in seconds, and the end. `hosts`: over how many it is spread; a slow one has one slot.
    """

    name: str
    answer: Answer | MailAnswer
    status: str
    reason: str | None = None
    pause: tuple[float, float] | None = None
    end: str = "delivered"
    hosts: int = 1


def again(
    name: str, answer: Answer | MailAnswer, reason: str, pause: tuple[float, float] = BACKOFF, **more: Any
) -> Case:
    return Case(name, answer, "pending", reason, pause, **more)


def webhook_cases() -> list[Case]:
    in_an_hour = format_datetime(datetime.now(UTC) + timedelta(seconds=3600), usegmt=True)
    return [
        again("429", refused(429), "rate_limited"),
        again("429-junk", refused(429, "soon"), "rate_limited"),
        again("429-negative", refused(429, "-5"), "rate_limited"),
        again("429-1e9", refused(429, "1000000000"), "rate_limited", HOUR),
        again("503-date", refused(503, in_an_hour), "server_error", (1.0, 3600.0)),
        again("503-past", refused(503, "Wed, 21 Oct 2015 07:28:00 GMT"), "server_error"),
        again("500", refused(500), "server_error"),
        again("reset-before", RESET_BEFORE, "connection_lost"),
        again("reset-after", RESET_AFTER, "connection_lost"),
        again("silence", late(600), "timeout", hosts=50),
        again("late", late(DEADLINE_SECONDS + 0.5), "timeout", hosts=50),
        Case("truncated", TRUNCATED, "delivered"),
        Case("html", HTML, "delivered"),
        Case("gzip-bomb", gzip_bomb(), "delivered"),
        Case("400", refused(400), "failed", "refused", end="failed"),
        Case("302", refused(302), "failed", "redirect", end="failed"),
    ]


def mail_cases() -> list[Case]:
    taken = Step.TAKEN
    return [
        again("rcpt-450", MailAnswer(Step.RCPT, "450 4.2.0 later"), "server_error", end="accepted"),
        Case("rcpt-550", MailAnswer(Step.RCPT, "550 5.1.1 nobody"), "failed", "invalid_address", end="failed"),
        again("rcpt-cut", MailAnswer(Step.RCPT, cut=mail.Cut.RESET), "connection_failed", end="accepted"),
        again("rcpt-silence", MailAnswer(Step.RCPT), "timeout", end="accepted"),
        again("data-451", MailAnswer(Step.DATA, "451 4.3.0 later"), "server_error", end="accepted"),
        Case("data-554", MailAnswer(Step.DATA, "554 5.7.1 no"), "failed", "refused", end="failed"),
        again("taken-451", MailAnswer(taken, "451 4.3.0 later"), "server_error", end="accepted"),
        Case("taken-554", MailAnswer(taken, "554 5.7.1 no"), "failed", "refused", end="failed"),
        Case("taken-cut", mail.ACCEPT_THEN_DROP, "unknown", "connection_lost", end="unknown"),
        Case("taken-end", mail.ACCEPT_THEN_END, "unknown", "connection_lost", end="unknown"),
        Case("taken-silence", MailAnswer(taken), "unknown", "timeout", end="unknown"),
    ]


@fault("webhook receivers refuse, cut and lie", full=500, short=10)
async def webhook_lies(count: int, seed: int, shared: Cluster | None, broken: str | None) -> Row:
    """`count` of each case."""
    cases = webhook_cases()
    async with world(shared, seed=seed, broken=broken, webhooks=0, WEBHOOK_TIMEOUT_SECONDS=DEADLINE_SECONDS) as w:
        for number, case in enumerate(cases):
            assert isinstance(case.answer, Answer)
            await w.receivers.listen(*(_host(number, i) for i in range(case.hosts)))
            for i in range(case.hosts):
                name = f"{case.name}.n{i}"
                w.receivers.script(name, first(case.answer))
                await w.load.register(w.receivers.webhook_url(name, _host(number, i)), f"case{number}.n{i}")
        bodies = [
            w.load.message(
                number * 10**6 + i, channels=["webhook"], notification_type=f"case{number}.n{i % case.hosts}"
            )
            for i in range(count)
            for number, case in enumerate(cases)
        ]
        return await judged(w, "webhook receivers refuse, cut and lie", cases, bodies, count)


@fault("mail server refuses, cuts and lies", full=500, short=10)
async def mail_lies(count: int, seed: int, shared: Cluster | None, broken: str | None) -> Row:
    """`count` of each case."""
    cases = mail_cases()
    async with world(shared, seed=seed, broken=broken or SHUT, webhooks=0, SMTP_TIMEOUT_SECONDS=DEADLINE_SECONDS) as w:
        for number, case in enumerate(cases):
            w.receivers.mail.script(f"case{number}", once(case.answer))
        bodies = [
            w.load.message(number * 10**6 + i, channels=["email"], notification_type=f"case{number}.n0")
            | {"recipients": [{"user_id": f"u{i}", "email": f"case{number}+{i}@example.org"}]}
            for i in range(count)
            for number in range(len(cases))
        ]
        return await judged(w, "mail server refuses, cuts and lies", cases, bodies, count)


def early_answers() -> list[MailAnswer]:
    """Before the server knows whom a message is for."""
    kinds = [("421 4.3.2 not now", None), (None, mail.Cut.RESET), (None, mail.Cut.END), (None, None)]
    steps = (Step.CONNECT, Step.EHLO, Step.MAIL)
    return [MailAnswer(step, reply, cut) for step in steps for reply, cut in kinds]


@fault("mail server fails before the recipient", full=500, short=24)
async def mail_fails_early(count: int, seed: int, shared: Cluster | None, broken: str | None) -> Row:
    """The first `count` conversations fail at connect, EHLO or MAIL; each message is sent once in the end."""
    settings = {"SMTP_TIMEOUT_SECONDS": DEADLINE_SECONDS, "NOTIFICATION_RETRY_MAX_ATTEMPTS": 20}
    async with world(shared, seed=seed, broken=broken or SHUT, webhooks=0, **settings) as w:
        answers = early_answers()
        w.receivers.mail.connect_script = lambda seen: answers[seen % len(answers)] if seen < count else None
        await w.load.run(count, channels=["email"])
        row = await w.verdict("mail server fails before the recipient", runs=count, within_seconds=120)
        async for document in w.db["notifications"].find({}, {"status": 1}):
            w.ledger.check(document["status"] == "accepted", f"ended as {document['status']}")
        w.ledger.check(w.receivers.ledger.refused.total() == count, f"{w.receivers.ledger.refused.total()} refused")
        return replace(row, problems=(*row.problems, *summary(w.ledger.problems)))


@fault("accept, then drop", full=1_000, short=60)
async def accept_then_drop(count: int, seed: int, shared: Cluster | None, broken: str | None) -> Row:
    """The mail server takes the message and resets before it answers: `unknown`; high priority resends after a grace
    of minutes, the rest is held; nothing is sent again now."""
    async with world(shared, seed=seed, broken=broken or SHUT, webhooks=0) as w:
        w.receivers.mail.script("drop", mail.ACCEPT_THEN_DROP)
        priorities = ("medium", "high")
        await send(
            w,
            [
                w.load.message(i, channels=["email"], priority=priorities[i % 2])
                | {"recipients": [{"user_id": f"u{i}", "email": f"drop+{i}@example.org"}]}
                for i in range(count)
            ],
        )
        row = await w.verdict("accept, then drop", runs=count)
        stored = [d async for d in w.db["notifications"].find({})]
        statuses = Counter(d["status"] for d in stored)
        w.ledger.check(statuses == {"unknown": count}, f"statuses {dict(statuses)}")
        for document in stored:
            (delivery,) = document["deliveries"]
            resends = document["priority"] == "high"
            grace = (document["due_at"] - document["created_at"]).total_seconds() if "due_at" in document else 0
            w.ledger.check(delivery["held"] is not resends, f"{document['priority']} held: {delivery['held']}")
            w.ledger.check(grace > 240 if resends else grace == 0, f"{document['priority']} is due after {grace:.0f} s")
        w.ledger.check(len(w.receivers.receipts) == count, f"{len(w.receivers.receipts)} receipts of {count}")
        return replace(row, problems=tuple(w.ledger.problems))


@fault("slow-loris receivers", full=10_000, short=300)
async def slow_loris(count: int, seed: int, shared: Cluster | None, broken: str | None) -> Row:
    """`count` healthy calls without, then `count` beside 200 endpoints that answer a byte at a time, whose backlog is
    half as much again as one process may lease. The healthy p99 stays within twice that of before."""
    room = 300 if count < 5_000 else 1_000
    settings = {"NOTIFICATION_QUEUE_SIZE": room, "WEBHOOK_MAX_RETRIES": 0, "WEBHOOK_TIMEOUT_SECONDS": 2}
    async with world(shared, seed=seed, broken=broken, webhooks=0, **settings) as w:
        await w.register("healthy", "healthy.*")
        await register_slow(w)
        before = await healthy_p99(w, count)
        await send(w, [w.load.message(i, channels=["webhook"], **slow(i)) for i in range(10**6, 10**6 + 3 * room // 2)])
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


async def judged(w: World, name: str, cases: Sequence[Case], bodies: Sequence[dict[str, Any]], count: int) -> Row:
    """Sends all; the first attempt of each is compared with its case; then what waits for long is made due."""
    await send(w, bodies)
    await until(lambda: _first_rows(w, len(bodies)), 300, "a first attempt of each")
    rows = {r["notification_id"]: r async for r in w.db["notification_history"].find({"attempt": 1})}
    types = {d["_id"]: d["notification_type"] async for d in w.db["notifications"].find({}, {"notification_type": 1})}
    for notification_id, row in rows.items():
        case = cases[int(types[notification_id].partition(".")[0].removeprefix("case"))]
        got = (row["delivery_status"], row.get("reason"))
        w.ledger.check(got == (case.status, case.reason), f"{case.name}: {got}")
        low, high = case.pause or (0.0, 0.0)
        pause = row.get("next_attempt_seconds") or 0.0
        w.ledger.check(low <= pause <= high, f"{case.name}: a pause of {pause:.1f} s")
        if case.end in {"failed", "unknown"}:
            w.ledger.meant.add(row["delivery_id"])
    await make_due(w)
    row = await w.verdict(name, runs=count * len(cases), within_seconds=180)
    async for document in w.db["notifications"].find({}):
        case = cases[int(document["notification_type"].partition(".")[0].removeprefix("case"))]
        w.ledger.check(document["status"] == case.end, f"{case.name}: ended as {document['status']}")
    w.ledger.check(w.engine.alive, "the engine has ended")
    return replace(row, problems=(*row.problems, *summary(w.ledger.problems)))


def summary(problems: Sequence[str]) -> list[str]:
    return [f"{text} ({count})" for text, count in Counter(problems).most_common(20)]


async def _first_rows(w: World, count: int) -> bool:
    return await w.db["notification_history"].count_documents({"attempt": 1}) >= count


async def make_due(w: World) -> None:
    """As if the pauses that were asked for had passed."""
    now = {"$cond": [{"$gt": ["$$d.next_attempt_at", "$$NOW"]}, "$$NOW", "$$d.next_attempt_at"]}
    moved = {"$mergeObjects": ["$$d", {"next_attempt_at": now}]}
    waiting = {"status": "processing", "lease.owner": {"$exists": False}, "due_at": {"$gt": datetime.now(UTC)}}
    await w.db["notifications"].update_many(
        waiting,
        [{"$set": {"due_at": "$$NOW", "deliveries": {"$map": {"input": "$deliveries", "as": "d", "in": moved}}}}],
    )


def once(answer: Answer | MailAnswer) -> mail.MailScript:
    assert isinstance(answer, MailAnswer)
    return lambda seen: answer if seen == 0 else None


def _host(case: int, number: int) -> str:
    return f"127.1.{case}.{1 + number}"
