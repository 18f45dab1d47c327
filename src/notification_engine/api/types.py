"""Notification types, by operators: the built-in ones, what overrides them, and types of the house."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from fastapi.responses import Response

from notification_engine.api.answers import PageCursor, PageLimit, answer, page_answer
from notification_engine.api.dependencies import Operator, Services
from notification_engine.api.models.send import TYPE_PATTERN
from notification_engine.api.models.template import TYPE_EXAMPLE, TypeChangeIn, TypeIn, TypeOut, TypesOut
from notification_engine.api.problems import problems
from notification_engine.domain.audit import changes
from notification_engine.domain.cursor import decode_place, encode_place
from notification_engine.domain.notification_type import NotificationType

router = APIRouter(prefix="/types", tags=["types"])
ROLES = "Roles: operator, admin."
Name = Annotated[str, Path(max_length=128, pattern=TYPE_PATTERN)]


@router.get(
    "",
    summary="All types by name, built-in and own",
    description=ROLES,
    response_model=TypesOut,
    responses=problems(401, 403, 422, 503),
)
async def listed(
    request: Request,
    caller: Operator,
    given: Services,
    cursor: PageCursor = None,
    limit: PageLimit = 50,
) -> Response:
    page = await given.catalogue.page(decode_place(cursor), limit)
    return page_answer(request, "types", page, _view, cursor=encode_place)


@router.get(
    "/{name}",
    summary="One type",
    description=f"{ROLES} 404 for what is neither built in nor registered: such types work, with the plain defaults.",
    response_model=TypeOut,
    responses=problems(401, 403, 404, 422, 503),
)
async def one(name: Name, caller: Operator, given: Services) -> Response:
    return answer(_view(await given.catalogue.get(name)))


@router.put(
    "/{name}",
    summary="Register a type, or override a built-in one",
    description=f"{ROLES} Seen by every replica within five seconds.",
    response_model=TypeOut,
    responses=problems(401, 403, 409, 422, 503),
    openapi_extra={"requestBody": {"content": {"application/json": {"example": TYPE_EXAMPLE}}}},
)
async def replace(name: Name, body: TypeIn, caller: Operator, given: Services) -> Response:
    wanted = NotificationType(name, **{field: getattr(body, field) for field in TypeIn.model_fields})
    known = await given.catalogue.resolve(name)
    stored = await given.catalogue.put(caller, wanted)
    before, after = changes(_audited(known), _audited(stored))
    await given.audit.append(caller, "type.replace", name, before=before, after=after)
    return answer(_view(stored))


@router.patch(
    "/{name}",
    summary="Change some fields of a type",
    description=f"{ROLES} A built-in type is thereby overridden.",
    response_model=TypeOut,
    responses=problems(401, 403, 404, 409, 422, 503),
    openapi_extra={"requestBody": {"content": {"application/json": {"example": {"priority": "high"}}}}},
)
async def change(name: Name, body: TypeChangeIn, caller: Operator, given: Services) -> Response:
    known = await given.catalogue.get(name)
    changed = await given.catalogue.change(caller, name, body.changes)
    before, after = changes(_audited(known), _audited(changed))
    await given.audit.append(caller, "type.change", name, before=before, after=after)
    return answer(_view(changed))


@router.delete(
    "/{name}",
    status_code=204,
    summary="Remove a registered type or an override",
    description=f"{ROLES} The built-in type, or the plain defaults, are in force again.",
    responses=problems(401, 403, 404, 422, 503),
)
async def remove(name: Name, caller: Operator, given: Services) -> Response:
    known = await given.catalogue.resolve(name)
    await given.catalogue.remove(name)
    await given.audit.append(caller, "type.delete", name, before=_audited(known))
    return Response(status_code=204)


def _audited(given: NotificationType) -> dict[str, Any]:
    return {field: getattr(given, field) for field in TypeIn.model_fields}


def _view(given: NotificationType) -> dict[str, Any]:
    return {field: getattr(given, field) for field in TypeOut.model_fields}
