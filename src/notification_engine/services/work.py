"""Work: one delivery in the hands of a lane."""

import time
from dataclasses import dataclass, field

from notification_engine.domain.delivery import Delivery, DeliveryStatus
from notification_engine.domain.notification import Notification
from notification_engine.domain.outcome import Message


@dataclass(slots=True)
class Work:
    """One delivery in the hands of a lane, under one fence. `solo`: it runs alone behind a mark."""

    notification: Notification
    delivery: Delivery
    fence: int
    solo: bool = False
    message: Message | None = None  # made by `Send` when it is first asked for
    since: int = field(default_factory=time.time_ns)  # in this lane; nanoseconds of the epoch

    @property
    def attempt(self) -> int:
        return self.delivery.attempts + 1

    @property
    def resend(self) -> bool:
        """Whether an unknown outcome of it was already met with one more send."""
        return self.delivery.status is DeliveryStatus.UNKNOWN or bool((self.delivery.mark or {}).get("resend"))
