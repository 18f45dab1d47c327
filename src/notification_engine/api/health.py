"""Health and metrics, without a token and without personal data."""

import re
from typing import Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import PlainTextResponse, Response

from notification_engine.api.answers import answer
from notification_engine.api.dependencies import Open, Services

OPEN = "Probes and scrapers have no token; nothing personal is shown."
root = APIRouter(tags=["health"], dependencies=[Depends(Open(OPEN))])
router = APIRouter(prefix="/health", tags=["health"], dependencies=[Depends(Open(OPEN))])
_TEXT_KINDS = ("text/plain", "text/*", "application/openmetrics-text")
_JSON_KINDS = ("application/json", "application/*", "*/*")
_QUALITY = re.compile(r"[01](\.\d{0,3})?")
TEXT = "text/plain; version=0.0.4; charset=utf-8"
EVERYONE = "Roles: none; for probes and scrapers."
_ANY: dict[int | str, dict[str, Any]] = {503: {"description": "Not ready."}}


@root.get("/health", summary="The process lives", description=EVERYONE)
async def live(given: Services) -> Response:
    return answer(await given.health.live())


@root.get("/metrics", summary="Prometheus text", description=EVERYONE, response_class=PlainTextResponse)
async def metrics_text(given: Services) -> Response:
    return Response(await given.health.metrics_text(), media_type=TEXT)


@router.get("/status", summary="Everything at once; 503 while not ready", description=EVERYONE, responses=_ANY)
async def status(given: Services) -> Response:
    body = await given.health.status()
    return answer(body, 200 if body["ready"] else 503)


@router.get(
    "/metrics",
    summary="Figures: JSON, or Prometheus text to a scraper",
    description=EVERYONE,
    responses={200: {"content": {"text/plain": {"example": "notification_accepted_total 120.0\n"}}}},
)
async def metrics(request: Request, given: Services) -> Response:
    if _prefers_text(request.headers.get("accept", "")):
        return Response(await given.health.metrics_text(), media_type=TEXT)
    return answer(await given.health.metrics_json())


@router.get("/daemon", summary="Loops, lanes and leases of this process", description=EVERYONE)
async def daemon(given: Services) -> Response:
    return answer(await given.health.daemon() | {"processes": await given.health.processes()})


@router.get("/channels", summary="Channels, their providers and lanes", description=EVERYONE)
async def channels(given: Services) -> Response:
    return answer(await given.health.channels() | {"processes": await given.health.processes()})


def _prefers_text(accept: str) -> bool:
    """RFC 9110: text is asked for by name with a higher quality than JSON; a tie is JSON's."""
    quality: dict[str, float] = {}
    for part in accept.split(","):
        kind, *parameters = (p.strip().lower() for p in part.split(";"))
        given = next((p.removeprefix("q=") for p in parameters if p.startswith("q=")), "1")
        weight = float(given) if _QUALITY.fullmatch(given) else 0.0
        quality[kind] = max(weight, quality.get(kind, 0.0))
    text, json = (max(quality.get(k, 0.0) for k in kinds) for kinds in (_TEXT_KINDS, _JSON_KINDS))
    return text > json
