"""The ledger: every answer of the API, every disturbance, and the verdict against what MongoDB and the receivers hold.

Invariant: nothing is excused afterwards. A repeat is explained only by a disturbance that was written down when it was
made, at most once by each, and an e-mail never: what was on the wire is then `unknown`, by the engine's own promise.
"""

import asyncio
import itertools
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from pymongo.asynchronous.database import AsyncDatabase

Db = AsyncDatabase[dict[str, Any]]
OPEN = ["scheduled", "pending", "processing"]
REPEATABLE = {"webhook": True, "email": False}  # channels that leave the engine; a later provider joins by a line
SENT = {"delivered", "accepted"}


class Receipt(Protocol):
    """What a receiver wrote down. `at`: monotonic clock, in seconds; `answered`: it told the sender of success."""

    @property
    def delivery_id(self) -> str: ...
    @property
    def channel(self) -> str: ...
    @property
    def at(self) -> float: ...
    @property
    def answered(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer of the API; status 0: the connection failed. `at` of the monotonic clock, in seconds."""

    key: str
    at: float
    seconds: float
    status: int
    ids: tuple[str, ...] = ()
    retry_after: str | None = None


@dataclass(frozen=True, slots=True)
class Disturbance:
    """Between these moments a process or the database failed; what had settled before (`settled`) is not excused."""

    began: float
    ended: float
    settled: frozenset[str]


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table. `problems` are what else broke a promise; `note` is for the reader."""

    fault: str
    runs: int
    accepted: int
    lost: int = 0
    duplicates: int = 0
    explained: int = 0
    unexplained: int = 0
    longest_gap_seconds: float | None = None
    problems: tuple[str, ...] = ()
    note: str = ""

    @property
    def passed(self) -> bool:
        return not (self.lost or self.unexplained or self.problems)


@dataclass
class Ledger:
    answers: list[Answer] = field(default_factory=list)
    disturbances: list[Disturbance] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    meant: set[str] = field(default_factory=set)  # deliveries whose bad end the fault itself asks for and checks
    accepted: list[str] = field(default_factory=list)
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def write(self, answer: Answer) -> None:
        async with self._changed:
            self.answers.append(answer)
            self.accepted += answer.ids
            self._changed.notify_all()

    def statuses(self) -> Counter[int]:
        return Counter(answer.status for answer in self.answers)

    async def reached(self, accepted: int, seconds: float = 20) -> None:
        """Waits until so many notifications were accepted; `seconds` is for one more of them."""
        while (so_far := len(self.accepted)) < accepted:
            await self._until(lambda n=so_far: len(self.accepted) > n, seconds, f"{accepted} accepted")  # type: ignore[misc]

    async def answered(self, answers: int, seconds: float = 120) -> None:
        await self._until(lambda: len(self.answers) >= answers, seconds, f"{answers} answers")

    async def _until(self, condition: Callable[[], bool], seconds: float, what: str) -> None:
        try:
            async with asyncio.timeout(seconds), self._changed:
                await self._changed.wait_for(condition)
        except TimeoutError:
            raise AssertionError(f"not within {seconds:.0f} s: {what}; so far {statuses_text(self)}") from None

    def problem(self, text: str) -> None:
        self.problems.append(text)

    def check(self, holds: bool, text: str) -> None:
        if not holds:
            self.problem(text)

    def disturbed(self, began: float, settled: Iterable[str]) -> None:
        """A disturbance that ends now."""
        self.disturbances.append(Disturbance(began, time.monotonic(), frozenset(settled)))

    def longest_gap(self) -> float | None:
        """Seconds between two 202s that follow each other."""
        times = sorted(a.at + a.seconds for a in self.answers if a.status == 202)
        return max((b - a for a, b in itertools.pairwise(times)), default=None)


async def settled_deliveries(db: Db) -> set[str]:
    """Deliveries whose outcome is in the history, as a majority has it."""
    return set(await db["notification_history"].distinct("delivery_id"))


async def until_terminal(db: Db, seconds: float, match: dict[str, Any] | None = None) -> list[str]:
    """Waits until nothing is open; answers what still is when the time is over."""
    still = {"status": {"$in": OPEN}} | (match or {})
    until = time.monotonic() + seconds
    while True:
        left = [d["_id"] async for d in db["notifications"].find(still, {"_id": 1}, limit=20)]
        if not left or time.monotonic() > until:
            return left
        await asyncio.sleep(0.1)


async def verdict(
    fault: str,
    ledger: Ledger,
    receipts: Sequence[Receipt],
    db: Db,
    *,
    runs: int = 1,
    within_seconds: float = 60,
    note: str = "",
    gap: bool = False,
) -> Row:
    """Waits for the end of everything, then compares: 202s, documents, receipts. `within_seconds` is the bound."""
    problems = list(ledger.problems)
    if left := await until_terminal(db, within_seconds):
        problems.append(f"open after {within_seconds:.0f} s: {', '.join(left[:3])}")
    documents = {d["_id"]: d async for d in db["notifications"].find({})}
    accepted = ledger.accepted
    lost = {i for i in accepted if i not in documents or documents[i]["status"] in OPEN}
    lost |= unsent(documents, receipts)
    problems += strange(documents) + doubled(documents) + uncaused(documents, ledger, receipts)
    duplicates, unexplained = repeats(ledger, receipts)
    problems += [f"received again without a cause: {text}" for text in unexplained[:3]]
    return Row(
        fault=fault,
        runs=runs,
        accepted=len(accepted),
        lost=len(lost),
        duplicates=duplicates,
        explained=duplicates - len(unexplained),
        unexplained=len(unexplained),
        longest_gap_seconds=ledger.longest_gap() if gap else None,
        problems=tuple(problems),
        note=note or statuses_text(ledger),
    )


def unsent(documents: dict[str, Any], receipts: Sequence[Receipt]) -> set[str]:
    """Notifications with a delivery that says it was sent, but that no receiver ever saw."""
    seen = {receipt.delivery_id for receipt in receipts}
    return {
        document["_id"]
        for document in documents.values()
        for delivery in document["deliveries"]
        if delivery["channel"] in REPEATABLE and delivery["status"] in SENT and delivery["id"] not in seen
    }


def strange(documents: dict[str, Any]) -> list[str]:
    """What conservation forbids: finished with a due time or a lease."""
    held = [d["_id"] for d in documents.values() if d["status"] not in OPEN and d.get("lease", {}).get("owner")]
    problems = [f"{len(held)} finished and still leased, e.g. {held[0]}"] if held else []
    overdue = [d["_id"] for d in documents.values() if d["status"] not in [*OPEN, "unknown"] and "due_at" in d]
    return problems + ([f"{len(overdue)} finished and still due, e.g. {overdue[0]}"] if overdue else [])


def uncaused(documents: dict[str, Any], ledger: Ledger, receipts: Sequence[Receipt]) -> list[str]:
    """Unknown or failed, though every receiver was well and no disturbance touched it."""
    refused = {receipt.delivery_id for receipt in receipts if not receipt.answered} | ledger.meant
    bad = [
        delivery["id"]
        for document in documents.values()
        for delivery in document["deliveries"]
        if delivery["status"] in {"unknown", "failed"}
        and delivery["id"] not in refused
        and all(delivery["id"] in disturbance.settled for disturbance in ledger.disturbances)
    ]
    return [f"{len(bad)} unknown or failed without a cause, e.g. {bad[0]}"] if bad else []


def doubled(documents: dict[str, Any]) -> list[str]:
    """Every request of the load has a title of its own."""
    titles = Counter(d["title"] for d in documents.values())
    twice = [title for title, count in titles.items() if count > 1]
    return [f"{len(twice)} requests made two notifications, e.g. {twice[0]}"] if twice else []


def repeats(ledger: Ledger, receipts: Sequence[Receipt]) -> tuple[int, list[str]]:
    """How often a delivery was received again, and which of these nothing explains."""
    by_delivery: dict[str, list[Receipt]] = defaultdict(list)
    for receipt in sorted(receipts, key=lambda r: r.at):
        by_delivery[receipt.delivery_id].append(receipt)
    duplicates, unexplained = 0, []
    for delivery_id, own in by_delivery.items():
        left = [d for d in ledger.disturbances if delivery_id not in d.settled]
        for first, again in itertools.pairwise(own):
            duplicates += 1
            if not _explained(first, again, left):
                after = [f"{first.at - d.began:.1f} and {again.at - d.began:.1f} s after a disturbance" for d in left]
                unexplained.append(f"{first.channel} {delivery_id}, {', '.join(after) or 'undisturbed'}")
    return duplicates, unexplained


def _explained(first: Receipt, again: Receipt, left: list[Disturbance]) -> bool:
    """By a refusal of the receiver, or by a disturbance, which is thereby used up for this delivery."""
    if not REPEATABLE[first.channel]:
        return False
    if not first.answered:
        return True
    for disturbance in left:
        if first.at <= disturbance.ended and again.at >= disturbance.began:
            left.remove(disturbance)
            return True
    return False


def statuses_text(ledger: Ledger) -> str:
    named = {0: "no answer"}
    return ", ".join(f"{named.get(s, s)}: {n}" for s, n in sorted(ledger.statuses().items()))
