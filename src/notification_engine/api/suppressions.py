"""The suppression list, by operators: addresses that get no e-mail, and why."""

from collections.abc import AsyncIterator, Sequence
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response, StreamingResponse
from starlette.exceptions import HTTPException

from notification_engine.api.answers import PageCursor, PageLimit, answer, first_of, page_answer
from notification_engine.api.dependencies import Operator, Services
from notification_engine.api.models.suppressions import (
    COLUMNS,
    EXAMPLE,
    SHOWN_ERRORS,
    ImportedOut,
    Parsed,
    SuppressionIn,
    SuppressionOut,
    SuppressionsOut,
    csv_line,
    export_row,
    parse_csv,
    suppression_view,
)
from notification_engine.api.problems import problem, problems, respond
from notification_engine.domain.delivery import Channel
from notification_engine.domain.suppression import Suppression, SuppressionReason
from notification_engine.services.ports import SuppressionFilter

router = APIRouter(prefix="/suppressions", tags=["suppressions"])
ROLES = "Roles: operator, admin."
MAX_IMPORT_BYTES = 8 * 1024 * 1024
CSV = "text/csv"
_CSV_REQUEST = {
    "required": True,
    "content": {CSV: {"schema": {"type": "string"}, "example": "address,reason,note\nada@example.org,manual,\n"}},
}
_CSV_ANSWER = {"content": {CSV: {"example": "channel,address,reason,source,note,created_at,created_by\r\n"}}}


@router.get(
    "",
    summary="Suppressed addresses, newest first",
    description=ROLES,
    response_model=SuppressionsOut,
    responses=problems(401, 403, 422, 503),
)
async def listed(
    request: Request,
    caller: Operator,
    given: Services,
    channel: Channel | None = None,
    reason: SuppressionReason | None = None,
    address: Annotated[str | None, Query(max_length=320)] = None,
    cursor: PageCursor = None,
    limit: PageLimit = 50,
) -> Response:
    page = await given.suppressions.page(SuppressionFilter(channel, reason, address), cursor, limit)
    return page_answer(request, "suppressions", page, suppression_view)


@router.post(
    "",
    status_code=201,
    summary="Suppress an address",
    description=f"{ROLES} 409 when it is on the list. Audited.",
    response_model=SuppressionOut,
    responses=problems(401, 403, 409, 422, 503),
    openapi_extra={"requestBody": {"content": {"application/json": {"example": EXAMPLE}}}},
)
async def create(body: SuppressionIn, caller: Operator, given: Services) -> Response:
    added = await given.suppressions.add(caller, body.to_suppression("operator", caller.sub))
    return answer(suppression_view(added), 201)


@router.post(
    "/import",
    summary="Suppress the addresses of a CSV file",
    description=f"{ROLES} Every good line is taken; 422 lists the bad ones by number. Harmless twice. Audited.",
    response_model=ImportedOut,
    responses=problems(401, 403, 413, 422, 503) | {415: {"description": "Not text/csv."}},
    openapi_extra={"requestBody": _CSV_REQUEST},
)
async def take(request: Request, caller: Operator, given: Services) -> Response:
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != CSV:
        raise HTTPException(415, "Send the file as text/csv.")
    parsed = parse_csv(await request.body())
    unique = {s.id: s for s in (row.to_suppression("import", caller.sub) for row in parsed.rows)}
    added = await given.suppressions.add_many(caller, list(unique.values())) if unique else 0
    existing = len(parsed.rows) - added
    if parsed.errors:
        return respond(_bad_lines(parsed, added, existing))
    return answer({"added": added, "existing": existing})


def _bad_lines(parsed: Parsed, added: int, existing: int) -> dict[str, object]:
    bad = [{"field": f"line {number}", "detail": text} for number, text in sorted(parsed.errors.items())]
    text = f"Wrong lines: {len(bad)}. The others, {len(parsed.rows)}, were taken."
    return problem(
        422,
        "invalid-request",
        "Invalid request",
        text,
        field=bad[0]["field"],
        errors=bad[:SHOWN_ERRORS],
        added=added,
        existing=existing,
    )


@router.get(
    "/export",
    summary="The whole list as CSV",
    description=f"{ROLES} Can be imported again. Audited.",
    response_class=Response,
    responses=problems(401, 403, 503) | {200: _CSV_ANSWER},
)
async def export(caller: Operator, given: Services) -> Response:
    batches = given.suppressions.export(caller)
    first = await first_of(batches, ())
    headers = {"Content-Disposition": 'attachment; filename="suppressions.csv"', "Cache-Control": "no-store"}
    return StreamingResponse(_written(first, batches), media_type=f"{CSV}; charset=utf-8", headers=headers)


async def _written(first: Sequence[Suppression], rest: AsyncIterator[Sequence[Suppression]]) -> AsyncIterator[str]:
    yield csv_line(COLUMNS) + "".join(export_row(s) for s in first)
    async for batch in rest:
        yield "".join(export_row(s) for s in batch)


@router.get(
    "/{suppression_id}",
    summary="One suppressed address",
    description=ROLES,
    response_model=SuppressionOut,
    responses=problems(401, 403, 404, 503),
)
async def one(suppression_id: str, caller: Operator, given: Services) -> Response:
    return answer(suppression_view(await given.suppressions.get(suppression_id)))


@router.delete(
    "/{suppression_id}",
    status_code=204,
    summary="Take an address off the list",
    description=f"{ROLES} It gets e-mail again; what was suppressed meanwhile is not sent. Audited.",
    responses=problems(401, 403, 404, 503),
)
async def remove(suppression_id: str, caller: Operator, given: Services) -> Response:
    await given.suppressions.remove(caller, suppression_id)
    return Response(status_code=204)
