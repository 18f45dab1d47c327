"""Tokens: traded for an API key, ended by their holder, revoked by an admin."""

from datetime import datetime

from fastapi import APIRouter
from fastapi.responses import Response
from pydantic import BaseModel

from notification_engine.api.answers import answer
from notification_engine.api.dependencies import AdminByHand, AnyCaller, Services
from notification_engine.api.models.send import Strict, UserId
from notification_engine.api.problems import problems

router = APIRouter(tags=["auth"])


class TokenOut(BaseModel):
    """RFC 6749, section 5.1."""

    access_token: str
    token_type: str
    expires_in: int


class RevokeIn(Strict):
    sub: UserId


class RevokedOut(BaseModel):
    sub: str
    issued_until: datetime


@router.post(
    "/token",
    summary="Trade an API key for a token",
    description="Roles: any API key. The token has its roles and types, and dies with it.",
    response_model=TokenOut,
    responses=problems(401, 403, 503),
)
async def token(caller: AnyCaller, given: Services) -> Response:
    text, seconds = given.credentials.trade(caller)
    body = {"access_token": text, "token_type": "Bearer", "expires_in": seconds}
    return answer(body, headers={"Cache-Control": "no-store"})


@router.post(
    "/logout",
    status_code=204,
    summary="End the token that is presented",
    description="Roles: any token. At once on every replica, with its sockets. 409 for an API key.",
    responses=problems(401, 409, 503),
)
async def logout(caller: AnyCaller, given: Services) -> Response:
    await given.credentials.logout(caller)
    return Response(status_code=204)


@router.post(
    "/revoke",
    summary="Revoke all tokens that a user has now",
    description="Roles: admin, not with an API key. By `iat`; a token without one counts as old. Audited.",
    response_model=RevokedOut,
    responses=problems(401, 403, 422, 503),
    openapi_extra={"requestBody": {"content": {"application/json": {"example": {"sub": "u_lost"}}}}},
)
async def revoke(body: RevokeIn, caller: AdminByHand, given: Services) -> Response:
    return answer({"sub": body.sub, "issued_until": await given.credentials.revoke_tokens(caller, body.sub)})
