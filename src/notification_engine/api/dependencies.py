"""What routes are handed: the services, and who calls. Every dependency is a coroutine; a plain one costs a thread."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any, Protocol

from fastapi import Depends, Request
from fastapi.security import HTTPBearer
from starlette.requests import HTTPConnection

from notification_engine.domain.caller import Caller, Role
from notification_engine.domain.errors import Forbidden, Unauthenticated
from notification_engine.domain.outcome import Message, Outcome
from notification_engine.domain.webhook import WebhookEndpoint
from notification_engine.kit.clock import Clock
from notification_engine.realtime.hub import Hub
from notification_engine.security.sendgrid import SendGridSignature
from notification_engine.security.sns import SnsSignature
from notification_engine.security.tokens import Tokens
from notification_engine.services.catalogue import Catalogue
from notification_engine.services.data_protection import DataProtection
from notification_engine.services.feedback import Feedback
from notification_engine.services.intake import Intake
from notification_engine.services.intervene import Intervene
from notification_engine.services.ports import (
    AuditStore,
    Deadline,
    HistoryStore,
    InterventionStore,
    NotificationStore,
    Page,
    PreferenceStore,
    SuppressionStore,
)
from notification_engine.services.templates import Templates
from notification_engine.services.unsubscribe import Unsubscribe


class HealthView(Protocol):
    def ready(self) -> bool: ...
    async def live(self) -> dict[str, Any]: ...
    async def status(self) -> dict[str, Any]: ...
    async def daemon(self) -> dict[str, Any]: ...
    async def channels(self) -> dict[str, Any]: ...
    async def processes(self) -> list[dict[str, Any]]: ...
    async def metrics_json(self) -> dict[str, Any]: ...
    async def metrics_text(self) -> str: ...


class EndpointAdmin(Protocol):
    async def create(self, endpoint: WebhookEndpoint) -> None: ...
    async def page(self, cursor: str | None, limit: int) -> Page: ...
    async def get(self, endpoint_id: str) -> WebhookEndpoint: ...
    async def change(self, endpoint_id: str, values: dict[str, Any]) -> WebhookEndpoint: ...
    async def rotate(self, endpoint_id: str, secret: str, overlap: timedelta) -> WebhookEndpoint: ...
    async def delete(self, endpoint_id: str) -> None: ...


class TicketStore(Protocol):
    async def create(self, caller: Caller) -> str: ...
    async def redeem(self, ticket: str) -> Caller | None: ...


class WebhookTester(Protocol):
    attempt_seconds: float

    async def post(self, endpoint: WebhookEndpoint, message: Message, deadline: Deadline) -> Outcome: ...


@dataclass(frozen=True, slots=True)
class ApiConfig:
    version: str
    development: bool
    cors_origins: tuple[str, ...]
    cors_enabled: bool
    trusted_hosts: tuple[str, ...]
    max_in_flight: int
    heartbeat_seconds: float
    silence_seconds: float
    token_minutes: int


@dataclass(frozen=True, slots=True)
class Callbacks:
    """Who may call back, by what its requests are signed with; None: not configured."""

    clock: Clock
    confirm: Callable[[str], Awaitable[None]]
    sendgrid: SendGridSignature | None = None
    ses: SnsSignature | None = None


@dataclass(frozen=True, slots=True)
class ApiServices:
    intake: Intake
    notifications: NotificationStore
    history: HistoryStore
    interventions: InterventionStore
    intervene: Intervene
    preferences: PreferenceStore
    suppressions: SuppressionStore
    feedback: Feedback
    callbacks: Callbacks
    unsubscribe: Unsubscribe
    endpoints: EndpointAdmin
    templates: Templates
    catalogue: Catalogue
    check_url: Callable[[str], None]
    webhook: WebhookTester
    audit: AuditStore
    data_protection: DataProtection
    tickets: TicketStore
    tokens: Tokens
    hub: Hub
    health: HealthView
    config: ApiConfig


async def services(connection: HTTPConnection) -> ApiServices:
    found: ApiServices = connection.app.state.services
    return found


Services = Annotated[ApiServices, Depends(services)]


class _Authenticated(HTTPBearer):
    """The caller, with one of the roles where some are named. In one dependency: the framework's walk from one to the
    next costs more than the check."""

    def __init__(self, *roles: Role) -> None:
        super().__init__(auto_error=False, scheme_name="HTTPBearer", description="A JWT with `sub`, `roles` and `exp`.")
        self._roles = roles

    async def __call__(self, request: Request) -> Caller:  # type: ignore[override]
        credentials = await super().__call__(request)
        if credentials is None:
            raise Unauthenticated("Send `Authorization: Bearer <token>`.")
        given: ApiServices = request.app.state.services
        caller = given.tokens.verify(credentials.credentials)
        if self._roles and not caller.may(*self._roles):
            needed = dict.fromkeys((*self._roles, Role.ADMIN))
            raise Forbidden(f"One of these roles is needed: {', '.join(needed)}.")
        return caller


AnyCaller = Annotated[Caller, Depends(_Authenticated())]
Sender = Annotated[Caller, Depends(_Authenticated(Role.SERVICE))]
User = Annotated[Caller, Depends(_Authenticated(Role.USER, Role.SERVICE, Role.OPERATOR))]
Canceller = Annotated[Caller, Depends(_Authenticated(Role.SERVICE, Role.OPERATOR))]
Operator = Annotated[Caller, Depends(_Authenticated(Role.OPERATOR))]
Admin = Annotated[Caller, Depends(_Authenticated(Role.ADMIN))]
