"""What people do to deliveries, dead letters before all."""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from notification_engine.domain.caller import Caller
from notification_engine.domain.delivery import Channel, Delivery, Reason
from notification_engine.domain.notification import Notification
from notification_engine.services.ports.paging import Page


@dataclass(frozen=True, slots=True)
class DeadLetterFilter:
    """Every criterion that is given must hold; times are those at which the delivery became a dead letter."""

    notification_type: str | None = None
    channel: Channel | None = None
    endpoint: str | None = None
    reason: Reason | None = None
    since: datetime | None = None
    until: datetime | None = None
    delivery_ids: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A delivery that will not be tried again by itself, and the document that holds it."""

    notification: Notification
    delivery: Delivery


@dataclass(frozen=True, slots=True)
class Intervened:
    """What became of one batch: deliveries changed, and dead letters left alone because a lane holds their document.
    `more`: there may be others."""

    changed: int
    skipped: int
    more: bool


class InterventionStore(Protocol):
    """What people do to deliveries: each call is one transaction with its history rows and its audit row."""

    async def cancel(self, caller: Caller, notification_id: str) -> Notification:
        """Raises NotFound, and Conflict once a lane holds it or it has ended."""
        ...

    async def dead_letters(self, query: DeadLetterFilter, cursor: str | None, limit: int) -> Page: ...
    async def dead_letter(self, delivery_id: str) -> DeadLetter: ...
    async def replay(self, caller: Caller, query: DeadLetterFilter, limit: int) -> Intervened: ...
    async def discard(self, caller: Caller, query: DeadLetterFilter, limit: int) -> Intervened: ...
