"""Templates, by operators: drafts, previews, published versions."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import Response

from notification_engine.api.answers import PageLimit, answer, page_answer
from notification_engine.api.dependencies import ApiServices, Operator, Services
from notification_engine.api.models.template import (
    DRAFT_EXAMPLE,
    PREVIEW_EXAMPLE,
    DraftIn,
    PreviewIn,
    PreviewOut,
    PublishIn,
    TemplateOut,
    TemplatesOut,
    VersionOut,
    VersionsOut,
)
from notification_engine.api.problems import problems
from notification_engine.domain.audit import changes
from notification_engine.domain.cursor import decode_place, encode_place
from notification_engine.domain.errors import NotFound
from notification_engine.domain.template import KEY_PATTERN, Draft, Preview, Template, Version

router = APIRouter(prefix="/templates", tags=["templates"])
ROLES = "Roles: operator, admin."
Key = Annotated[str, Path(max_length=128, pattern=KEY_PATTERN)]
Cursor = Annotated[str | None, Query(max_length=256, description="`next_cursor` of the page before.")]


@router.get(
    "",
    summary="All templates by key, built-in ones too",
    description=ROLES,
    response_model=TemplatesOut,
    responses=problems(401, 403, 422, 503),
)
async def listed(
    request: Request,
    caller: Operator,
    given: Services,
    cursor: Cursor = None,
    limit: PageLimit = 50,
) -> Response:
    page = await given.templates.page(decode_place(cursor), limit)
    return page_answer(request, "templates", page, _summary, cursor=encode_place)


@router.get(
    "/{key}",
    summary="One template with its draft",
    description=ROLES,
    response_model=TemplateOut,
    responses=problems(401, 403, 404, 422, 503),
)
async def one(key: Key, caller: Operator, given: Services) -> Response:
    return answer(_view(await given.templates.get(key)))


@router.put(
    "/{key}",
    summary="Save the draft; nothing is published",
    description=f"{ROLES} Compiled and rendered with its sample data; what fails is refused with line and column.",
    response_model=TemplateOut,
    responses=problems(401, 403, 413, 422, 503),
    openapi_extra={"requestBody": {"content": {"application/json": {"example": DRAFT_EXAMPLE}}}},
)
async def save(key: Key, body: DraftIn, caller: Operator, given: Services) -> Response:
    known = await _draft_of(given, key)
    saved = await given.templates.save(caller, key, body.to_draft())
    before, after = changes(known, _draft(saved.draft))
    await given.audit.append(caller, "template.save", key, before=before, after=after)
    return answer(_view(saved))


@router.delete(
    "/{key}",
    status_code=204,
    summary="Remove a template of the operators' own",
    description=f"{ROLES} What was accepted keeps its version; a built-in template of the key is in force again.",
    responses=problems(401, 403, 404, 422, 503),
)
async def remove(key: Key, caller: Operator, given: Services) -> Response:
    known = await _draft_of(given, key)
    await given.templates.remove(key)
    await given.audit.append(caller, "template.delete", key, before=known)
    return Response(status_code=204)


@router.post(
    "/{key}/preview",
    summary="Render with given data; nothing is published or sent",
    description=f"{ROLES} Of the saved draft, or of the one in the body. Lists the variables that are missing.",
    response_model=PreviewOut,
    responses=problems(401, 403, 404, 422, 503),
    openapi_extra={"requestBody": {"content": {"application/json": {"example": PREVIEW_EXAMPLE}}}},
)
async def preview(key: Key, body: PreviewIn, caller: Operator, given: Services) -> Response:
    draft = body.draft.to_draft() if body.draft else (await given.templates.get(key)).draft
    data = body.data if body.data is not None else draft.sample_data
    return answer(_preview(await given.templates.preview(key, draft, data, body.locale, body.time_zone)))


@router.post(
    "/{key}/publish",
    summary="Publish the draft as a new version, or choose an earlier one",
    description=f"{ROLES} Layouts and partials are drawn in as they are now; a version never changes.",
    response_model=VersionOut,
    responses=problems(401, 403, 404, 409, 422, 503),
    openapi_extra={"requestBody": {"content": {"application/json": {"example": {}}}}},
)
async def publish(key: Key, caller: Operator, given: Services, body: PublishIn | None = None) -> Response:
    version = await given.templates.publish(caller, key, body.version if body else None)
    await given.audit.append(caller, "template.publish", f"{key}@{version.number}")
    return answer(_version(version))


@router.get(
    "/{key}/versions",
    summary="Every published version",
    description=ROLES,
    response_model=VersionsOut,
    responses=problems(401, 403, 404, 422, 503),
)
async def versions(key: Key, caller: Operator, given: Services) -> Response:
    return answer({"versions": [_version(v) for v in await given.templates.versions(key)]})


async def _draft_of(given: ApiServices, key: str) -> dict[str, Any]:
    """Empty where there is none."""
    try:
        return _draft((await given.templates.get(key)).draft)
    except NotFound:
        return {}


def _summary(template: Template) -> dict[str, Any]:
    return {
        "key": template.key,
        "kind": template.draft.kind,
        "description": template.draft.description,
        "locales": sorted(template.draft.locales),
        "published_version": template.published,
        "builtin": template.builtin,
        "updated_at": template.updated_at,
    }


def _view(template: Template) -> dict[str, Any]:
    more = {"created_at": template.created_at, "updated_by": template.updated_by, "draft": _draft(template.draft)}
    return _summary(template) | more


def _draft(draft: Draft) -> dict[str, Any]:
    return draft.as_dict()


def _version(version: Version) -> dict[str, Any]:
    return {
        "key": version.key,
        "version": version.number,
        "published_at": version.published_at,
        "published_by": version.published_by,
        "uses": dict(version.uses),
        "draft": _draft(version.draft),
    }


def _preview(preview: Preview) -> dict[str, Any]:
    parts = {name: preview.parts.get(name) for name in ("subject", "title", "body", "text", "html")}
    return {"locale": preview.locale, **parts, "missing": list(preview.missing)}
