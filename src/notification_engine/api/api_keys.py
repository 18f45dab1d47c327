"""API keys, by admins. A key is shown once, in the answer that creates it."""

from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import Field, field_validator

from notification_engine.api.answers import PageCursor, PageLimit, answer, page_answer
from notification_engine.api.dependencies import Admin, AdminByHand, Services
from notification_engine.api.models.send import Line, Moment, Strict, UserId
from notification_engine.api.preferences import Pattern
from notification_engine.api.problems import problems
from notification_engine.domain.api_key import ApiKey
from notification_engine.domain.caller import Role

router = APIRouter(prefix="/api-keys", tags=["API keys"])
EXAMPLE = {
    "name": "Build server",
    "roles": ["service"],
    "notification_types": ["test_execution.*"],
    "expires_at": "2099-12-31T00:00:00Z",
}


class ApiKeyIn(Strict):
    """`notification_types`: what it may send, exact or `prefix.*`; empty: all. `sub`: whom it acts as; itself unless
    given, and then a new key can take an old one's place."""

    name: Annotated[Line, Field(max_length=100)]
    roles: Annotated[list[Role], Field(min_length=1, max_length=4)]
    notification_types: Annotated[list[Pattern], Field(max_length=100)] = Field(default_factory=list)
    sub: UserId | None = None
    expires_at: Moment | None = None

    @field_validator("expires_at")
    @classmethod
    def _ahead(cls, value: datetime | None) -> datetime | None:
        if value is not None and value <= datetime.now(UTC):
            raise ValueError("must be in the future")
        return value


class ApiKeyOut(Strict):
    key_id: str
    name: str
    roles: list[str]
    notification_types: list[str]
    sub: str
    created_at: datetime
    created_by: str
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None


class ApiKeyCreatedOut(ApiKeyOut):
    api_key: str


class ApiKeysOut(Strict):
    api_keys: list[ApiKeyOut]
    next_cursor: str | None


@router.post(
    "",
    status_code=201,
    summary="Make an API key",
    description="Roles: admin, not with an API key. Only this answer shows `api_key`. Audited.",
    response_model=ApiKeyCreatedOut,
    responses=problems(401, 403, 409, 422, 503),
    openapi_extra={"requestBody": {"content": {"application/json": {"example": EXAMPLE}}}},
)
async def create(body: ApiKeyIn, caller: AdminByHand, given: Services) -> Response:
    key, text = await given.credentials.make_key(
        caller,
        name=body.name,
        roles=body.roles,
        notification_types=body.notification_types,
        sub=body.sub,
        expires_at=body.expires_at and body.expires_at.astimezone(UTC),
    )
    return answer(_view(key) | {"api_key": text}, 201, {"Cache-Control": "no-store"})


@router.get(
    "",
    summary="All API keys, oldest first",
    description="Roles: admin. Those that were revoked too; never the keys themselves.",
    response_model=ApiKeysOut,
    responses=problems(401, 403, 422, 503),
)
async def listed(
    request: Request,
    caller: Admin,
    given: Services,
    cursor: PageCursor = None,
    limit: PageLimit = 50,
) -> Response:
    page = await given.api_keys.page(cursor, limit)
    return page_answer(request, "api_keys", page, _view)


@router.get(
    "/{key_id}",
    summary="One API key",
    description="Roles: admin.",
    response_model=ApiKeyOut,
    responses=problems(401, 403, 404, 503),
)
async def one(key_id: str, caller: Admin, given: Services) -> Response:
    return answer(_view(await given.api_keys.get(key_id)))


@router.delete(
    "/{key_id}",
    status_code=204,
    summary="Revoke an API key",
    description="Roles: admin, not with an API key. At once on every replica, with its tokens and sockets. Audited.",
    responses=problems(401, 403, 404, 503),
)
async def revoke(key_id: str, caller: AdminByHand, given: Services) -> Response:
    await given.credentials.revoke_key(caller, key_id)
    return Response(status_code=204)


def _view(key: ApiKey) -> dict[str, Any]:
    return {
        "key_id": key.id,
        "name": key.name,
        "roles": sorted(key.roles),
        "notification_types": list(key.notification_types),
        "sub": key.sub,
        "created_at": key.created_at,
        "created_by": key.created_by,
        "expires_at": key.expires_at,
        "revoked_at": key.revoked_at,
        "last_used_at": key.last_used_at,
    }
