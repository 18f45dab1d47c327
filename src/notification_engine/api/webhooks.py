"""Webhook endpoints, by operators. The secret is shown once, in the answer that creates it."""

import base64
import hashlib
import secrets
import time
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any
from urllib.parse import urlsplit

from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import Field

from notification_engine.api.answers import PageCursor, PageLimit, answer, page_answer
from notification_engine.api.dead_letters import IntervenedOut, intervened_view
from notification_engine.api.dependencies import Operator, Services
from notification_engine.api.models.send import Flag, Line, Moment, Strict, Text
from notification_engine.api.preferences import Pattern
from notification_engine.api.problems import problems
from notification_engine.domain.audit import changes
from notification_engine.domain.delivery import Channel, Reason
from notification_engine.domain.errors import Conflict
from notification_engine.domain.notification import Priority
from notification_engine.domain.outcome import Delivered, Message
from notification_engine.domain.webhook import WebhookEndpoint
from notification_engine.kit.ids import new_id, new_ulid
from notification_engine.services.ports import DeadLetterFilter, Deadline

router = APIRouter(prefix="/webhooks", tags=["webhooks"])
EXAMPLE = {"url": "https://hooks.example.org/notifications", "notification_types": ["*"], "description": "Build room"}
OVERLAP = timedelta(hours=24)
Url = Annotated[Line, Field(max_length=2048)]
Patterns = Annotated[list[Pattern], Field(min_length=1, max_length=100)]


class WebhookIn(Strict):
    url: Url
    notification_types: Patterns
    description: Annotated[Text, Field(max_length=500)] = ""


class WebhookChangeIn(Strict):
    url: Url | None = None
    notification_types: Patterns | None = None
    description: Annotated[Text, Field(max_length=500)] | None = None
    enabled: Flag | None = None


class WebhookOut(WebhookIn):
    webhook_id: str
    enabled: bool
    disabled_reason: str | None
    failing_since: datetime | None
    created_at: datetime | None


class WebhookCreatedOut(WebhookOut):
    secret: str


class WebhooksOut(Strict):
    webhooks: list[WebhookOut]
    next_cursor: str | None


class TestOut(Strict):
    delivered: bool
    reason: Reason | None
    detail: str | None


@router.post(
    "",
    status_code=201,
    summary="Register an endpoint",
    description="Roles: operator, admin. `secret` signs every call (Standard Webhooks) and is shown only here.",
    response_model=WebhookCreatedOut,
    responses=problems(401, 403, 422, 503),
    openapi_extra={"requestBody": {"content": {"application/json": {"example": EXAMPLE}}}},
)
async def create(body: WebhookIn, caller: Operator, given: Services) -> Response:
    given.check_url(body.url)
    await given.check_name(body.url)
    endpoint = WebhookEndpoint(
        id=new_id("whk"),
        url=body.url,
        notification_types=tuple(body.notification_types),
        secret=_new_secret(),
        description=body.description,
        created_at=datetime.now(UTC),
        owner=caller.sub,
    )
    await given.endpoints.create(endpoint)
    await given.audit.append(caller, "webhook.create", endpoint.id, after=_audited(endpoint))
    return answer(_view(endpoint) | {"secret": endpoint.secret}, 201)


@router.get(
    "",
    summary="All endpoints, oldest first",
    description="Roles: operator, admin.",
    response_model=WebhooksOut,
    responses=problems(401, 403, 422, 503),
)
async def listed(
    request: Request,
    caller: Operator,
    given: Services,
    cursor: PageCursor = None,
    limit: PageLimit = 50,
) -> Response:
    page = await given.endpoints.page(cursor, limit)
    return page_answer(request, "webhooks", page, _view)


@router.get(
    "/{webhook_id}",
    summary="One endpoint",
    description="Roles: operator, admin.",
    response_model=WebhookOut,
    responses=problems(401, 403, 404, 503),
)
async def one(webhook_id: str, caller: Operator, given: Services) -> Response:
    return answer(_view(await given.endpoints.get(webhook_id)))


@router.patch(
    "/{webhook_id}",
    summary="Change or enable an endpoint",
    description="Roles: operator, admin.",
    response_model=WebhookOut,
    responses=problems(401, 403, 404, 422, 503),
    openapi_extra={"requestBody": {"content": {"application/json": {"example": {"enabled": True}}}}},
)
async def change(webhook_id: str, body: WebhookChangeIn, caller: Operator, given: Services) -> Response:
    values = body.model_dump(exclude_none=True)
    if body.url:
        given.check_url(body.url)
        await given.check_name(body.url)
    if body.enabled:
        values |= {"disabled_reason": None, "failing_since": None}
    known = await given.endpoints.get(webhook_id)
    changed = await given.endpoints.change(webhook_id, values) if values else known
    before, after = changes(_audited(known), _audited(changed))
    await given.audit.append(caller, "webhook.change", webhook_id, before=before, after=after)
    return answer(_view(changed))


@router.delete(
    "/{webhook_id}",
    status_code=204,
    summary="Remove an endpoint",
    description="Roles: operator, admin. Deliveries that wait for it fail with `endpoint_disabled`.",
    responses=problems(401, 403, 404, 503),
)
async def remove(webhook_id: str, caller: Operator, given: Services) -> Response:
    known = await given.endpoints.get(webhook_id)
    await given.endpoints.delete(webhook_id)
    await given.audit.append(caller, "webhook.delete", webhook_id, before=_audited(known))
    return Response(status_code=204)


@router.post(
    "/{webhook_id}/rotate",
    summary="Give the endpoint a new secret",
    description="Roles: operator, admin. For 24 hours calls carry both signatures. Only this answer shows `secret`.",
    response_model=WebhookCreatedOut,
    responses=problems(401, 403, 404, 503),
)
async def rotate(webhook_id: str, caller: Operator, given: Services) -> Response:
    secret = _new_secret()
    endpoint = await given.endpoints.rotate(webhook_id, secret, OVERLAP)
    await given.audit.append(caller, "webhook.rotate", webhook_id)
    return answer(_view(endpoint) | {"secret": secret})


@router.post(
    "/{webhook_id}/test",
    summary="Send a signed test message now",
    description="Roles: operator, admin. One call, no retry; the answer says what came of it.",
    response_model=TestOut,
    responses=problems(401, 403, 404, 503),
)
async def test(webhook_id: str, caller: Operator, given: Services) -> Response:
    endpoint = await given.endpoints.get(webhook_id)
    deadline = Deadline(time.monotonic() + given.webhook.attempt_seconds)
    outcome = await given.webhook.post(endpoint, _test_message(endpoint, caller.sub), deadline)
    await given.audit.append(caller, "webhook.test", webhook_id)
    reason = None if isinstance(outcome, Delivered) else getattr(outcome, "reason", None)
    return answer({"delivered": isinstance(outcome, Delivered), "reason": reason, "detail": outcome.detail})


@router.post(
    "/{webhook_id}/recover",
    summary="Send again what failed since a moment and has not succeeded",
    description="Roles: operator, admin. The dead letters of this endpoint, under their delivery ids. Audited.",
    response_model=IntervenedOut,
    responses=problems(401, 403, 404, 409, 422, 503),
)
async def recover(webhook_id: str, since: Moment, caller: Operator, given: Services) -> Response:
    endpoint = await given.endpoints.get(webhook_id)
    if not endpoint.enabled:
        raise Conflict("The endpoint is disabled; enable it first.")
    query = DeadLetterFilter(channel=Channel.WEBHOOK, endpoint=webhook_id, since=since)
    done = await given.intervene.replay(caller, query)
    await given.audit.append(caller, "webhook.recover", webhook_id, after={"since": since, "changed": done.changed})
    return answer(intervened_view(done))


def _new_secret() -> str:
    return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()


def _test_message(endpoint: WebhookEndpoint, user_id: str) -> Message:
    ulid = new_ulid()
    return Message(
        notification_id=f"ntfy_{ulid}",
        delivery_id=f"dlv_{ulid}_0",
        event_id=f"evt_{ulid}",
        user_id=user_id,
        notification_type="webhook.test",
        channel=Channel.WEBHOOK,
        priority=Priority.MEDIUM,
        title="Test message",
        body="If you can read and verify this, the endpoint works.",
        created_at=datetime.now(UTC),
        endpoint=endpoint.id,
    )


def _audited(endpoint: WebhookEndpoint) -> dict[str, Any]:
    """Of the address only its host is told: path and query of such addresses are secrets at many receivers."""
    address = urlsplit(endpoint.url)
    told = f"{address.scheme}://{address.hostname}/... sha256:{hashlib.sha256(endpoint.url.encode()).hexdigest()[:16]}"
    types = list(endpoint.notification_types)
    return {"url": told, "notification_types": types, "description": endpoint.description, "enabled": endpoint.enabled}


def _view(endpoint: WebhookEndpoint) -> dict[str, Any]:
    return {
        "webhook_id": endpoint.id,
        "url": endpoint.url,
        "notification_types": list(endpoint.notification_types),
        "description": endpoint.description,
        "enabled": endpoint.enabled,
        "disabled_reason": endpoint.disabled_reason,
        "failing_since": endpoint.failing_since,
        "created_at": endpoint.created_at,
    }
