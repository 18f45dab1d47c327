"""Send, and the caller's own inbox."""

from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import Response
from pydantic import ValidationError

from notification_engine.api.answers import PageCursor, PageLimit, answer, page_answer
from notification_engine.api.dependencies import AnyCaller, ApiServices, Canceller, Sender, Services, User, place
from notification_engine.api.models.read import (
    ACCEPTED_EXAMPLE,
    BATCH_EXAMPLE,
    BATCH_RESULT_EXAMPLE,
    SEND_EXAMPLE,
    AcceptedOut,
    BatchOut,
    InboxChangeIn,
    InboxOut,
    NotificationOut,
    ReadAllOut,
    TimelineOut,
    UnreadOut,
    timeline,
)
from notification_engine.api.models.send import BatchIn, BatchItemIn, Moment, SendIn
from notification_engine.api.problems import problem_of, problem_of_validation, problems
from notification_engine.domain.delivery import NotificationStatus
from notification_engine.domain.errors import EngineError, Forbidden, InvalidRequest, NotFound
from notification_engine.domain.notification import MAX_BATCH_NOTIFICATIONS, Priority
from notification_engine.services.ports import InboxChange, InboxFilter
from notification_engine.services.requests import AcceptedEvent, NotificationRequest
from notification_engine.services.views import notification_view

router = APIRouter(tags=["notifications"])
MAX_BATCH_BYTES = 8 * 1024 * 1024
IdempotencyKey = Annotated[str | None, Header(alias="Idempotency-Key", min_length=1, max_length=256)]


@router.post(
    "/",
    status_code=202,
    summary="Send one notification to 1 to 1,000 recipients",
    description="Roles: service. 202 means stored by a majority, journaled; it will be delivered or its end explained.",
    response_model=AcceptedOut,
    responses=problems(401, 403, 409, 413, 422, 503)
    | {202: {"content": {"application/json": {"example": ACCEPTED_EXAMPLE}}}},
    openapi_extra={"requestBody": {"content": {"application/json": {"example": SEND_EXAMPLE}}}},
)
@router.post("", include_in_schema=False, status_code=202)
async def send(body: SendIn, caller: Sender, given: Services, key: IdempotencyKey = None) -> Response:
    return answer(
        accepted_view(await given.intake.accept(caller, _checked(body, given, key), idempotency_key=key)), 202
    )


def _checked(body: SendIn, given: ApiServices, key: str | None) -> NotificationRequest:
    """Addresses that the engine is to fetch are checked as those of webhooks are."""
    for index, attachment in enumerate(body.attachments):
        if attachment.url is not None:
            try:
                given.check_url(attachment.url)
            except InvalidRequest as error:
                raise InvalidRequest(error.detail, field=f"attachments.{index}.url") from error
    return body.to_request(guarded=key is not None)


def accepted_view(event: AcceptedEvent) -> dict[str, Any]:
    notifications = [
        {"notification_id": n.notification_id, "user_id": n.user_id, "status": n.status} for n in event.notifications
    ]
    return {"event_id": event.event_id, "notifications": notifications}


@router.post(
    "/batch",
    status_code=202,
    summary="Send up to 1,000 notifications, each with its own result",
    description="Roles: service. 202 when all were accepted, else 207. `idempotency_key` belongs to each item.",
    response_model=BatchOut,
    responses=problems(401, 403, 413, 422, 503)
    | {
        202: {"content": {"application/json": {"example": BATCH_RESULT_EXAMPLE}}},
        207: {"description": "Some items were refused; each result says why.", "model": BatchOut},
    },
    openapi_extra={"requestBody": {"content": {"application/json": {"example": BATCH_EXAMPLE}}}},
)
async def send_batch(request: Request, body: BatchIn, caller: Sender, given: Services) -> Response:
    results: list[dict[str, Any] | None] = []
    items: list[tuple[int, NotificationRequest, str | None]] = []
    for index, raw in enumerate(body.notifications):
        try:
            item = BatchItemIn.model_validate(raw)
            items.append((index, _checked(item, given, item.idempotency_key), item.idempotency_key))
            results.append(None)
        except InvalidRequest as error:
            results.append(_result(index, error))
        except ValidationError as error:
            results.append({"index": index, "status": 422, "problem": problem_of_validation(error.errors())})
    if sum(len(request.recipients) for _, request, _ in items) > MAX_BATCH_NOTIFICATIONS:
        raise InvalidRequest(f"At most {MAX_BATCH_NOTIFICATIONS} notifications a call.", field="notifications")
    outcomes = await given.intake.accept_batch(caller, [(request, key) for _, request, key in items])
    for (index, _, _), outcome in zip(items, outcomes, strict=True):
        results[index] = _result(index, outcome)
    if any(isinstance(outcome, Forbidden) for outcome in outcomes):
        given.denials.denied(caller, "access.forbidden", place(request))
    accepted = all(result and result["status"] == 202 for result in results)
    return answer({"results": results}, 202 if accepted else 207)


def _result(index: int, outcome: AcceptedEvent | EngineError) -> dict[str, Any]:
    if isinstance(outcome, AcceptedEvent):
        return {"index": index, "status": 202} | accepted_view(outcome)
    body = problem_of(outcome)
    return {"index": index, "status": body["status"], "problem": body}


@router.get(
    "/",
    summary="The caller's inbox, newest first",
    description="Roles: user, service, operator; each sees only its own.",
    response_model=InboxOut,
    responses=problems(401, 403, 422, 503),
)
@router.get("", include_in_schema=False)
async def inbox(
    request: Request,
    caller: User,
    given: Services,
    status: NotificationStatus | None = None,
    notification_type: Annotated[str | None, Query(max_length=128)] = None,
    priority: Priority | None = None,
    unread: bool | None = None,
    archived: bool = False,
    since: Moment | None = None,
    until: Moment | None = None,
    cursor: PageCursor = None,
    limit: PageLimit = 50,
) -> Response:
    query = InboxFilter(status, notification_type, priority, unread, archived, since, until)
    page = await given.notifications.inbox(caller, query, cursor, limit)
    return page_answer(request, "notifications", page, notification_view)


@router.get(
    "/unread-count",
    summary="How many of the caller's notifications are unread",
    description="Roles: user, service, operator.",
    response_model=UnreadOut,
    responses=problems(401, 403, 503),
)
async def unread_count(caller: User, given: Services) -> Response:
    return answer({"unread_count": await given.notifications.unread_count(caller.sub)})


@router.post(
    "/read-all",
    summary="Mark the caller's whole inbox as read",
    description="Roles: user, service, operator.",
    response_model=ReadAllOut,
    responses=problems(401, 403, 503),
)
async def read_all(caller: User, given: Services) -> Response:
    changed = await given.notifications.read_all(caller)
    given.hub.unread(caller.sub, 0)
    return answer({"changed": changed})


item_router = APIRouter(tags=["notifications"])


@item_router.get(
    "/{notification_id}",
    summary="One notification with its deliveries",
    description="Roles: its owner, the service that sent it, operator. Another's is 404.",
    response_model=NotificationOut,
    responses=problems(401, 404, 503),
)
async def one(notification_id: str, caller: AnyCaller, given: Services) -> Response:
    found = await given.notifications.get(caller, _id(notification_id))
    return answer(notification_view(found, deliveries=True, reader=caller.sub))


@item_router.patch(
    "/{notification_id}",
    summary="Mark one as seen, read, unread, archived or snoozed",
    description="Roles: its owner. Another's is 404.",
    response_model=NotificationOut,
    responses=problems(401, 404, 422, 503),
    openapi_extra={"requestBody": {"content": {"application/json": {"example": {"read": True}}}}},
)
async def change(notification_id: str, body: InboxChangeIn, caller: AnyCaller, given: Services) -> Response:
    wanted = InboxChange(body.seen, body.read, body.archived, body.snoozed_until, body.unsnoozes)
    changed = await given.notifications.change_inbox(caller, _id(notification_id), wanted)
    given.hub.updated(changed)
    given.hub.unread(caller.sub, await given.notifications.unread_count(caller.sub))
    return answer(notification_view(changed, deliveries=True))


@item_router.post(
    "/{notification_id}/cancel",
    summary="Cancel what is not sent yet",
    description="Roles: the service that sent it, operator. 409 once a delivery is being sent, or when it has ended.",
    response_model=NotificationOut,
    responses=problems(401, 403, 404, 409, 503),
)
async def cancel(notification_id: str, caller: Canceller, given: Services) -> Response:
    cancelled = await given.intervene.cancel(caller, _id(notification_id))
    return answer(notification_view(cancelled, deliveries=True, reader=caller.sub))


@item_router.get(
    "/{notification_id}/timeline",
    summary="Every decision and attempt, a code and a sentence each",
    description="Roles: its owner, the service that sent it, operator. Another's is 404.",
    response_model=TimelineOut,
    responses=problems(401, 404, 503),
)
async def explain(notification_id: str, caller: AnyCaller, given: Services) -> Response:
    found = await given.notifications.get(caller, _id(notification_id))
    attempts = await given.history.timeline(found.id)
    return answer({"notification_id": found.id, "status": found.status, "entries": timeline(found, attempts)})


def _id(notification_id: str) -> str:
    if not notification_id.startswith("ntfy_") or len(notification_id) != 31 or "~" in notification_id:
        raise NotFound("There is no such notification.")
    return notification_id
