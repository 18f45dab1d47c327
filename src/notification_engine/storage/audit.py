"""The audit log: one document for each administrative or data-protection action, chained after `domain.audit`.

Invariant: a row is only ever appended, behind the newest row or the newest stored head, whichever is further: rows that
were taken from the end leave a gap that stays. Writers of several replicas meet at the unique index on day and number;
who comes second links its rows anew. Rows of one process travel together, at most `WRITES_A_SECOND` times a second.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pymongo.errors import BulkWriteError, PyMongoError

from notification_engine.domain.audit import Head, Part, Row, Verifier, close, head_of, link, plain, sealed_text
from notification_engine.domain.caller import Caller
from notification_engine.domain.cursor import decode_cursor, encode_cursor
from notification_engine.domain.errors import InvalidRequest, Unavailable
from notification_engine.kit.batching import Batcher, QueueFull
from notification_engine.kit.clock import Clock
from notification_engine.kit.ids import new_id
from notification_engine.kit.logging import get_logger
from notification_engine.kit.origin import Origin, current_origin
from notification_engine.security.pseudonyms import Pseudonyms
from notification_engine.services.ports import AuditFilter, Page
from notification_engine.storage.connection import Database, Document, Session, translated

WRITES_A_SECOND = 20
APPEND_SECONDS = 10.0
MAX_BATCH = 500
EXPORT_BATCH = 500
DUPLICATE_KEY = 11000
_NEWEST = [("day", -1), ("seq", -1)]
_OLDEST = [("day", 1), ("seq", 1)]
_CHAINED = {"seq": {"$exists": True}}

log = get_logger("audit")


@dataclass(frozen=True, slots=True)
class Verified:
    rows: int
    head: Head | None
    fault: str | None


class AuditLog:
    """Implements `services.ports.AuditStore`, and `PersonalData` for who acted and who was acted upon."""

    collection = "notification_audit_logs"

    def __init__(self, database: Database, clock: Clock | None = None, pseudonyms: Pseudonyms | None = None) -> None:
        """Without `pseudonyms` nothing can be erased."""
        self._rows = database.collection(self.collection)
        self._majority = database.majority(self.collection)
        self._heads = database.collection("notification_audit_heads")
        self._clock = clock or Clock()
        self._pseudonyms = pseudonyms
        self._logged: str | None = None
        self._next_write = 0.0
        self._appends: Batcher[Row, None] = Batcher(self._flush, max_batch=MAX_BATCH, max_waiting=10_000)

    async def append(
        self,
        caller: Caller,
        action: str,
        target: str,
        *,
        subject: str | None = None,
        before: Any = None,
        after: Any = None,
        origin: Origin | None = None,
        session: Session | None = None,
    ) -> None:
        """`session`: as part of that transaction. `subject`: the user whom it concerns. Raises Unavailable."""
        entry = _entry(caller, action, target, subject, before, after, origin or current_origin())
        if session is not None:
            await self._insert([entry], session)
            return
        try:
            await self._appends.submit(entry)
        except QueueFull as error:
            raise Unavailable("Too many requests wait for the audit log.") from error

    async def close_day(self) -> None:
        """Ends a day that is over, and logs the newest head where it has changed; for a loop."""
        with translated():
            last = await self._last(None)
            if last is None:
                return
            if not last.closed and f"{self._clock.now():%Y-%m-%d}" > last.day:
                row, last = close(new_id("aud"), last, self._clock.now())
                await self._write([row], last, None)
        self._log_head(last)

    async def _flush(self, entries: list[Row]) -> Sequence[None]:
        """The same rows are tried again, linked anew, until they are there; their ids tell which are."""
        await asyncio.sleep(max(0.0, self._next_write - time.monotonic()))
        deadline = time.monotonic() + APPEND_SECONDS
        waiting = entries
        while True:
            try:
                self._log_head(await self._insert(waiting, None))
                break
            except (PyMongoError, Unavailable) as error:
                if time.monotonic() > deadline:
                    raise Unavailable("The audit log was not written.") from None
                if not (isinstance(error, BulkWriteError) and _is_race(error)):
                    await asyncio.sleep(0.05)
            if not (waiting := await self._not_there(waiting)):
                break
        self._next_write = time.monotonic() + 1 / WRITES_A_SECOND
        return [None] * len(entries)

    async def _not_there(self, entries: list[Row]) -> list[Row]:
        try:
            found = self._majority.find({"_id": {"$in": [e["_id"] for e in entries]}}, {"_id": 1})
            there = {document["_id"] async for document in found}
        except PyMongoError:
            return entries  # asked again after the next try, which meets its own ids
        return [e for e in entries if e["_id"] not in there]

    async def _insert(self, entries: Sequence[Row], session: Session | None) -> Head:
        head = await self._last(session)
        rows: list[Row] = []
        for entry in entries:
            linked, head = link(entry, head, self._clock.now())
            rows += linked
        assert head is not None  # there is an entry
        await self._write(rows, head, session)
        return head

    async def _write(self, rows: list[Row], head: Head, session: Session | None) -> None:
        await self._rows.insert_many(rows, ordered=True, session=session)
        values = {"_id": head.day, "seq": head.seq, "hash": head.hash, "timestamp": head.timestamp}
        newer = {"$lt": [{"$ifNull": ["$seq", 0]}, head.seq]}
        kept = {"$cond": [newer, values | {"closed": head.closed}, "$$ROOT"]}
        days = {row["day"]: row for row in rows if row["day"] != head.day}
        for day, row in days.items():  # the day that these rows close
            await self._heads.replace_one({"_id": day}, _head_document(row), upsert=True, session=session)
        await self._heads.update_one({"_id": head.day}, [{"$replaceWith": kept}], upsert=True, session=session)

    async def _last(self, session: Session | None) -> Head | None:
        """The head is read first: rows that follow it are then only newer."""
        head = await self._heads.find_one({}, sort=[("_id", -1)], session=session)
        row = await self._rows.find_one(_CHAINED, sort=_NEWEST, session=session)
        ends = [_head(head)] if head else []
        ends += [head_of(row)] if row else []
        return max(ends, key=lambda end: (end.day, end.seq), default=None)

    def _log_head(self, head: Head | None) -> None:
        """Kept where the log goes, out of reach of who can write to the database."""
        if head is not None and head.hash != self._logged:
            self._logged = head.hash
            log.info("Head of the audit log", day=head.day, seq=head.seq, hash=head.hash, closed=head.closed)

    async def verify(
        self, since: str | None = None, until: str | None = None, heads: Sequence[tuple[str, int, str]] = ()
    ) -> Verified:
        """Days `since` to `until`, both included; the first fault in the order of the chain. `heads`: day, number and
        hash as they were logged."""
        self._keyed()
        with translated():
            verifier = Verifier(await self._before(since), self._keyed().is_seal)
            stored = [(h["_id"], h["seq"], h["hash"]) async for h in self._heads.find(_days(since, until, "_id"))]
            wanted = {(day, seq): text for day, seq, text in [*stored, *heads] if _within(day, since, until)}
            async for row in self._majority.find(_days(since, until, "day"), sort=_OLDEST):
                if fault := verifier.check(row):
                    return Verified(verifier.rows, verifier.last, fault)
                given = wanted.pop((row["day"], row["seq"]), row["hash"])
                if given != row["hash"]:
                    fault = f"{row['day']} row {row['seq']} ({row['_id']}) is altered: the head kept of it differs"
                    return Verified(verifier.rows, verifier.last, fault)
            outside = await self._majority.find_one({"seq": {"$exists": False}})
        fault = None
        if wanted:
            day, seq = min(wanted)
            fault = f"{day} row {seq} is missing: a head of it was kept; the rows before it may be missing too"
        elif outside is not None:
            fault = f"{outside['_id']} is inserted: it stands outside the chain"
        return Verified(verifier.rows, verifier.last, fault)

    async def _before(self, since: str | None) -> Head | None:
        if since is None:
            return None
        row = await self._majority.find_one({"day": {"$lt": since}}, sort=_NEWEST)
        return head_of(row) if row else None

    async def page(self, query: AuditFilter, cursor: str | None, limit: int) -> Page:
        """Newest first. Raises InvalidRequest, field `cursor`."""
        match = _matching(query)
        if cursor:
            day, seq = _place(cursor)
            match["$or"] = [{"day": {"$lt": day}}, {"day": day, "seq": {"$lt": seq}}]
        with translated():
            rows = [row async for row in self._majority.find(match, sort=_NEWEST, limit=limit + 1)]
        shown = rows[:limit]
        more = len(rows) > limit
        last = shown[-1] if more else None
        return Page(shown, encode_cursor(last["timestamp"], f"{last['day']}.{last['seq']}") if last else None)

    async def rows(self, query: AuditFilter) -> AsyncIterator[Sequence[Document]]:
        """All that match, oldest first, in batches, as they are stored."""
        batch: list[Document] = []
        with translated():
            async for row in self._majority.find(_matching(query), sort=_OLDEST, batch_size=EXPORT_BATCH):
                batch.append(row)
                if len(batch) == EXPORT_BATCH:
                    yield batch
                    batch = []
        if batch:
            yield batch

    async def export(self, user_id: str) -> list[Document]:
        match = {"$or": [{"user_id": user_id}, {"subject": user_id}]}
        with translated():
            return [row async for row in self._majority.find(match, {"salts": 0, "digests": 0}, sort=_OLDEST)]

    async def erase(self, user_id: str) -> int:
        """Takes the user out of the rows: as the one who acted a pseudonym is left, as the one concerned nothing. The
        digests stay, so the chain holds."""
        erased = 0
        with translated():
            async for row in self._rows.find({"$or": [{"user_id": user_id}, {"subject": user_id}]}):
                erased += (await self._rows.update_one({"_id": row["_id"]}, self._without(row, user_id))).modified_count
        return erased

    def _without(self, row: Row, user_id: str) -> Document:
        keyed, receipt = self._keyed(), new_id("ers")
        change: Document = {"$set": {}, "$unset": {}}
        left = dict(row)
        if row["user_id"] == user_id:
            left = {k: v for k, v in left.items() if k not in {"address", "key_id"}} | {"user_id": keyed.of(user_id)}
            change["$set"]["user_id"] = left["user_id"]
            change["$unset"] |= {"address": "", "key_id": "", "salts.actor": ""}
            change["$set"]["erased.actor"] = self._seal(left, Part.ACTOR, receipt)
        if row.get("subject") == user_id:
            left = {k: v for k, v in left.items() if k not in {"target", "subject", "before", "after"}}
            change["$unset"] |= {"target": "", "subject": "", "before": "", "after": "", "salts.object": ""}
            change["$set"]["erased.object"] = self._seal(left, Part.OBJECT, receipt)
        return change

    def _seal(self, left: Row, part: Part, receipt: str) -> Document:
        return {"receipt": receipt, "seal": self._keyed().seal(sealed_text(left, part, receipt))}

    def _keyed(self) -> Pseudonyms:
        if self._pseudonyms is None:
            raise RuntimeError("this audit log was made without a key for pseudonyms")
        return self._pseudonyms


def _entry(
    caller: Caller, action: str, target: str, subject: str | None, before: Any, after: Any, origin: Origin
) -> Row:
    values: Row = {
        "_id": new_id("aud"),
        "action": action,
        "user_id": caller.sub,
        "roles": sorted(str(role) for role in caller.roles),
        "key_id": getattr(caller, "key_id", None),
        "address": origin.address,
        "request_id": origin.request_id,
        "target": target,
        "subject": subject,
        "before": plain(before),
        "after": plain(after),
    }
    return {name: value for name, value in values.items() if value is not None}


def _is_race(error: BulkWriteError) -> bool:
    return all(e["code"] == DUPLICATE_KEY for e in error.details["writeErrors"])


def _head(document: Document) -> Head:
    return Head(document["_id"], document["seq"], document["hash"], document["timestamp"], document["closed"])


def _head_document(row: Row) -> Document:
    head = head_of(row)
    return {"_id": head.day, "seq": head.seq, "hash": head.hash, "timestamp": head.timestamp, "closed": head.closed}


def _days(since: str | None, until: str | None, name: str) -> Document:
    match: Document = {} if name == "_id" else dict(_CHAINED)
    bounds = {op: day for op, day in (("$gte", since), ("$lte", until)) if day is not None}
    return match | ({name: bounds} if bounds else {})


def _within(day: str, since: str | None, until: str | None) -> bool:
    return (since is None or day >= since) and (until is None or day <= until)


def _matching(query: AuditFilter) -> Document:
    match: Document = dict(_CHAINED)
    for name in ("action", "user_id", "target"):
        if (value := getattr(query, name)) is not None:
            match[name] = value
    times: dict[str, datetime] = {}
    if query.since:
        times["$gte"] = query.since
    if query.until:
        times["$lt"] = query.until
    return match | ({"timestamp": times} if times else {})


def _place(cursor: str) -> tuple[str, int]:
    _, text = decode_cursor(cursor)
    day, _, seq = text.partition(".")
    if not seq.isdigit():
        raise InvalidRequest("The cursor is not one that this engine gave.", field="cursor")
    return day, int(seq)
