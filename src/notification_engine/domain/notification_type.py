"""A notification type: what a request that says nothing gets, and what becomes of an outcome that nobody knows."""

from dataclasses import dataclass
from datetime import datetime

from notification_engine.domain.delivery import Channel
from notification_engine.domain.notification import OnUnknown, Priority


@dataclass(frozen=True, slots=True)
class NotificationType:
    """`on_unknown` None: by the priority. `transactional`: the recipient asked for it by acting (a password reset), so
    it carries no way to unsubscribe. `template`: the key that fills title, body and e-mail. `retention_days`: how long
    its notifications are kept once they ended; None: as the setting says, 0: without end. `sensitive`: texts and data
    are stored sealed, and only the recipient reads them."""

    name: str
    description: str = ""
    channels: tuple[Channel, ...] = (Channel.IN_APP,)
    priority: Priority = Priority.MEDIUM
    on_unknown: OnUnknown | None = None
    transactional: bool = False
    template: str | None = None
    retention_days: int | None = None
    builtin: bool = False
    overridden: bool = False
    updated_at: datetime | None = None
    sensitive: bool = False
