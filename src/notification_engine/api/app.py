"""The application: routers, problems, middleware. Static paths come before `/{notification_id}`."""

from copy import deepcopy
from typing import Any

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware

from notification_engine.api import (
    audit,
    callbacks,
    dead_letters,
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
from notification_engine.api.admission import Admission
from notification_engine.api.dependencies import ApiServices
from notification_engine.api.examples import add_examples
from notification_engine.api.middleware import PROBED, BodyLimit, RequestContext, TrustedHosts
from notification_engine.api.models.read import Problem

PREFIX = "/api/v1/notifications"
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
    dead_letters,
    suppressions,
    callbacks,
    unsubscribe,
    live,
    stream,
    notifications,
)


def create_app(services: ApiServices, *, only_health: bool = False) -> FastAPI:
    config = services.config
    app = FastAPI(
        title="IntelliBrowse Notification Engine",
        version=config.version,
        description="Tell this person that: in the app, by e-mail, by signed webhook.",
        generate_unique_id_function=lambda route: "_".join([*map(str, route.tags), route.name]),
    )
    app.state.services = services
    problems.install(app)
    app.include_router(health.root)
    app.include_router(health.router, prefix=PREFIX)
    if not only_health:
        for part in PARTS:
            app.include_router(part.router, prefix=PREFIX)
        app.include_router(notifications.item_router, prefix=PREFIX)
        if config.development:
            app.include_router(page.router)
    if config.cors_enabled:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(config.cors_origins),
            allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
            allow_headers=["Authorization", "Content-Type", "Idempotency-Key", "X-Request-ID"],
            expose_headers=["X-Request-ID", "Link", "Retry-After"],
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
    app.add_middleware(RequestContext)
    _document_problems(app)
    return app


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
                _replace_validation_error(operation.get("responses", {}))
        add_examples(document, PREFIX)
        return document

    app.openapi = openapi  # type: ignore[method-assign]


def _replace_validation_error(responses: dict[str, Any]) -> None:
    content = responses.get("422", {}).get("content", {})
    if "application/json" in content:
        responses["422"] = deepcopy(problems.PROBLEMS[422])
