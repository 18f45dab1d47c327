"""One call of a provider, as a step of the notification's trace."""

from collections.abc import Awaitable

from notification_engine.domain.outcome import Accepted, Delivered, Outcome
from notification_engine.kit import tracing


async def called(provider: str, call: Awaitable[Outcome]) -> Outcome:
    with tracing.span("provider call", "client", {"notification.provider": provider}):
        outcome = await call
        reason = None if isinstance(outcome, Accepted | Delivered) else str(outcome.reason)
        told = {"notification.outcome": type(outcome).__name__.lower(), "notification.reason": reason}
        tracing.note(told, failed=reason is not None)
        return outcome
