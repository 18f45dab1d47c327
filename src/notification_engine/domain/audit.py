"""The audit chain: what a row is made of, how it is hashed, and what is wrong with a sequence of rows.

Invariant: a row's hash covers its place (day, number, the hash before it), its moment and action, and two digests: one
over who did it, one over what it was done to. An erasure takes such a part out and leaves its digest, so the chain
still holds; a keyed seal says that it was an erasure. A day ends with a closing row, and the first row of the next
carries its hash.
"""

import hashlib
import json
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

GENESIS = "0" * 64
DAY_CLOSED = "audit.day_closed"
ENGINE = "notification-engine"  # the actor where nobody asked for it
MAX_VALUE_CHARACTERS = 1000
Row = dict[str, Any]


class Part(StrEnum):
    ACTOR = "actor"
    OBJECT = "object"


PARTS: Mapping[Part, tuple[str, ...]] = {
    Part.ACTOR: ("user_id", "roles", "key_id", "address"),
    Part.OBJECT: ("target", "subject", "before", "after"),
}
_CHAINED = ("_id", "day", "seq", "previous_hash", "timestamp", "action", "request_id", "digests")


@dataclass(frozen=True, slots=True)
class Head:
    """The place that the next row follows."""

    day: str
    seq: int
    hash: str
    timestamp: datetime
    closed: bool = False


def canonical(value: Any) -> bytes:
    """JSON with sorted keys, no spaces, ASCII only; moments as ISO 8601 in UTC with milliseconds."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, default=_moment)
    return text.encode()


def _moment(value: object) -> str:
    if not isinstance(value, datetime):
        raise TypeError(f"{type(value).__name__} has no canonical form")
    return value.isoformat(timespec="milliseconds")


def plain(value: Any) -> Any:
    """A value as it stands in a row: what JSON knows, long texts as their length and SHA-256."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, (set, frozenset)):
        return sorted(str(v) for v in value)
    if isinstance(value, datetime):
        return _moment(value)
    if isinstance(value, str) and len(value) > MAX_VALUE_CHARACTERS:
        return {"characters": len(value), "sha256": hashlib.sha256(value.encode("utf-8", "replace")).hexdigest()}
    return str(value) if isinstance(value, str) else value


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The fields that differ, as they were and as they are."""
    names = [n for n in sorted({*before, *after}) if before.get(n) != after.get(n)]
    return {n: before.get(n) for n in names}, {n: after.get(n) for n in names}


def digest(row: Mapping[str, Any], part: Part, salt: str) -> str:
    """Salted: who sees the digest of an erased part cannot try names against it."""
    return hashlib.sha256(bytes.fromhex(salt) + _present(row, part)).hexdigest()


def sealed_text(row: Mapping[str, Any], part: Part, receipt: str) -> str:
    """What the seal of an erasure covers: the row, the erasure, and what it left of the part."""
    return "\0".join((row["hash"], part, receipt, _present(row, part).decode()))


def _present(row: Mapping[str, Any], part: Part) -> bytes:
    return canonical({name: row[name] for name in PARTS[part] if name in row})


def row_hash(row: Mapping[str, Any]) -> str:
    return hashlib.sha256(canonical({name: row[name] for name in _CHAINED if name in row})).hexdigest()


def link(entry: Row, last: Head | None, now: datetime) -> tuple[list[Row], Head]:
    """The entry as the row behind `last`, where a day ends with the closing row before it; and the new head. Time
    never runs backwards in the chain: where the clock does, the row takes the moment of the one before it."""
    rows: list[Row] = []
    moment = max(now, last.timestamp) if last else now
    if last is not None and not last.closed and f"{moment:%Y-%m-%d}" > last.day:
        closing, last = _linked(closing_entry(f"{entry['_id']}-close"), last, moment, last.day)
        rows.append(closing)
    row, head = _linked(entry, last, moment, f"{moment:%Y-%m-%d}")
    return [*rows, row], head


def closing_entry(row_id: str) -> Row:
    return {"_id": row_id, "action": DAY_CLOSED, "user_id": ENGINE, "target": "the day"}


def close(row_id: str, last: Head, now: datetime) -> tuple[Row, Head]:
    return _linked(closing_entry(row_id), last, max(now, last.timestamp), last.day)


def _linked(entry: Row, last: Head | None, moment: datetime, day: str) -> tuple[Row, Head]:
    salts = {str(part): secrets.token_hex(16) for part in PARTS}
    row = entry | {
        "timestamp": moment,
        "day": day,
        "seq": last.seq + 1 if last and last.day == day else 1,
        "previous_hash": last.hash if last else GENESIS,
        "salts": salts,
        "digests": {str(part): digest(entry, part, salts[part]) for part in PARTS},
    }
    row["hash"] = row_hash(row)
    return row, head_of(row)


def head_of(row: Mapping[str, Any]) -> Head:
    return Head(row["day"], row["seq"], row["hash"], row["timestamp"], row["action"] == DAY_CLOSED)


class Verifier:
    """Takes the rows in order of day and number; `is_seal(seal, text)` knows the engine's key."""

    def __init__(self, last: Head | None, is_seal: Callable[[str, str], bool]) -> None:
        self.last = last
        self.rows = 0
        self._is_seal = is_seal

    def check(self, row: Mapping[str, Any]) -> str | None:
        """What is wrong with this row, the first time that something is."""
        place = f"{row.get('day')} row {row.get('seq')} ({row.get('_id')})"
        try:
            fault = self._fault(row)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            fault = f"altered: it lacks what a row has ({type(error).__name__})"
        if fault:
            return f"{place} is {fault}"
        self.last = head_of(row)
        self.rows += 1
        return None

    def _fault(self, row: Mapping[str, Any]) -> str | None:
        return self._gap(row) or self._content(row) or self._place(row)

    def _gap(self, row: Mapping[str, Any]) -> str | None:
        """By number alone, so that what is missing is told from what is altered."""
        last = self.last
        expected = last.seq + 1 if last and last.day == row["day"] else 1
        if row["seq"] > expected:
            return f"not the next: row {expected} of {row['day']} is missing"
        if last and last.day != row["day"] and not last.closed:
            return f"not the next: the end of {last.day}, behind row {last.seq}, is missing"
        return None

    def _content(self, row: Mapping[str, Any]) -> str | None:
        if row_hash(row) != row["hash"]:
            return "altered or moved: its hash is not that of its content and place"
        for part in PARTS:
            erased = row.get("erased", {}).get(part)
            if erased is not None:
                if not self._is_seal(erased["seal"], sealed_text(row, part, erased["receipt"])):
                    return f"altered: its {part} was taken out, and not by an erasure under this key"
            elif digest(row, part, row["salts"][part]) != row["digests"][part]:
                return f"altered: its {part} is not the one that was written"
        return None

    def _place(self, row: Mapping[str, Any]) -> str | None:
        last = self.last
        if row["previous_hash"] != (last.hash if last else GENESIS):
            return "inserted or moved, or the row before it was taken away: it does not follow that row"
        if row["seq"] != (last.seq + 1 if last and last.day == row["day"] else 1):
            return "inserted or moved: its number is not the next"
        if last and row["timestamp"] < last.timestamp:
            return "moved: it is earlier than the row before it"
        return None
