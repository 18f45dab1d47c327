"""Callbacks of providers: signed by them, without a token of ours. What does not verify changes nothing."""

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from notification_engine.api.dependencies import Open, Services
from notification_engine.api.problems import problems
from notification_engine.api.rate_limits import public
from notification_engine.domain.errors import NotFound
from notification_engine.kit.logging import get_logger
from notification_engine.security.sendgrid import SIGNATURE_HEADER, TIMESTAMP_HEADER
from notification_engine.security.sns import CONFIRMATION, NOTIFICATION

OPEN = "Signed by the provider."
router = APIRouter(prefix="/callbacks", tags=["callbacks"], dependencies=[Depends(Open(OPEN)), Depends(public)])
ANSWERS = problems(401, 404, 413, 503) | {400: {"description": "Signed, and not what the provider documents."}}

log = get_logger("api")


@router.post(
    "/sendgrid",
    status_code=204,
    summary="SendGrid's signed Event Webhook",
    description="Roles: none; the request is signed. 404 without SENDGRID_WEBHOOK_PUBLIC_KEY.",
    responses=ANSWERS,
)
async def sendgrid(request: Request, given: Services) -> Response:
    signature = given.callbacks.sendgrid
    if signature is None:
        raise NotFound("SENDGRID_WEBHOOK_PUBLIC_KEY is not set.")
    body = await request.body()
    signed, stamped = request.headers.get(SIGNATURE_HEADER), request.headers.get(TIMESTAMP_HEADER)
    digest = signature.verify(body, signed, stamped, given.callbacks.clock.now())
    await given.feedback.sendgrid(digest, body)
    return Response(status_code=204)


@router.post(
    "/ses",
    status_code=204,
    summary="Events of Amazon SES, by SNS",
    description="Roles: none; the message is signed. 404 without SES_SNS_TOPIC_ARN.",
    responses=ANSWERS,
)
async def ses(request: Request, given: Services) -> Response:
    signature = given.callbacks.ses
    if signature is None:
        raise NotFound("SES_SNS_TOPIC_ARN is not set.")
    message = await signature.verify(await request.body(), given.callbacks.clock.now())
    if message.kind == NOTIFICATION:
        await given.feedback.ses(message.id, message.message, message.published_at)
    elif message.kind == CONFIRMATION:
        await given.callbacks.confirm(signature.confirms(message))
        log.info("The subscription to the SNS topic is confirmed")
    else:
        log.warning("The subscription to the SNS topic was ended; SES's events no longer come")
    return Response(status_code=204)
