"""A webhook endpoint as the engine needs it to plan and to send."""

from dataclasses import dataclass
from datetime import datetime

from notification_engine.domain.preference import matches


@dataclass(frozen=True, slots=True)
class WebhookEndpoint:
    """`secret` is the Standard Webhooks signing secret (`whsec_...`), decrypted; it is never logged. After a rotation
    the previous one signs too, until `previous_until`. `failing_since`: no call has succeeded since then. `owner` is
    told when the endpoint is disabled."""

    id: str
    url: str
    notification_types: tuple[str, ...]
    secret: str
    description: str = ""
    enabled: bool = True
    disabled_reason: str | None = None
    created_at: datetime | None = None
    previous_secret: str | None = None
    previous_until: datetime | None = None
    failing_since: datetime | None = None
    owner: str | None = None

    def secrets(self, now: datetime) -> tuple[str, ...]:
        """Those that sign at this moment, the newest first."""
        overlaps = self.previous_secret is not None and self.previous_until is not None and now < self.previous_until
        return (self.secret, self.previous_secret) if overlaps and self.previous_secret else (self.secret,)

    def wants(self, notification_type: str) -> bool:
        return self.enabled and any(matches(p, notification_type) for p in self.notification_types)
