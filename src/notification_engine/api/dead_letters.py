"""Dead letters: what will not be tried again by itself. List, inspect, replay, discard."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from pydantic import Field, model_validator

from notification_engine.api.answers import PageCursor, PageLimit, answer, page_answer
from notification_engine.api.dependencies import ApiServices, Operator, Services
from notification_engine.api.models.read import AttemptOut, NotificationOut, attempt_view
from notification_engine.api.models.send import ChannelName, Line, Moment, Strict, TypeName
from notification_engine.api.problems import problems
from notification_engine.domain.caller import Caller
from notification_engine.domain.delivery import Channel, DeliveryStatus, Reason
from notification_engine.domain.notification import base_id
from notification_engine.services.ports import DeadLetter, DeadLetterFilter, Intervened
from notification_engine.services.views import notification_view

router = APIRouter(prefix="/dead-letters", tags=["dead letters"])
ROLES = "Roles: operator, admin."
Do = Callable[[Caller, DeadLetterFilter], Awaitable[Intervened]]
DeliveryId = Annotated[str, Field(pattern=r"^dlv_[0-9a-z]{26}_[0-9]{1,4}$")]
EXAMPLE = {"channel": "webhook", "reason": "server_error", "since": "2026-11-01T00:00:00Z"}


class DeadLetterOut(Strict):
    """`endpoint` is a webhook's id; an address is not shown in a list."""

    delivery_id: str
    notification_id: str
    user_id: str
    notification_type: str
    channel: Channel
    endpoint: str | None
    status: DeliveryStatus
    reason: Reason | None
    attempts: int
    created_at: datetime | None
    updated_at: datetime | None


class DeadLettersOut(Strict):
    dead_letters: list[DeadLetterOut]
    next_cursor: str | None


class InspectedOut(DeadLetterOut):
    notification: NotificationOut
    history: list[AttemptOut]


class ChosenIn(Strict):
    """Which dead letters: by id, or by every criterion given. At least one is needed."""

    delivery_ids: Annotated[list[DeliveryId], Field(min_length=1, max_length=1000)] | None = None
    notification_type: TypeName | None = None
    channel: ChannelName | None = None
    endpoint: Annotated[Line, Field(max_length=320)] | None = None
    reason: Reason | None = None
    since: Moment | None = None
    until: Moment | None = None

    @model_validator(mode="after")
    def _something(self) -> "ChosenIn":
        if all(getattr(self, name) is None for name in type(self).model_fields):
            raise ValueError("delivery_ids: name deliveries or at least one criterion")
        return self

    def to_filter(self) -> DeadLetterFilter:
        ids = tuple(self.delivery_ids) if self.delivery_ids is not None else None
        return DeadLetterFilter(**self.model_dump(exclude={"delivery_ids"}), delivery_ids=ids)


class IntervenedOut(Strict):
    """`skipped`: left alone because another delivery of the same notification is being sent; ask again. `more`: the
    call stopped at its bound of 10,000 notifications; ask again."""

    changed: int
    skipped: int
    more: bool


@router.get(
    "",
    summary="Dead letters, newest first",
    description=f"{ROLES} Failed deliveries, and those of unknown outcome that are held for a decision.",
    response_model=DeadLettersOut,
    responses=problems(401, 403, 422, 503),
)
async def listed(
    request: Request,
    caller: Operator,
    given: Services,
    notification_type: Annotated[str | None, Query(max_length=128)] = None,
    channel: Channel | None = None,
    endpoint: Annotated[str | None, Query(max_length=320)] = None,
    reason: Reason | None = None,
    since: Moment | None = None,
    until: Moment | None = None,
    cursor: PageCursor = None,
    limit: PageLimit = 50,
) -> Response:
    query = DeadLetterFilter(notification_type, channel, endpoint, reason, since, until)
    page = await given.interventions.dead_letters(query, cursor, limit)
    return page_answer(request, "dead_letters", page, _view)


@router.post(
    "/replay",
    summary="Send dead letters again",
    description=f"{ROLES} Due at once, under the same delivery ids, with new rounds. Audited.",
    response_model=IntervenedOut,
    responses=problems(401, 403, 422, 503),
    openapi_extra={"requestBody": {"content": {"application/json": {"example": EXAMPLE}}}},
)
async def replay(body: ChosenIn, caller: Operator, given: Services) -> Response:
    return answer(intervened_view(await _audited(given, caller, "replay", given.intervene.replay, body)))


@router.post(
    "/discard",
    summary="Take dead letters off the list",
    description=f"{ROLES} Their state stays what it is. Audited.",
    response_model=IntervenedOut,
    responses=problems(401, 403, 422, 503),
    openapi_extra={"requestBody": {"content": {"application/json": {"example": EXAMPLE}}}},
)
async def discard(body: ChosenIn, caller: Operator, given: Services) -> Response:
    return answer(intervened_view(await _audited(given, caller, "discard", given.intervene.discard, body)))


@router.get(
    "/{delivery_id}",
    summary="One dead letter with its notification and every attempt",
    description=ROLES,
    response_model=InspectedOut,
    responses=problems(401, 403, 404, 503),
)
async def inspect(delivery_id: str, caller: Operator, given: Services) -> Response:
    letter = await given.interventions.dead_letter(delivery_id)
    rows = await given.history.timeline(base_id(letter.notification.id))
    history = [attempt_view(row) for row in rows if row.delivery_id == delivery_id]
    shown = notification_view(letter.notification, deliveries=True, reader=caller.sub)
    return answer(_view(letter) | {"notification": shown, "history": history})


async def _audited(given: ApiServices, caller: Caller, action: str, do: Do, body: ChosenIn) -> Intervened:
    """Each batch leaves its own row; a call that found nothing leaves one as well."""
    done = await do(caller, body.to_filter())
    if not done.changed:
        await given.audit.append(caller, f"dead_letter.{action}", "0 deliveries")
    return done


def intervened_view(done: Intervened) -> dict[str, Any]:
    return {"changed": done.changed, "skipped": done.skipped, "more": done.more}


def _view(letter: DeadLetter) -> dict[str, Any]:
    notification, delivery = letter.notification, letter.delivery
    return {
        "delivery_id": delivery.id,
        "notification_id": base_id(notification.id),
        "user_id": notification.user_id,
        "notification_type": notification.notification_type,
        "channel": delivery.channel,
        "endpoint": delivery.endpoint if delivery.channel is Channel.WEBHOOK else None,
        "status": delivery.status,
        "reason": delivery.reason,
        "attempts": delivery.attempts,
        "created_at": delivery.created_at,
        "updated_at": delivery.updated_at,
    }
