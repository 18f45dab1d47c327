"""The audit log, by administrators: pages, and the whole of it as CSV or JSON lines. It is read here, never written."""

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Query, Request
from fastapi.responses import Response, StreamingResponse

from notification_engine.api.answers import PageCursor, PageLimit, first_of, page_answer
from notification_engine.api.dependencies import Admin, Services
from notification_engine.api.models.send import Moment, Strict
from notification_engine.api.models.suppressions import csv_line
from notification_engine.api.problems import problems
from notification_engine.services.ports import AuditFilter

router = APIRouter(prefix="/audit-logs", tags=["audit"])
ROLES = "Roles: admin."
Name = Annotated[str | None, Query(max_length=256)]


class AuditRowOut(Strict):
    """`subject`: the user whom it concerns. `erased`: the parts that an erasure took out; a pseudonym is left of who
    acted. `hash` covers the row and `previous_hash`."""

    audit_id: str
    timestamp: datetime
    user_id: str
    roles: list[str]
    key_id: str | None
    action: str
    target: str | None
    subject: str | None
    before: Any
    after: Any
    address: str | None
    request_id: str | None
    erased: list[str]
    day: str
    seq: int
    previous_hash: str
    hash: str


class AuditLogsOut(Strict):
    audit_logs: list[AuditRowOut]
    next_cursor: str | None


class Format(StrEnum):
    CSV = "csv"
    JSONL = "jsonl"


_MEDIA = {Format.CSV: "text/csv", Format.JSONL: "application/x-ndjson"}
COLUMNS = tuple(AuditRowOut.model_fields)


@router.get(
    "",
    summary="Who did what, newest first",
    description=f"{ROLES} Times are those of the database server. Every filter that is given must hold.",
    response_model=AuditLogsOut,
    responses=problems(401, 403, 422, 503),
)
async def listed(
    request: Request,
    caller: Admin,
    given: Services,
    action: Name = None,
    user_id: Name = None,
    target: Name = None,
    since: Moment | None = None,
    until: Moment | None = None,
    cursor: PageCursor = None,
    limit: PageLimit = 50,
) -> Response:
    page = await given.audit.page(AuditFilter(action, user_id, target, since, until), cursor, limit)
    return page_answer(request, "audit_logs", page, audit_view)


@router.get(
    "/export",
    summary="All that match, oldest first",
    description=f"{ROLES} `jsonl` holds the rows as they are stored, so that the chain can be checked. Audited.",
    response_class=Response,
    responses=problems(401, 403, 422, 503)
    | {
        200: {
            "content": {
                "text/csv": {"example": ",".join(COLUMNS) + "\r\n"},
                "application/x-ndjson": {"example": '{"_id":"aud_01kb0c5s2m8v7k3r9x4w6y1z0a"}\n'},
            }
        }
    },
)
async def export(
    caller: Admin,
    given: Services,
    format: Format = Format.JSONL,
    action: Name = None,
    user_id: Name = None,
    target: Name = None,
    since: Moment | None = None,
    until: Moment | None = None,
) -> Response:
    await given.audit.append(caller, "audit.export", format)
    batches = given.audit.rows(AuditFilter(action, user_id, target, since, until))
    first = await first_of(batches, ())
    headers = {"Content-Disposition": f'attachment; filename="audit.{format}"', "Cache-Control": "no-store"}
    return StreamingResponse(_written(format, first, batches), media_type=_MEDIA[format], headers=headers)


async def _written(
    wanted: Format, first: Sequence[Mapping[str, Any]], rest: AsyncIterator[Sequence[Mapping[str, Any]]]
) -> AsyncIterator[str]:
    line = _csv_row if wanted is Format.CSV else json_line
    yield (csv_line(COLUMNS) if wanted is Format.CSV else "") + "".join(line(row) for row in first)
    async for batch in rest:
        yield "".join(line(row) for row in batch)


def json_line(row: Mapping[str, Any]) -> str:
    return orjson.dumps(row, option=orjson.OPT_UTC_Z).decode() + "\n"


def _csv_row(row: Mapping[str, Any]) -> str:
    return csv_line([_cell(value) for value in audit_view(row).values()])


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else orjson.dumps(value, option=orjson.OPT_UTC_Z).decode().strip('"')


def audit_view(row: Mapping[str, Any]) -> dict[str, Any]:
    named = {"audit_id": row["_id"], "roles": row.get("roles", []), "erased": sorted(row.get("erased", {}))}
    return {name: named[name] if name in named else row.get(name) for name in COLUMNS}
