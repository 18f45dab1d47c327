"""The recipient's choices."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import Response
from pydantic import Field

from notification_engine.api.answers import answer
from notification_engine.api.dependencies import Services, User
from notification_engine.api.models.send import ChannelName, Flag, Strict
from notification_engine.api.problems import problems
from notification_engine.domain.caller import Caller, Role
from notification_engine.domain.errors import NotFound
from notification_engine.domain.preference import Preference

router = APIRouter(tags=["preferences"])
PATTERN = r"^(\*|[a-z][a-z0-9_-]*(\.[a-z0-9_-]+)*(\.\*)?)$"
EXAMPLE = {"mute": False, "types": {"test_execution.*": {"email": False}, "test_execution.failed": {"email": True}}}
Pattern = Annotated[str, Field(max_length=128, pattern=PATTERN)]


class PreferencesIn(Strict):
    """`types`: for a type or pattern such as `test_execution.*`, channels on or off; the most specific wins."""

    mute: Flag = False
    types: Annotated[dict[Pattern, dict[ChannelName, Flag]], Field(max_length=200)] = Field(default_factory=dict)


class PreferencesOut(PreferencesIn):
    user_id: str
    updated_at: datetime | None


@router.get(
    "/preferences",
    summary="The stored preferences",
    description="Roles: user, service (own), operator (any, by `user_id`).",
    response_model=PreferencesOut,
    responses=problems(401, 403, 404, 503),
)
async def read(caller: User, given: Services, user_id: Annotated[str | None, Query(max_length=128)] = None) -> Response:
    return answer(_view(await given.preferences.get(_whose(caller, user_id))))


@router.put(
    "/preferences",
    summary="Replace the preferences",
    description="Roles: user, service (own), operator (any, by `user_id`).",
    response_model=PreferencesOut,
    responses=problems(401, 403, 404, 422, 503),
    openapi_extra={"requestBody": {"content": {"application/json": {"example": EXAMPLE}}}},
)
async def replace(
    body: PreferencesIn,
    caller: User,
    given: Services,
    user_id: Annotated[str | None, Query(max_length=128)] = None,
) -> Response:
    wanted = Preference(_whose(caller, user_id), body.mute, body.types)
    return answer(_view(await given.preferences.put(caller, wanted)))


def _whose(caller: Caller, user_id: str | None) -> str:
    if user_id is not None and user_id != caller.sub and not caller.may(Role.OPERATOR):
        raise NotFound("There is no such user.")
    return user_id or caller.sub


def _view(preference: Preference) -> dict[str, Any]:
    return {
        "user_id": preference.user_id,
        "mute": preference.mute,
        "types": {p: {str(c): on for c, on in channels.items()} for p, channels in preference.types.items()},
        "updated_at": preference.updated_at,
    }
