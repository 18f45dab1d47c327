"""Errors as `application/problem+json` (RFC 9457)."""

from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Any

import orjson
import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from fastapi.routing import iter_route_contexts
from starlette.exceptions import HTTPException

from notification_engine.domain.errors import (
    EngineError,
    Forbidden,
    InvalidRequest,
    RateLimited,
    RequestError,
    Unauthenticated,
    Unavailable,
)

MEDIA_TYPE = "application/problem+json"


def problem(status: int, kind: str, title: str, detail: str, **more: Any) -> dict[str, Any]:
    request_id = structlog.contextvars.get_contextvars().get("request_id")
    body = {"type": f"urn:notification-engine:problem:{kind}", "title": title, "status": status, "detail": detail}
    return body | {k: v for k, v in (more | {"request_id": request_id}).items() if v is not None}


def problem_of(error: EngineError) -> dict[str, Any]:
    if isinstance(error, RequestError):
        errors = [{"field": error.field, "detail": error.detail}] if error.field else None
        place = {"line": error.line, "column": error.column} if isinstance(error, InvalidRequest) else {}
        return problem(error.status, error.kind, error.title, error.detail, field=error.field, errors=errors, **place)
    detail = error.detail if isinstance(error, Unavailable) else "The engine could not answer."
    return problem(503, "unavailable", "Unavailable", detail)


def problem_of_validation(errors: Sequence[Any], parts: tuple[str, ...] = ()) -> dict[str, Any]:
    """Names each field as a dotted path, without the part of the request it came in; no value given is repeated."""
    named = [_named(error, parts) for error in errors]
    first = named[0]
    text = f"{first['field']}: {first['detail']}" if first["field"] else first["detail"]
    return problem(422, "invalid-request", "Invalid request", text, field=first["field"] or None, errors=named)


def _named(error: Any, parts: tuple[str, ...]) -> dict[str, str]:
    if error.get("type") == "json_invalid" and "error" in error.get("ctx", {}):  # its place in the body is no field
        return {"field": "", "detail": f"The body is not JSON that is taken here: {error['ctx']['error']}."}
    path = [str(p) for p in error["loc"]]
    if path and path[0] in parts:
        path = path[1:]
    text = str(error["msg"]).removeprefix("Value error, ")
    if not path and ": " in text:
        field, _, text = text.partition(": ")
        return {"field": field, "detail": text}
    return {"field": ".".join(path), "detail": text}


def defect() -> dict[str, Any]:
    return problem(500, "internal", "Internal error", "The engine failed; the request id names the log line.")


def respond(body: dict[str, Any], **headers: str) -> Response:
    return Response(orjson.dumps(body), status_code=body["status"], media_type=MEDIA_TYPE, headers=headers)


def install(app: FastAPI, denied: Callable[[Request], None] = lambda request: None) -> None:
    """`denied` is told of each 403."""

    @app.exception_handler(EngineError)
    async def _engine(request: Request, error: EngineError) -> Response:
        headers = {"Retry-After": str(error.retry_after)} if isinstance(error, Unavailable | RateLimited) else {}
        if isinstance(error, Unauthenticated):
            headers["WWW-Authenticate"] = "Bearer"
        if isinstance(error, Forbidden):
            denied(request)
        return respond(problem_of(error), **headers)

    @app.exception_handler(RequestValidationError)
    async def _invalid(request: Request, error: RequestValidationError) -> Response:
        return respond(problem_of_validation(error.errors(), ("body", "query", "path", "header")))

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> Response:
        cause = error.__cause__
        if isinstance(cause, EngineError):  # the framework makes a 400 of what is raised while it reads a body
            return respond(problem_of(cause))
        if error.status_code == 400 and cause is not None:  # its own, for a body that is no UTF-8
            return respond(problem_of(InvalidRequest("The body cannot be read; send JSON in UTF-8.")))
        title = HTTPStatus(error.status_code).phrase
        kind = title.lower().replace(" ", "-")
        headers = dict(error.headers or {})
        if error.status_code == 405:
            headers["Allow"] = ", ".join(_allowed(request))
        return respond(problem(error.status_code, kind, title, str(error.detail)), **headers)


def _allowed(request: Request) -> list[str]:
    """The methods of the path: the framework names those of one route, and each of ours has one method."""
    routes = [r for r in iter_route_contexts(request.app.routes) if r.methods and r.path_regex.match(request.url.path)]
    return sorted({method for route in routes if route.path == routes[0].path for method in route.methods or ()})


PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"description": text, "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}}
    for status, text in {
        401: "No valid token.",
        403: "The role is missing.",
        404: "Not there, or not the caller's.",
        409: "It conflicts with what is stored or under way.",
        413: "The body is too large.",
        422: "A field is wrong; the answer names it.",
        429: "Too many requests of this class; again after Retry-After.",
        503: "Nothing was promised; send the same request again after Retry-After.",
    }.items()
}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {status: PROBLEMS[status] for status in statuses}
