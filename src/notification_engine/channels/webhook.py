"""Webhook: Standard Webhooks. The receiver deduplicates by `webhook-id`, so every uncertain outcome retries."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from urllib.parse import urlsplit

import aiohttp
import orjson
from standardwebhooks.webhooks import Webhook

from notification_engine.channels.http_status import outcome_of_status
from notification_engine.domain.delivery import Channel, Reason
from notification_engine.domain.outcome import Message, Outcome, Rejected, Retry
from notification_engine.domain.webhook import WebhookEndpoint
from notification_engine.net.guard import BlockedAddress
from notification_engine.services.ports import Deadline, EndpointStore

MAX_ANSWER_BYTES = 64 * 1024
PROVIDER = "webhook"


class WebhookChannel:
    name = Channel.WEBHOOK
    repeatable = True

    def __init__(
        self, session: Callable[[], aiohttp.ClientSession], endpoints: EndpointStore, *, timeout_seconds: float
    ) -> None:
        self._session = session
        self._endpoints = endpoints
        self._hosts: dict[str, str] = {}
        self.attempt_seconds = timeout_seconds

    def host(self, message: Message) -> str:
        """Known after the endpoint's first send; until then the endpoint stands for it."""
        return self._hosts.get(message.endpoint or "", message.endpoint or "")

    async def send(self, message: Message, deadline: Deadline) -> Outcome:
        if message.template is not None and message.template.failed:
            return Rejected(Reason.TEMPLATE_ERROR, PROVIDER, f"{message.template.key}: no text at accept")
        endpoint = await self._endpoints.find(message.endpoint or "")
        if endpoint is None or not endpoint.enabled:
            return Rejected(Reason.ENDPOINT_DISABLED, PROVIDER)
        if len(self._hosts) < 10_000:
            self._hosts[endpoint.id] = urlsplit(endpoint.url).hostname or endpoint.id
        return await self.post(endpoint, message, deadline)

    async def post(self, endpoint: WebhookEndpoint, message: Message, deadline: Deadline) -> Outcome:
        """One signed call of one endpoint, within the deadline in all."""
        body = payload(message)
        timeout = aiohttp.ClientTimeout(total=max(0.001, deadline.at - time.monotonic()))
        try:
            async with self._session().post(
                endpoint.url,
                data=body,
                headers=signed_headers(endpoint.secret, message.delivery_id, body),
                timeout=timeout,
                allow_redirects=False,
            ) as answer:
                await answer.content.read(MAX_ANSWER_BYTES)
                return outcome_of_status(answer.status, PROVIDER, answer.headers.get("Retry-After"), datetime.now(UTC))
        except TimeoutError:
            return Retry(Reason.TIMEOUT, PROVIDER)
        except aiohttp.ClientConnectorError as error:
            if isinstance(error.os_error, BlockedAddress):
                return Rejected(Reason.BLOCKED_ADDRESS, PROVIDER)
            return Retry(Reason.CONNECTION_FAILED, PROVIDER, detail=type(error).__name__)
        except aiohttp.InvalidURL:
            return Rejected(Reason.INVALID_ADDRESS, PROVIDER)
        except (aiohttp.ClientError, OSError) as error:
            return Retry(Reason.CONNECTION_LOST, PROVIDER, detail=type(error).__name__)


def payload(message: Message) -> bytes:
    """The body as Standard Webhooks recommends: type, timestamp, data."""
    return orjson.dumps(
        {
            "type": message.notification_type,
            "timestamp": message.created_at,
            "data": {
                "notification_id": message.notification_id,
                "event_id": message.event_id,
                "user_id": message.user_id,
                "priority": message.priority,
                "title": message.title,
                "body": message.body,
                "data": message.data,
                "actions": [{"label": a.label, "url": a.url} for a in message.actions],
                "correlation_id": message.correlation_id,
            },
        },
        option=orjson.OPT_NON_STR_KEYS,
    )


def signed_headers(secret: str, message_id: str, body: bytes) -> dict[str, str]:
    now = datetime.now(UTC)
    signature = Webhook(secret).sign(message_id, now, body.decode())
    return {
        "content-type": "application/json",
        "user-agent": "notification-engine",
        "webhook-id": message_id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": signature,
    }
