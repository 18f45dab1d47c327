"""Faults of e-mail providers that speak HTTP: SendGrid first, then SES, then SMTP, as `EMAIL_PROVIDER=auto` asks them.

What is about the provider goes to the next within the same round; what may have been taken is asked of nobody else.
"""

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from tests.chaos.cluster import Cluster
from tests.chaos.faults import fault
from tests.chaos.faults.providers import send, summary
from tests.chaos.ledger import Row, settled_deliveries
from tests.chaos.mail import MailAnswer, Step
from tests.chaos.receivers import RESET_AFTER, RESET_BEFORE, Answer, Cut, first, late
from tests.chaos.relays import Provider, aws_error
from tests.chaos.wait import until
from tests.chaos.world import World, world
from tests.servers.sendgrid import KEY
from tests.servers.tcp import FullHouse

SENDER = "engine@example.org"
HOUR = 3600
COMMON = {"EMAIL_PROVIDER": "auto", "EMAIL_TIMEOUT_SECONDS": 2}
SENDGRID = {"SENDGRID_API_KEY": KEY, "SENDGRID_FROM_EMAIL": SENDER}
SES = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "SES_FROM_EMAIL": SENDER,
    "SES_MAX_PER_SECOND": 0,
}
BEHIND = {"sendgrid": "ses", "ses": "smtp"}
Told = tuple[str, str, str | None]  # status, provider and reason of a row of the history


@dataclass(frozen=True)
class Case:
    """What the first provider does to the first call, the rows that the engine has to write, and the end."""

    name: str
    answer: Answer
    rows: tuple[Told, ...]
    end: str


def cases(provider: str, answers: dict[str, tuple[Answer, str, str | None]]) -> list[Case]:
    """Each answer is `next`, `message`, `unknown` or `accepted`, as docs/email.md has it, with its reason."""
    made = []
    for name, (answer, kind, reason) in answers.items():
        match kind:
            case "next":
                rows: tuple[Told, ...] = (
                    ("passed_over", provider, reason),
                    ("accepted", BEHIND[provider], None),
                )
                end = "accepted"
            case "message":
                rows, end = (("failed", provider, reason),), "failed"
            case _:
                rows, end = ((kind, provider, reason),), kind
        made.append(Case(name, answer, rows, end))
    return made


def html(status: int = 200) -> Answer:
    return Answer(status, (("content-type", "text/html"),), b"<html><h1>Welcome</h1></html>", heard=False)


def sendgrid_cases() -> list[Case]:
    answers: dict[str, tuple[Answer, str, str | None]] = {
        "fine": (Answer(202), "accepted", None),
        "429": (Answer(429), "next", "rate_limited"),
        "429-junk": (Answer(429, (("x-ratelimit-reset", "soon"),)), "next", "rate_limited"),
        "500": (Answer(500), "next", "server_error"),
        "503-html": (html(503), "next", "server_error"),
        "401": (Answer(401), "next", "credentials"),
        "302": (Answer(302, (("location", "http://127.0.0.1:1/"),)), "next", "provider_refused"),
        "400": (Answer(400), "message", "refused"),
        "413": (Answer(413), "message", "too_large"),
        "reset-before": (RESET_BEFORE, "unknown", "connection_lost"),
        "reset-after": (RESET_AFTER, "unknown", "connection_lost"),
        "silence": (late(600), "unknown", "timeout"),
        "html": (html(), "unknown", "unreadable_answer"),
        "truncated": (Answer(202, cut=Cut.STATUS_LINE), "unknown", "connection_lost"),
        "truncated-body": (Answer(202, body=b'{"a": tr', cut=Cut.MID_ANSWER), "accepted", None),
    }
    return cases("sendgrid", answers)


def ses_cases() -> list[Case]:
    unverified = aws_error(400, "MessageRejected", "Email address is not verified.")
    told = (("content-type", "application/json"),)
    cut = Answer(200, told, b'{"MessageId": "ses', cut=Cut.MID_ANSWER, heard=False)
    answers: dict[str, tuple[Answer, str, str | None]] = {
        "fine": (Answer(200, told, b'{"MessageId": "ses-0"}'), "accepted", None),
        "429": (aws_error(429, "TooManyRequestsException"), "next", "rate_limited"),
        "500": (aws_error(500, "InternalFailure"), "next", "server_error"),
        "503-html": (html(503), "next", "server_error"),
        "403": (aws_error(403, "SignatureDoesNotMatch"), "next", "credentials"),
        "paused": (aws_error(400, "SendingPausedException"), "next", "provider_refused"),
        "unverified": (unverified, "next", "provider_refused"),
        "rejected": (aws_error(400, "MessageRejected"), "message", "refused"),
        "413": (aws_error(413, "RequestEntityTooLarge"), "message", "too_large"),
        "reset-before": (RESET_BEFORE, "unknown", "connection_lost"),
        "reset-after": (RESET_AFTER, "unknown", "connection_lost"),
        "silence": (late(600), "unknown", "timeout"),
        "html": (html(), "unknown", "unreadable_answer"),
        "no-id": (Answer(200, told, b"{}", heard=False), "unknown", "unreadable_answer"),
        "status-line": (Answer(200, cut=Cut.STATUS_LINE), "unknown", "connection_lost"),
        "truncated": (cut, "unknown", "connection_lost"),
    }
    return cases("ses", answers)


@fault("SendGrid refuses, cuts and lies", full=500, short=8)
async def sendgrid_lies(count: int, seed: int, shared: Cluster | None, broken: str | None) -> Row:
    """`count` of each case; the breaker is kept shut, so that each is asked."""
    async with world(shared, seed=seed, broken=broken or "breakers-never-open", **first_two()) as w:
        return await judged(w, "SendGrid refuses, cuts and lies", w.sendgrid, sendgrid_cases(), count)


@fault("SES refuses, cuts and lies", full=500, short=8)
async def ses_lies(count: int, seed: int, shared: Cluster | None, broken: str | None) -> Row:
    """`count` of each case; SMTP is behind it."""
    async with world(shared, seed=seed, broken=broken or "breakers-never-open", webhooks=0, **COMMON, **SES) as w:
        return await judged(w, "SES refuses, cuts and lies", w.ses, ses_cases(), count)


@fault("e-mail APIs accept, then drop", full=1_000, short=40)
async def accept_then_drop(count: int, seed: int, shared: Cluster | None, broken: str | None) -> Row:
    """SendGrid takes each and resets: `unknown`; high priority resends after a grace of minutes, the rest is held; the
    next provider is not asked, nor is anything sent again now."""
    name = "e-mail APIs accept, then drop"
    async with world(shared, seed=seed, broken=broken or "breakers-never-open", **first_two()) as w:
        w.sendgrid.script("drop", RESET_AFTER)
        await send(w, [email(w, i, "drop", priority=("medium", "high")[i % 2]) for i in range(count)])
        row = await w.verdict(name, runs=count)
        async for document in w.db["notifications"].find({}):
            (delivery,) = document["deliveries"]
            resends = document["priority"] == "high"
            grace = (document["due_at"] - document["created_at"]).total_seconds() if "due_at" in document else 0
            w.ledger.check(document["status"] == "unknown", f"ended as {document['status']}")
            w.ledger.check(delivery["held"] is not resends, f"{document['priority']} held: {delivery['held']}")
            w.ledger.check(grace > 240 if resends else grace == 0, f"{document['priority']} is due after {grace:.0f} s")
        w.ledger.check(w.sendgrid.calls == count, f"{w.sendgrid.calls} calls of SendGrid for {count}")
        w.ledger.check(w.ses.calls == 0, f"{w.ses.calls} calls of SES")
        return concluded(w, row)


@fault("e-mail APIs cannot be reached", full=1_000, short=16)
async def not_reached(count: int, seed: int, shared: Cluster | None, broken: str | None) -> Row:
    """A connection to SendGrid and to SES is never made: the time is over before anything is written, so SMTP takes
    all. After the first twenty the breakers open, and nobody waits any more."""
    house = FullHouse()
    doors = {"SENDGRID_BASE_URL": house.address, "SES_ENDPOINT_URL": house.address, "SMTP_TIMEOUT_SECONDS": 15}
    async with world(shared, seed=seed, broken=broken, **first_two() | doors) as w:
        await w.load.run(count, channels=["email"])
        row = await w.verdict("e-mail APIs cannot be reached", runs=count, within_seconds=180)
        house.close()
        for rows in (await told(w)).values():
            w.ledger.check(rows[-1] == ("accepted", "smtp", None), f"last: {rows[-1]}")
            reasons = {reason for _, _, reason in rows[:-1]}
            w.ledger.check(reasons <= {"timeout", "breaker_open"}, f"passed over for {reasons}")
        return concluded(w, row)


@fault("SendGrid's quota is used up", full=2_000, short=60)
async def quota(count: int, seed: int, shared: Cluster | None, broken: str | None) -> Row:
    """It answers 429 and asks for an hour: it is left alone for so long, and SES takes all."""
    async with world(shared, seed=seed, broken=broken, **first_two()) as w:
        reset_at = Answer(429, (("x-ratelimit-reset", str(int(time.time()) + HOUR)),))
        w.sendgrid.script("limited", reset_at)
        await send(w, [email(w, i, "limited") for i in range(count)], concurrency=4)
        row = await w.verdict("SendGrid's quota is used up", runs=count)
        w.ledger.check(len(w.ses.taken) == count, f"SES took {len(w.ses.taken)} of {count}")
        w.ledger.check(w.sendgrid.calls <= 8, f"{w.sendgrid.calls} calls of who asked for a rest")
        return concluded(w, row)


@fault("SendGrid is down in mid-batch", full=10_000, short=200)
async def down_in_mid_batch(count: int, seed: int, shared: Cluster | None, broken: str | None) -> Row:
    """From a quarter to three quarters of the batch. SES takes what SendGrid cannot; only what was on the wire at that
    moment may be unknown; once it is back SendGrid takes them again."""
    async with world(shared, seed=seed, broken=broken or "breakers-rest-briefly", **first_two()) as w:
        batch = asyncio.create_task(w.load.run(count, channels=["email"]))
        await w.ledger.reached(count // 4, 300)
        began, settled = time.monotonic(), await settled_deliveries(w.db)
        await w.sendgrid.stop()
        w.ledger.disturbed(began, settled)
        await w.ledger.reached(3 * count // 4, 600)
        await w.sendgrid.start()
        await batch
        before = len(w.sendgrid.taken)
        again = await until(lambda: one_more(w, before), 60, "an e-mail by SendGrid again")
        row = await w.verdict("SendGrid is down in mid-batch", runs=count, within_seconds=180)
        ends = Counter([d["status"] async for d in w.db["notifications"].find({}, {"status": 1})])
        w.ledger.check(set(ends) <= {"accepted", "unknown"}, f"ended as {dict(ends)}")
        w.ledger.check(ends["unknown"] <= 250, f"{ends['unknown']} unknown: more than were on the wire")
        w.ledger.check(len(w.ses.taken) >= count // 8, f"SES took {len(w.ses.taken)} of {count}")
        note = f"SendGrid {len(w.sendgrid.taken)}, SES {len(w.ses.taken)}, unknown {ends['unknown']}"
        return concluded(w, replace(row, note=f"{note}; back after {again:.1f} s"))


async def one_more(w: World, before: int) -> bool:
    """Sends one, and says whether SendGrid has taken any since."""
    await w.load.run(1, channels=["email"])
    return len(w.sendgrid.taken) > before


@fault("every e-mail provider is down", full=2_000, short=80)
async def all_down(count: int, seed: int, shared: Cluster | None, broken: str | None) -> Row:
    """While the whole batch is accepted. What nobody could be asked for is postponed and sent once they are back."""
    settings = first_two() | {"NOTIFICATION_RETRY_MAX_ATTEMPTS": 20}
    async with world(shared, seed=seed, broken=broken or "breakers-rest-briefly", **settings) as w:
        w.receivers.mail.connect_script = lambda seen: MailAnswer(Step.CONNECT, "421 4.3.2 not now")
        await w.sendgrid.stop()
        await w.ses.stop()
        await w.load.run(count, channels=["email"])
        postponed = {"deliveries.reason": "breaker_open"}
        await until(lambda: w.db["notifications"].count_documents(postponed), 60, "a delivery that waits for a breaker")
        await w.sendgrid.start()
        await w.ses.start()
        row = await w.verdict("every e-mail provider is down", runs=count, within_seconds=180)
        ends = Counter([d["status"] async for d in w.db["notifications"].find({}, {"status": 1})])
        w.ledger.check(ends == {"accepted": count}, f"ended as {dict(ends)}")
        return concluded(w, row)


def first_two() -> dict[str, Any]:
    return {"webhooks": 0, **COMMON, **SENDGRID, **SES}


def email(w: World, number: int, name: str, **fields: Any) -> dict[str, Any]:
    recipient = {"user_id": f"u{number}", "email": f"{name}+{number}@example.org"}
    return w.load.message(number, channels=["email"], recipients=[recipient], **fields)


async def judged(w: World, name: str, provider: Provider, table: Sequence[Case], count: int) -> Row:
    """`count` of each case, one after the other; each is compared with what its case says."""
    for number, case in enumerate(table):
        provider.script(f"case{number}", script_of(case))
    bodies = [
        email(w, number * 10**6 + i, f"case{number}", notification_type=f"case{number}.mail")
        for i in range(count)
        for number in range(len(table))
    ]
    await send(w, bodies)
    assert len(w.ledger.accepted) == len(bodies), w.ledger.statuses()
    await until(lambda: nothing_open(w, len(bodies)), 120 + len(bodies) / 20, "an end of each")
    rows = await told(w)
    async for document in w.db["notifications"].find({}):
        case = table[int(document["notification_type"].removeprefix("case").partition(".")[0])]
        (delivery,) = document["deliveries"]
        w.ledger.check(document["status"] == case.end, f"{case.name}: ended as {document['status']}")
        w.ledger.check(rows[delivery["id"]] == case.rows, f"{case.name}: {rows[delivery['id']]}")
        if case.end in {"failed", "unknown"}:
            w.ledger.meant.add(delivery["id"])
    row = await w.verdict(name, runs=len(bodies), within_seconds=60)
    w.ledger.check(provider.calls == len(bodies), f"{provider.calls} calls for {len(bodies)} e-mails")
    w.ledger.check(w.engine.alive, "the engine has ended")
    return concluded(w, row)


def script_of(case: Case) -> Any:
    scripted = first(case.answer)
    return lambda seen: scripted(seen) if seen == 0 else None


async def nothing_open(w: World, count: int) -> bool:
    return await w.db["notifications"].count_documents({"status": {"$in": ["accepted", "failed", "unknown"]}}) == count


async def told(w: World) -> dict[str, tuple[Told, ...]]:
    """By delivery, what the history tells, in its order."""
    found: dict[str, list[Told]] = defaultdict(list)
    async for row in w.db["notification_history"].find({}, sort=[("timestamp", 1), ("_id", -1)]):
        found[row["delivery_id"]].append((row["delivery_status"], row["provider"], row.get("reason")))
    return {delivery_id: tuple(rows) for delivery_id, rows in found.items()}


def concluded(w: World, row: Row) -> Row:
    return replace(row, problems=tuple(dict.fromkeys((*row.problems, *summary(w.ledger.problems)))))
