"""E-mail: a list of providers in order.

A failure that is about the provider moves on to the next within the same round; one that is about the message ends it;
an unknown outcome is never handed to another provider.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

from notification_engine.channels.email.provider import EmailProvider
from notification_engine.domain.delivery import Channel, Reason
from notification_engine.domain.errors import Unavailable
from notification_engine.domain.outcome import Message, Outcome, Rejected, Retry
from notification_engine.domain.template import RenderFailed
from notification_engine.rendering.plain import Email, render_email
from notification_engine.services.ports import Deadline

Render = Callable[[Message], Awaitable[Email | RenderFailed]]


async def plainly(message: Message) -> Email | RenderFailed:
    return render_email(message)


class EmailChannel:
    name = Channel.EMAIL
    repeatable = False

    def __init__(self, providers: Sequence[EmailProvider], *, attempt_seconds: float, render: Render = plainly) -> None:
        self._providers = providers
        self._render = render
        self.attempt_seconds = attempt_seconds

    @property
    def provider_names(self) -> list[str]:
        return [provider.name for provider in self._providers]

    def host(self, message: Message) -> str:
        return ""

    async def send(self, message: Message, deadline: Deadline) -> Outcome:
        if not message.endpoint:
            return Rejected(Reason.NO_ADDRESS, "engine")
        email = await self._rendered(message, deadline)
        if not isinstance(email, Email):
            return email
        outcome: Outcome = Retry(Reason.NO_PROVIDER, "engine")
        for provider in self._providers:
            outcome = await provider.send(email, deadline)
            if not isinstance(outcome, Retry):
                break
        return outcome

    async def _rendered(self, message: Message, deadline: Deadline) -> Email | Rejected | Retry:
        """Nothing has left the house yet, so whatever is not the template's own fault is tried again."""
        try:
            async with asyncio.timeout(max(0.001, deadline.at - time.monotonic())):
                email = await self._render(message)
        except (Unavailable, TimeoutError):
            return Retry(Reason.SERVER_ERROR, "engine", detail="the renderer was not available")
        if isinstance(email, RenderFailed):
            return Rejected(Reason.TEMPLATE_ERROR, "engine", email.detail)
        return email
