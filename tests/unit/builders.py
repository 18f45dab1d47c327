"""The smallest values that the rules accept, with what a test adds."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from notification_engine.channels.email.attachments import Attacher
from notification_engine.domain.breaker import BreakerPolicy, BreakerView
from notification_engine.domain.delivery import Channel, Delivery, DeliveryStatus, Reason
from notification_engine.domain.notification import Notification, Priority
from notification_engine.domain.outcome import Attempt, Message
from notification_engine.domain.webhook import WebhookEndpoint
from notification_engine.services.work import Work

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
ULID = "01jnbkz0000000000000000000"


def a_delivery(index: int = 0, channel: Channel = Channel.WEBHOOK, **fields: Any) -> Delivery:
    plain: dict[str, Any] = {"id": f"dlv_{ULID}_{index}", "channel": channel, "created_at": NOW, "updated_at": NOW}
    return Delivery(**plain | fields)


def a_notification(deliveries: Sequence[Delivery] = (), **fields: Any) -> Notification:
    plain: dict[str, Any] = {
        "id": f"ntfy_{ULID}",
        "event_id": f"evt_{ULID}",
        "user_id": "u1",
        "notification_type": "test_execution.completed",
        "priority": Priority.MEDIUM,
        "title": "Run 7 has ended",
        "body": "All 41 tests passed.",
        "channels": [d.channel for d in deliveries],
        "created_at": NOW,
        "deliveries": list(deliveries),
    }
    return Notification(**plain | fields)


def a_work(endpoint: str = "a", priority: Priority = Priority.MEDIUM, *, index: int = 0, solo: bool = False) -> Work:
    """One webhook delivery in the hands of a lane."""
    delivery = a_delivery(index, endpoint=endpoint)
    return Work(a_notification([delivery], priority=priority), delivery, 1, solo)


def a_message(**fields: Any) -> Message:
    plain = Message(
        notification_id=f"ntfy_{ULID}",
        delivery_id=f"dlv_{ULID}_0",
        event_id=f"evt_{ULID}",
        user_id="u1",
        notification_type="test_execution.completed",
        channel=Channel.EMAIL,
        priority=Priority.MEDIUM,
        title="Run 7 has ended",
        body="All 41 tests passed.",
        created_at=NOW,
        endpoint="ada@example.org",
    )
    return replace(plain, **fields)


def an_endpoint(**fields: Any) -> WebhookEndpoint:
    plain = WebhookEndpoint("whk_1", "https://receiver.example.org/in", ("*",), SECRET)
    return replace(plain, **fields)


class FakeHistory:
    """A `HistoryStore` that keeps its rows; `failures` are raised first, one an append."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.batches: list[list[Attempt]] = []

    @property
    def rows(self) -> list[Attempt]:
        return [row for batch in self.batches for row in batch]

    async def append(self, attempts: Sequence[Attempt]) -> None:
        if self.failures:
            raise self.failures.pop(0)
        self.batches.append(list(attempts))


class FakeRecorder:
    """A `Recorder` that counts."""

    def __init__(self) -> None:
        self.accepted_count = 0
        self.attempts: list[tuple[Channel, str, DeliveryStatus | str, Reason | None, float]] = []
        self.ended: list[tuple[Channel, DeliveryStatus, Reason | None, float]] = []
        self.stale_count = 0

    def accepted(self, count: int) -> None:
        self.accepted_count += count

    def attempted(
        self, channel: Channel, provider: str, status: DeliveryStatus | str, reason: Reason | None, latency_ms: float
    ) -> None:
        self.attempts.append((channel, provider, status, reason, latency_ms))

    def settled(self, channel: Channel, status: DeliveryStatus, reason: Reason | None, seconds: float) -> None:
        self.ended.append((channel, status, reason, seconds))

    def stale(self, count: int) -> None:
        self.stale_count += count


class AloneBreakers:
    """A `BreakerStore` of one replica that never opens anything."""

    async def exchange(self, provider: str, policy: BreakerPolicy, ok: int, failed: int) -> BreakerView:
        return BreakerView(ok=ok, failed=failed)

    async def view(self, provider: str) -> BreakerView:
        return BreakerView()


class NoAttachments:
    """An `AttachmentStore` that has kept nothing."""

    async def keep(self, contents: Sequence[bytes], until: datetime) -> list[str]:
        raise AssertionError("nothing is attached here")

    async def load(self, content_ids: Sequence[str]) -> dict[str, bytes]:
        return {}


def no_attacher() -> Attacher:
    def no_session() -> Any:
        raise AssertionError("nothing is fetched here")

    return Attacher(NoAttachments(), no_session)
