"""The suppression list over HTTP: its JSON, and its CSV both ways."""

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any

from pydantic import AfterValidator, Field, ValidationError

from notification_engine.api.models.send import Line, Strict, Text, address
from notification_engine.domain.delivery import Channel
from notification_engine.domain.errors import InvalidRequest
from notification_engine.domain.suppression import Suppression, SuppressionReason, normalised

MAX_LINES = 10_000
SHOWN_ERRORS = 100
COLUMNS = ("channel", "address", "reason", "source", "note", "created_at", "created_by")
_READ = frozenset({"channel", "address", "reason", "note"})
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
EXAMPLE = {"address": "ada@example.org", "reason": "manual", "note": "asked by phone"}


def _email(value: Channel) -> Channel:
    if value is not Channel.EMAIL:
        raise ValueError("only e-mail addresses can be suppressed")
    return value


def _printable(value: str) -> str:
    if not value.isprintable():
        raise ValueError("must not hold control characters")
    return value


class SuppressionIn(Strict):
    address: Annotated[Line, Field(max_length=320), AfterValidator(address)]
    reason: SuppressionReason = SuppressionReason.MANUAL
    channel: Annotated[Channel, AfterValidator(_email)] = Channel.EMAIL
    note: Annotated[Text, Field(max_length=500), AfterValidator(_printable)] = ""

    def to_suppression(self, source: str, created_by: str) -> Suppression:
        return Suppression(normalised(self.address), self.reason, source, created_by, self.channel, self.note)


class SuppressionOut(Strict):
    suppression_id: str
    channel: Channel
    address: str
    reason: SuppressionReason
    source: str
    note: str
    created_at: datetime | None
    created_by: str


class SuppressionsOut(Strict):
    suppressions: list[SuppressionOut]
    next_cursor: str | None


class ImportedOut(Strict):
    """`existing`: on the list already, and left as they are."""

    added: int
    existing: int


def suppression_view(suppression: Suppression) -> dict[str, Any]:
    shown = {name: getattr(suppression, name) for name in COLUMNS}
    return {"suppression_id": suppression.id} | shown


@dataclass(slots=True)
class Parsed:
    """`errors` by line number, one a line."""

    rows: list[SuppressionIn] = field(default_factory=list)
    errors: dict[int, str] = field(default_factory=dict)


def parse_csv(body: bytes) -> Parsed:
    """One address a line under a header that names at least `address`. Columns of an export that are not read are
    passed over. Raises InvalidRequest for what is no such file at all."""
    try:
        reader = csv.reader(io.StringIO(body.decode("utf-8-sig"), newline=""), strict=True)
        names = [name.strip().lower() for name in next(reader, [])]
    except (UnicodeDecodeError, csv.Error):
        raise InvalidRequest("The file is not CSV in UTF-8.", field="line 1") from None
    if "address" not in names or not set(names) <= set(COLUMNS) or len(set(names)) != len(names):
        raise InvalidRequest(f"The header must name `address`, and may name {', '.join(COLUMNS)}.", field="line 1")
    parsed = Parsed()
    for number, cells in _lines(reader, parsed):
        if len(parsed.rows) + len(parsed.errors) >= MAX_LINES:
            raise InvalidRequest(f"The file holds more than {MAX_LINES} lines.", field=f"line {number}")
        _take(parsed, number, names, cells)
    return parsed


def _lines(reader: Any, parsed: Parsed) -> Iterator[tuple[int, list[str]]]:
    """Each row with the number of its first line; a fault of the quoting ends the file: what follows is torn."""
    while True:
        number = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error:
            parsed.errors[number] = "is not CSV; nothing after it was read"
            return
        if cells:
            yield number, cells


def _take(parsed: Parsed, number: int, names: Sequence[str], cells: Sequence[str]) -> None:
    if len(cells) != len(names):
        parsed.errors[number] = f"must have {len(names)} columns"
        return
    given = {n: _plain(c) for n, c in zip(names, cells, strict=True) if n in _READ and c.strip()}
    try:
        parsed.rows.append(SuppressionIn.model_validate(given))
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        text = str(first["msg"]).removeprefix("Value error, ")
        parsed.errors[number] = f"{'.'.join(str(p) for p in first['loc'])}: {text}"


def csv_line(cells: Sequence[Any]) -> str:
    written = io.StringIO()
    csv.writer(written).writerow([_neutral(str(cell)) for cell in cells])
    return written.getvalue()


def export_row(s: Suppression) -> str:
    at = s.created_at.isoformat() if s.created_at else ""
    return csv_line([s.channel, s.address, s.reason, s.source, s.note, at, s.created_by])


def _neutral(cell: str) -> str:
    """A cell that a spreadsheet would run as a formula is made a text by an apostrophe; one that already begins so gets
    another, so that the import can tell them apart."""
    marked = cell.startswith("'") and cell.lstrip("'").startswith(_FORMULA)
    return f"'{cell}" if marked or cell.startswith(_FORMULA) else cell


def _plain(cell: str) -> str:
    """What `_neutral` was given."""
    return cell[1:] if cell.startswith("'") and cell.lstrip("'").startswith(_FORMULA) else cell
