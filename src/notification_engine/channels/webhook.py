"""Webhook: Standard Webhooks. The receiver deduplicates by `webhook-id`, so every uncertain outcome retries."""

from datetime import UTC, datetime
from functools import lru_cache
from urllib.parse import urlsplit

import orjson
from standardwebhooks.webhooks import Webhook

from notification_engine.channels.calls import called
from notification_engine.channels.http_status import outcome_of_status
from notification_engine.domain.delivery import Channel, Reason
from notification_engine.domain.outcome import Message, Outcome, Rejected, Retry
from notification_engine.domain.webhook import WebhookEndpoint
from notification_engine.kit.tracing import current_traceparent
from notification_engine.net.exchange import Answered, Lost, NotSent, Session, post
from notification_engine.services.ports import Deadline, EndpointStore

PROVIDER = "webhook"
_HOPELESS = frozenset({Reason.BLOCKED_ADDRESS, Reason.INVALID_ADDRESS})


class WebhookChannel:
    name = Channel.WEBHOOK
    repeatable = True

    def __init__(self, session: Session, endpoints: EndpointStore, *, timeout_seconds: float) -> None:
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
        return await called(PROVIDER, self._post(endpoint, message, deadline))

    async def _post(self, endpoint: WebhookEndpoint, message: Message, deadline: Deadline) -> Outcome:
        body = payload(message)
        headers = signed_headers(endpoint, message.delivery_id, body)
        if (traceparent := current_traceparent()) is not None:
            headers["traceparent"] = traceparent
        match await post(self._session, endpoint.url, body, headers, deadline.at):
            case Answered(status, answer):
                return outcome_of_status(status, PROVIDER, answer.get("Retry-After"), datetime.now(UTC))
            case NotSent(reason, detail) if reason in _HOPELESS:
                return Rejected(reason, PROVIDER, detail)
            case NotSent(reason, detail) | Lost(reason, detail):
                return Retry(reason, PROVIDER, detail=detail)


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


@lru_cache(maxsize=1024)
def _signer(secret: str) -> Webhook:
    """Decoding the secret costs as much as signing with it."""
    return Webhook(secret)


def signed_headers(endpoint: WebhookEndpoint, message_id: str, body: bytes) -> dict[str, str]:
    """Standard Webhooks: one signature a secret, with a space between them."""
    now = datetime.now(UTC)
    text = body.decode()
    signature = " ".join([_signer(secret).sign(message_id, now, text) for secret in endpoint.secrets(now)])
    return {
        "content-type": "application/json",
        "user-agent": "notification-engine",
        "webhook-id": message_id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": signature,
    }
