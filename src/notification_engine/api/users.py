"""What is stored of a user, by administrators: export and erasure."""

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter, Path
from fastapi.responses import Response, StreamingResponse

from notification_engine.api.answers import answer
from notification_engine.api.dependencies import Admin, Services
from notification_engine.api.models.send import Strict
from notification_engine.api.problems import problems

router = APIRouter(prefix="/users", tags=["data protection"])
ROLES = "Roles: admin."
SCHEMA = "user-data/1"
UserId = Annotated[str, Path(min_length=1, max_length=128)]
LISTED = "It is in the list of erasures outside the database, and is applied again after a restore."
UNLISTED = "ERASURE_LOG_FILE is not set: restoring a backup from before this moment brings the data back."


class UserDataOut(Strict):
    """`collections`: by the name of the collection its documents that hold something of the user, oldest ids first, as
    they are stored, without secrets and bytes in base64; see docs/data-protection.md."""

    schema_name: Literal["user-data/1"]
    user_id: str
    collections: dict[str, list[dict[str, Any]]]
    exported_at: datetime


class ErasedOut(Strict):
    """`subject`: the pseudonym that the audit log keeps. `removed`: documents by collection that went, or lost what was
    personal. `in_flight`: notifications that were being sent; what was on the wire arrives, and what is written about
    it is removed within an hour."""

    receipt_id: str
    subject: str
    erased_at: datetime
    removed: dict[str, int]
    in_flight: int
    applied_after_restore: bool
    detail: str


@router.get(
    "/{user_id:path}/data",
    summary="Everything that is stored of a user",
    description=f"{ROLES} Streamed; a file that lacks `exported_at` was cut off. Audited.",
    response_model=UserDataOut,
    responses=problems(401, 403, 404, 422, 503),
)
async def export(user_id: UserId, caller: Admin, given: Services) -> Response:
    parts = given.data_protection.export(caller, user_id)
    first = await anext(parts)  # a store that is away is a 503, not a broken file
    headers = {"Content-Disposition": 'attachment; filename="user-data.json"', "Cache-Control": "no-store"}
    body = _written(user_id, first, parts, given)
    return StreamingResponse(body, media_type="application/json", headers=headers)


Part = tuple[str, Sequence[dict[str, Any]]]


async def _written(user_id: str, first: Part, rest: AsyncIterator[Part], given: Services) -> AsyncIterator[bytes]:
    yield b'{"schema_name":' + orjson.dumps(SCHEMA) + b',"user_id":' + orjson.dumps(user_id) + b',"collections":{'
    yield _part(first)
    async for part in rest:
        yield b"," + _part(part)
    yield b'},"exported_at":' + orjson.dumps(given.callbacks.clock.now(), option=orjson.OPT_UTC_Z) + b"}"


def _part(part: Part) -> bytes:
    return orjson.dumps(part[0]) + b":" + orjson.dumps(list(part[1]), option=orjson.OPT_UTC_Z)


@router.delete(
    "/{user_id:path}/data",
    summary="Erase a user",
    description=f"{ROLES} From every collection; what is not sent yet is not sent. Harmless twice. Who is notified "
    "again afterwards is a new user. Audited under a pseudonym.",
    response_model=ErasedOut,
    responses=problems(401, 403, 404, 422, 503),
)
async def erase(user_id: UserId, caller: Admin, given: Services) -> Response:
    done = await given.data_protection.erase(caller, user_id)
    given.hub.unread(user_id, 0)
    return answer(
        {
            "receipt_id": done.receipt,
            "subject": done.subject,
            "erased_at": done.erased_at,
            "removed": done.removed,
            "in_flight": done.in_flight,
            "applied_after_restore": done.listed,
            "detail": LISTED if done.listed else UNLISTED,
        }
    )
