"""What providers report of deliveries."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from notification_engine.domain.feedback import ProviderEvent


@dataclass(frozen=True, slots=True)
class Addressee:
    """What feedback needs to know of a delivery."""

    document_id: str
    delivery_id: str
    user_id: str
    notification_type: str
    transactional: bool
    address: str | None
    traceparent: str | None = None


class FeedbackStore(Protocol):
    """Events of providers as they came, and which requests were answered already."""

    async def record(self, events: Sequence[ProviderEvent]) -> set[str]:
        """Keeps what is not kept yet; the ids of those whose consequences are not all written."""
        ...

    async def addressees(self, delivery_ids: Sequence[str]) -> dict[str, Addressee]:
        """E-mail deliveries by their ids; those that are not there are left out."""
        ...

    async def applied(self, events: Sequence[ProviderEvent], matched: set[str]) -> None: ...
    async def seen(self, digest: str) -> bool: ...
    async def remember(self, digest: str, until: datetime) -> None: ...
