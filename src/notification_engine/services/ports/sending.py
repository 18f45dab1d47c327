"""A channel, and what it needs to send."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from notification_engine.domain.breaker import BreakerPolicy, BreakerView
from notification_engine.domain.delivery import Channel
from notification_engine.domain.outcome import Message, Outcome
from notification_engine.domain.webhook import WebhookEndpoint


@dataclass(frozen=True, slots=True)
class Deadline:
    """A moment of the monotonic clock, in seconds."""

    at: float


class Sender(Protocol):
    """A channel. `repeatable` says that the receiver can deduplicate, so no write-ahead mark is needed."""

    name: Channel
    repeatable: bool
    attempt_seconds: float

    async def send(self, message: Message, deadline: Deadline) -> Outcome: ...

    def host(self, message: Message) -> str:
        """The key of the share within the lane; the empty string for none."""
        ...


class AttachmentStore(Protocol):
    """Contents under the hash of their bytes."""

    async def keep(self, contents: Sequence[bytes], until: datetime) -> list[str]:
        """Their ids, in order, once a majority has them."""
        ...

    async def load(self, content_ids: Sequence[str]) -> Mapping[str, bytes]: ...


class BreakerStore(Protocol):
    """Where the replicas' breakers meet."""

    async def exchange(self, provider: str, policy: BreakerPolicy, ok: int, failed: int) -> BreakerView:
        """Adds calls that ended since the last exchange; answers what the fleet knows."""
        ...

    async def view(self, provider: str) -> BreakerView: ...


class EndpointStore(Protocol):
    async def enabled(self) -> list[WebhookEndpoint]: ...
    async def find(self, endpoint_id: str) -> WebhookEndpoint | None: ...
    async def disable(self, endpoint_id: str, reason: str) -> WebhookEndpoint | None:
        """The endpoint, when it was this call that disabled it."""
        ...

    async def observe(self, endpoint_id: str, *, ok: bool) -> datetime | None:
        """Keeps since when an endpoint has been failing, and answers it; None while it works."""
        ...
