import json
import time
from datetime import UTC, datetime
from typing import Any, NoReturn

import pytest
from standardwebhooks import Webhook, WebhookVerificationError
from tests.unit.builders import SECRET, ULID, a_message, an_endpoint

from notification_engine.channels.webhook import WebhookChannel, payload, signed_headers
from notification_engine.domain.delivery import Reason
from notification_engine.domain.notification import Action
from notification_engine.domain.outcome import Rejected
from notification_engine.domain.webhook import WebhookEndpoint
from notification_engine.services.ports import Deadline


class Endpoints:
    def __init__(self, *endpoints: WebhookEndpoint) -> None:
        self._by_id = {e.id: e for e in endpoints}

    async def enabled(self) -> list[WebhookEndpoint]:
        return list(self._by_id.values())

    async def find(self, endpoint_id: str) -> WebhookEndpoint | None:
        return self._by_id.get(endpoint_id)

    async def disable(self, endpoint_id: str, reason: str) -> None: ...


def no_session() -> NoReturn:
    raise AssertionError("nobody is to be called")


def test_the_body_is_what_the_page_shows() -> None:
    message = a_message(
        data={"run": 7, "when": datetime(2026, 3, 1, tzinfo=UTC)},
        actions=(Action("Open", "https://x.example/7"),),
        correlation_id="c1",
    )
    body: dict[str, Any] = json.loads(payload(message))
    assert list(body) == ["type", "timestamp", "data"]
    assert body["type"] == "test_execution.completed"
    assert datetime.fromisoformat(body["timestamp"]) == message.created_at
    assert body["data"] == {
        "notification_id": f"ntfy_{ULID}",
        "event_id": f"evt_{ULID}",
        "user_id": "u1",
        "priority": "medium",
        "title": "Run 7 has ended",
        "body": "All 41 tests passed.",
        "data": {"run": 7, "when": "2026-03-01T00:00:00+00:00"},
        "actions": [{"label": "Open", "url": "https://x.example/7"}],
        "correlation_id": "c1",
    }


def test_the_body_holds_no_other_address_of_the_recipient() -> None:
    assert b"ada@example.org" not in payload(a_message(endpoint="ada@example.org"))


def test_a_receiver_verifies_the_signature_with_the_public_library() -> None:
    body = payload(a_message(title="Grüße 🚀"))
    headers = signed_headers(an_endpoint(), "dlv_1_0", body)
    assert Webhook(SECRET).verify(body, headers)["data"]["title"] == "Grüße 🚀"
    assert headers["webhook-id"] == "dlv_1_0"
    assert abs(int(headers["webhook-timestamp"]) - time.time()) < 60


@pytest.mark.parametrize("changed", ["webhook-id", "webhook-timestamp", "webhook-signature"])
def test_a_changed_header_or_body_fails_the_signature(changed: str) -> None:
    body = payload(a_message())
    headers = signed_headers(an_endpoint(), "dlv_1_0", body)
    other = {"webhook-id": "dlv_1_1", "webhook-timestamp": str(int(time.time()) - 1), "webhook-signature": "v1,AAAA"}
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(body, headers | {changed: other[changed]})
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(body + b" ", headers)


def test_a_header_holds_no_secret() -> None:
    assert not any(SECRET.removeprefix("whsec_") in v for v in signed_headers(an_endpoint(), "dlv_1_0", b"{}").values())


@pytest.mark.parametrize("endpoints", [(), (an_endpoint(enabled=False),), (an_endpoint(id="whk_2"),)])
async def test_an_endpoint_that_is_gone_or_disabled_is_not_called(endpoints: tuple[WebhookEndpoint, ...]) -> None:
    channel = WebhookChannel(no_session, Endpoints(*endpoints), timeout_seconds=5)
    outcome = await channel.send(a_message(endpoint="whk_1"), Deadline(time.monotonic() + 5))
    assert outcome == Rejected(Reason.ENDPOINT_DISABLED, "webhook")


@pytest.mark.parametrize("endpoint", [None, ""])
async def test_a_message_without_an_endpoint_calls_nobody(endpoint: str | None) -> None:
    channel = WebhookChannel(no_session, Endpoints(an_endpoint()), timeout_seconds=5)
    assert channel.host(a_message(endpoint=endpoint)) == ""
    outcome = await channel.send(a_message(endpoint=endpoint), Deadline(time.monotonic() + 5))
    assert isinstance(outcome, Rejected)


async def test_two_endpoints_of_one_host_share_its_slots_once_it_is_known() -> None:
    """Until the first send the endpoint stands for its host."""
    first, second = an_endpoint(id="whk_1"), an_endpoint(id="whk_2", url="https://receiver.example.org:8443/other")
    channel = WebhookChannel(no_session, Endpoints(first, second), timeout_seconds=5)
    messages = [a_message(endpoint=e.id) for e in (first, second)]
    assert [channel.host(m) for m in messages] == ["whk_1", "whk_2"]
    for message in messages:
        with pytest.raises(AssertionError):
            await channel.send(message, Deadline(time.monotonic() + 5))
    assert [channel.host(m) for m in messages] == ["receiver.example.org"] * 2
