"""What the e-mail channel asks of a vendor."""

from typing import Protocol

from notification_engine.channels.email.credentials import Tried
from notification_engine.domain.outcome import Outcome
from notification_engine.rendering.plain import Email
from notification_engine.services.ports import Deadline


class EmailProvider(Protocol):
    """Answers `Retry` for what is about the vendor (the next provider is asked), `Rejected` for what is about the
    message, `Unknown` when the vendor may have it."""

    name: str

    async def send(self, email: Email, deadline: Deadline) -> Outcome: ...
    async def try_credentials(self, seconds: float) -> Tried: ...
    async def close(self) -> None: ...
