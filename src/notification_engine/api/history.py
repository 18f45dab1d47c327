"""The attempts of a user."""

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from notification_engine.api.answers import PageCursor, PageLimit, page_answer
from notification_engine.api.dependencies import Services, User
from notification_engine.api.models.read import HistoryOut, attempt_view
from notification_engine.api.problems import problems

router = APIRouter(tags=["history"])


@router.get(
    "/history",
    summary="Attempts, newest first",
    description="Roles: user, service (own), operator (any, by `user_id`).",
    response_model=HistoryOut,
    responses=problems(401, 403, 404, 422, 503),
)
async def history(
    request: Request,
    caller: User,
    given: Services,
    user_id: Annotated[str | None, Query(max_length=128)] = None,
    cursor: PageCursor = None,
    limit: PageLimit = 50,
) -> Response:
    page = await given.history.page(caller, user_id or caller.sub, cursor, limit)
    return page_answer(request, "attempts", page, attempt_view)
