"""Watches how webhook endpoints fare: one that is gone, or has failed for five days, is disabled and its owner told.

The notice is a notification of the engine's own, so it takes the owner's preferences and is explained like any other.
"""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

from notification_engine.domain.caller import Caller, Role
from notification_engine.domain.delivery import Channel
from notification_engine.domain.errors import EngineError
from notification_engine.domain.outcome import Delivered, Outcome, Postponed, Rejected
from notification_engine.domain.webhook import WebhookEndpoint
from notification_engine.kit.clock import Clock
from notification_engine.kit.logging import get_logger
from notification_engine.services.ports import EndpointStore
from notification_engine.services.requests import AcceptedEvent, NotificationRequest, RecipientRequest

FAILING_LIMIT = timedelta(days=5)
NOTICE = "integration.webhook_disabled"
ENGINE = Caller("notification-engine", frozenset({Role.SERVICE}), float("inf"))
_SENTENCES = {
    "endpoint_gone": "It answered 410 Gone.",
    "endpoint_failing": f"No call has succeeded for {FAILING_LIMIT.days} days.",
}

Accept = Callable[[Caller, NotificationRequest], Awaitable[AcceptedEvent]]
log = get_logger("service-layer")


class EndpointWatch:
    """`accept` sends the notice; what goes wrong here is logged and disturbs no delivery."""

    def __init__(self, endpoints: EndpointStore, clock: Clock, accept: Accept) -> None:
        self._endpoints = endpoints
        self._clock = clock
        self._accept = accept

    async def observe(self, channel: Channel, endpoint_id: str | None, outcome: Outcome) -> None:
        if channel is not Channel.WEBHOOK or not endpoint_id or isinstance(outcome, Postponed):
            return
        try:
            if reason := await self._verdict(endpoint_id, outcome):
                await self._disable(endpoint_id, reason)
        except EngineError as error:
            log.warning("An endpoint's state was not kept", webhook_id=endpoint_id, error=str(error))

    async def _verdict(self, endpoint_id: str, outcome: Outcome) -> str | None:
        """Why to disable it, if so."""
        if isinstance(outcome, Rejected) and outcome.disable_endpoint:
            return "endpoint_gone"
        since = await self._endpoints.observe(endpoint_id, ok=isinstance(outcome, Delivered))
        failing = since is not None and self._clock.now() - since >= FAILING_LIMIT
        return "endpoint_failing" if failing else None

    async def _disable(self, endpoint_id: str, reason: str) -> None:
        """Whoever disables it tells the owner: once, though many deliveries may find out together."""
        endpoint = await self._endpoints.disable(endpoint_id, reason)
        if endpoint is None:
            return
        log.warning("A webhook endpoint was disabled", webhook_id=endpoint_id, reason=reason)
        if endpoint.owner is not None:
            await self._accept(ENGINE, notice(endpoint, endpoint.owner, reason, self._clock.now().isoformat()))


def notice(endpoint: WebhookEndpoint, owner: str, reason: str, at: str) -> NotificationRequest:
    data: dict[str, Any] = {
        "endpoint": {"id": endpoint.id, "url": endpoint.url, "description": endpoint.description},
        "reason": _SENTENCES[reason],
        "disabled_at": at,
    }
    return NotificationRequest(
        notification_type=NOTICE,
        recipients=(RecipientRequest(owner, channels=(Channel.IN_APP,)),),
        title=None,
        body=None,
        fingerprint="",
        data=data,
    )
