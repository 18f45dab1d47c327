"""The application: routers, problems, middleware. Static paths come before `/{notification_id}`."""

from copy import deepcopy
from typing import Any

from fastapi import FastAPI, Request
from fastapi.middleware.cors import CORSMiddleware

from notification_engine.api import (
    api_keys,
    audit,
    auth,
    callbacks,
    dead_letters,
    docs_pages,
    health,
    history,
    live,
    notifications,
    page,
    preferences,
    problems,
    stream,
    suppressions,
    templates,
    types,
    unsubscribe,
    users,
    webhooks,
)
from notification_engine.api.access import state_access
from notification_engine.api.admission import Admission
from notification_engine.api.client_address import ClientAddress
from notification_engine.api.dependencies import ApiServices, place
from notification_engine.api.examples import add_examples
from notification_engine.api.middleware import PROBED, BodyLimit, RequestContext, TrustedHosts
from notification_engine.api.models.read import Problem
from notification_engine.api.strict_json import strictly
from notification_engine.api.traced import Traced, whole_paths

PREFIX = "/api/v1/notifications"
AUTH_PREFIX = "/api/v1/auth"
MAX_BODY_BYTES = 1024 * 1024
LIMITS = {
    f"{PREFIX}/batch": notifications.MAX_BATCH_BYTES,
    f"{PREFIX}/suppressions/import": suppressions.MAX_IMPORT_BYTES,
}
PARTS = (
    audit,
    users,
    history,
    preferences,
    templates,
    types,
    webhooks,
    api_keys,
    dead_letters,
    suppressions,
    callbacks,
    unsubscribe,
    live,
    stream,
)


def create_app(services: ApiServices, *, only_health: bool = False) -> FastAPI:
    config = services.config
    app = FastAPI(
        title="IntelliBrowse Notification Engine",
        version=config.version,
        docs_url=None,  # served without the internet by `docs_pages`
        redoc_url=None,
        description="Tell this person that: in the app, by e-mail, by signed webhook.",
        # The framework's own would name paths, which hold user ids and tokens; ours is `Traced`.
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
        generate_unique_id_function=lambda route: "_".join([*map(str, route.tags), route.name]),
    )
    app.state.services = services
    problems.install(app, _tell_denied)
    if not only_health:
        app.include_router(strictly(notifications.router), prefix=PREFIX)
    app.include_router(health.root)
    app.include_router(health.router, prefix=PREFIX)
    if not only_health:
        for part in PARTS:
            app.include_router(strictly(part.router), prefix=PREFIX)
        app.include_router(strictly(notifications.item_router), prefix=PREFIX)
        app.include_router(strictly(auth.router), prefix=AUTH_PREFIX)
        app.include_router(docs_pages.router)
        if config.development:
            app.include_router(page.router)
    if config.cors_enabled:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(config.cors_origins),
            allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
            allow_headers=["Authorization", "Content-Type", "Idempotency-Key", "X-API-Key", "X-Request-ID"],
            expose_headers=["X-Request-ID", "Link", "Retry-After", "RateLimit", "RateLimit-Policy"],
        )
    if config.trusted_hosts:
        app.add_middleware(TrustedHosts, hosts=config.trusted_hosts)
    app.add_middleware(BodyLimit, limit=MAX_BODY_BYTES, limits=LIMITS)
    app.add_middleware(
        Admission,
        limit=config.max_in_flight,
        exempt=(f"{PREFIX}/stream", *PROBED),
        accepting=(PREFIX, f"{PREFIX}/", f"{PREFIX}/batch"),
    )
    app.add_middleware(RequestContext, answered=services.answered)
    if config.traces:
        app.add_middleware(Traced, paths=whole_paths(app))
    app.add_middleware(ClientAddress, trusted=config.trusted_proxies, header=config.forwarded_header)
    _document_problems(app)
    return app


def _tell_denied(request: Request) -> None:
    services: ApiServices = request.app.state.services
    services.denials.denied(getattr(request.state, "caller", None), "access.forbidden", place(request))


def _document_problems(app: FastAPI) -> None:
    """Puts the problem schema into the OpenAPI document in the place of FastAPI's own validation error."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        document = generate()
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        schemas["Problem"] = Problem.model_json_schema()
        schemas.pop("HTTPValidationError", None)
        schemas.pop("ValidationError", None)
        for operations in document["paths"].values():
            for operation in operations.values():
                if "health" not in operation["tags"]:
                    operation["responses"]["429"] = deepcopy(problems.PROBLEMS[429])
                _replace_validation_error(operation.get("responses", {}))
        add_examples(document, PREFIX)
        state_access(app, document)
        return document

    app.openapi = openapi  # type: ignore[method-assign]


def _replace_validation_error(responses: dict[str, Any]) -> None:
    content = responses.get("422", {}).get("content", {})
    if "application/json" in content:
        responses["422"] = deepcopy(problems.PROBLEMS[422])
