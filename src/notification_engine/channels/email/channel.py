"""E-mail: a list of providers in order.

A failure that is about the provider moves on to the next within the same round; one that is about the message ends it;
an unknown outcome is never handed to another provider.
"""

from collections.abc import Sequence

from notification_engine.channels.email.provider import EmailProvider
from notification_engine.domain.delivery import Channel, Reason
from notification_engine.domain.outcome import Message, Outcome, Rejected, Retry
from notification_engine.rendering.plain import render_email
from notification_engine.services.ports import Deadline


class EmailChannel:
    name = Channel.EMAIL
    repeatable = False

    def __init__(self, providers: Sequence[EmailProvider], *, attempt_seconds: float) -> None:
        self._providers = providers
        self.attempt_seconds = attempt_seconds

    @property
    def provider_names(self) -> list[str]:
        return [provider.name for provider in self._providers]

    def host(self, message: Message) -> str:
        return ""

    async def send(self, message: Message, deadline: Deadline) -> Outcome:
        if not message.endpoint:
            return Rejected(Reason.NO_ADDRESS, "engine")
        email = render_email(message)
        outcome: Outcome = Retry(Reason.NO_PROVIDER, "engine")
        for provider in self._providers:
            outcome = await provider.send(email, deadline)
            if not isinstance(outcome, Retry):
                break
        return outcome
