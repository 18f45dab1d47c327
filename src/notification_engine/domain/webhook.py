"""A webhook endpoint as the engine needs it to plan and to send."""

from dataclasses import dataclass
from datetime import datetime

from notification_engine.domain.preference import matches


@dataclass(frozen=True, slots=True)
class WebhookEndpoint:
    """`secret` is the Standard Webhooks signing secret (`whsec_...`), decrypted; it is never logged."""

    id: str
    url: str
    notification_types: tuple[str, ...]
    secret: str
    description: str = ""
    enabled: bool = True
    disabled_reason: str | None = None
    created_at: datetime | None = None

    def wants(self, notification_type: str) -> bool:
        return self.enabled and any(matches(p, notification_type) for p in self.notification_types)
