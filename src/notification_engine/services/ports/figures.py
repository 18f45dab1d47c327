"""The books that are kept of the work."""

from collections.abc import Sequence
from typing import Protocol

from notification_engine.domain.delivery import Channel, DeliveryStatus, Reason
from notification_engine.domain.feedback import EventKind


class Ledger(Protocol):
    """The book of the 202s, kept apart from the notifications."""

    def accepted(self, document_ids: Sequence[str]) -> None: ...


class Recorder(Protocol):
    """The metric registry as the use cases see it; labels are closed sets."""

    def accepted(self, count: int) -> None: ...
    def attempted(
        self, channel: Channel, provider: str, status: DeliveryStatus | str, reason: Reason | None, latency_ms: float
    ) -> None: ...
    def settled(self, channel: Channel, status: DeliveryStatus, reason: Reason | None, seconds: float) -> None: ...
    def stale(self, count: int) -> None: ...
    def reported(self, provider: str, kind: EventKind | None, *, matched: bool) -> None: ...
