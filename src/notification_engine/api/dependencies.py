"""What routes are handed: the services, and who calls. Every dependency is a coroutine; a plain one costs a thread."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any, Protocol

from fastapi import Depends, Request
from fastapi.security import HTTPBearer
from starlette.requests import HTTPConnection

from notification_engine.api.rate_limits import take_for_caller, take_for_stranger
from notification_engine.domain.api_key import looks_like_key
from notification_engine.domain.caller import Caller, Role
from notification_engine.domain.errors import Forbidden, Unauthenticated
from notification_engine.domain.outcome import Message, Outcome
from notification_engine.domain.webhook import WebhookEndpoint
from notification_engine.kit.clock import Clock
from notification_engine.realtime.hub import Hub
from notification_engine.security.sendgrid import SendGridSignature
from notification_engine.security.sns import SnsSignature
from notification_engine.security.tokens import Tokens
from notification_engine.services.access import Access
from notification_engine.services.catalogue import Catalogue
from notification_engine.services.credentials import Credentials
from notification_engine.services.data_protection import DataProtection
from notification_engine.services.denials import Denials
from notification_engine.services.feedback import Feedback
from notification_engine.services.intake import Intake
from notification_engine.services.intervene import Intervene
from notification_engine.services.ports import (
    ApiKeyStore,
    AuditStore,
    Deadline,
    HistoryStore,
    InterventionStore,
    NotificationStore,
    Page,
    PreferenceStore,
    RateLimits,
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


SCHEME = "A JWT with `sub`, `roles` and `exp`, or an API key."


@dataclass(frozen=True, slots=True)
class ApiConfig:
    version: str
    development: bool
    cors_origins: tuple[str, ...]
    cors_enabled: bool
    trusted_hosts: tuple[str, ...]
    trusted_proxies: tuple[str, ...]
    forwarded_header: str
    traces: bool
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
    check_name: Callable[[str], Awaitable[None]]
    webhook: WebhookTester
    audit: AuditStore
    data_protection: DataProtection
    tickets: TicketStore
    tokens: Tokens
    access: Access
    credentials: Credentials
    api_keys: ApiKeyStore
    denials: Denials
    hub: Hub
    limits: RateLimits
    health: HealthView
    answered: Callable[[int, float], None]  # told of each answer: status, seconds
    config: ApiConfig


async def services(connection: HTTPConnection) -> ApiServices:
    found: ApiServices = connection.app.state.services
    return found


Services = Annotated[ApiServices, Depends(services)]


class Authenticated(HTTPBearer):
    """The caller, with one of the roles where some are named. In one dependency: the framework's walk from one to the
    next costs more than the check.

    `owner`: what is not the caller's own, or of its making, is not there for it, unless it is an operator's to see.
    `by_hand`: not for API keys nor for what they are traded for. `x_access` is what the OpenAPI document says of it.
    """

    def __init__(self, *roles: Role, owner: bool = False, by_hand: bool = False) -> None:
        super().__init__(auto_error=False, scheme_name="HTTPBearer", description=SCHEME)
        self._roles = roles
        self._by_hand = by_hand
        named = dict.fromkeys((*roles, Role.ADMIN)) if roles else ()  # none: any token will do
        self.x_access = {"roles": [str(role) for role in named], "owner": owner, "api_keys": not by_hand}

    async def __call__(self, request: Request) -> Caller:  # type: ignore[override]
        """Once a request, however often it is asked: before the body is read (`strict_json`), and by the framework."""
        if getattr(request.state, "checked_by", None) is not self:
            await self._check(request)
            request.state.checked_by = self
        caller: Caller = request.state.caller
        return caller

    async def _check(self, request: Request) -> None:
        given: ApiServices = request.app.state.services
        try:
            caller = await given.access.caller(await self._credential(request))
        except Unauthenticated:
            if "authorization" in request.headers or "x-api-key" in request.headers:
                given.denials.denied(None, "access.unauthenticated", place(request))
            take_for_stranger(request)
            raise
        request.state.caller = caller
        take_for_caller(request, caller.sub)
        if self._roles and not caller.may(*self._roles):
            needed = ", ".join(dict.fromkeys((*self._roles, Role.ADMIN)))
            raise Forbidden(f"One of these roles is needed: {needed}.")
        if self._by_hand and caller.key_id is not None:
            raise Forbidden("Not with an API key: it could outlive its own revocation.")

    async def _credential(self, request: Request) -> str:
        bearer = await super().__call__(request)
        key = request.headers.get("x-api-key")
        if bearer is not None and key is not None:
            raise Unauthenticated("Send one credential, `Authorization` or `X-API-Key`.")
        if key is not None and not looks_like_key(key):
            raise Unauthenticated("`X-API-Key` takes an API key.")
        if bearer is None and key is None:
            raise Unauthenticated("Send `Authorization: Bearer <token>`.")
        return bearer.credentials if bearer is not None else str(key)


class Open:
    """For routes that need no token, and say why."""

    def __init__(self, why: str) -> None:
        self.x_access = {"roles": [], "owner": False, "open": why}

    async def __call__(self) -> None:
        return None


def place(request: Request) -> str:
    """The route, with the names in the place of what stands in its path."""
    names = {value: f"{{{name}}}" for name, value in request.path_params.items()}
    return f"{request.method} {'/'.join(names.get(part, part) for part in request.url.path.split('/'))}"


AnyCaller = Annotated[Caller, Depends(Authenticated(owner=True))]
Sender = Annotated[Caller, Depends(Authenticated(Role.SERVICE))]
User = Annotated[Caller, Depends(Authenticated(Role.USER, Role.SERVICE, Role.OPERATOR, owner=True))]
Canceller = Annotated[Caller, Depends(Authenticated(Role.SERVICE, Role.OPERATOR, owner=True))]
Operator = Annotated[Caller, Depends(Authenticated(Role.OPERATOR))]
Admin = Annotated[Caller, Depends(Authenticated(Role.ADMIN))]
AdminByHand = Annotated[Caller, Depends(Authenticated(Role.ADMIN, by_hand=True))]
