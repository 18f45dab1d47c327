"""E-mail: a list of providers in order, each behind its breaker and its rate.

A failure that is about the provider moves on to the next within the same round, each call told in the history; one that
is about the message ends it; an unknown outcome is never handed to another provider. Where nobody could be asked, the
delivery is postponed and no round is counted.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from notification_engine.channels.calls import called
from notification_engine.channels.email.attachments import Attacher
from notification_engine.channels.email.breaker import Breaker
from notification_engine.channels.email.bucket import TokenBucket
from notification_engine.channels.email.provider import EmailProvider
from notification_engine.domain.delivery import Channel, Reason
from notification_engine.domain.errors import Unavailable
from notification_engine.domain.outcome import (
    Delivered,
    Message,
    Outcome,
    PassedOver,
    Postponed,
    Rejected,
    Retry,
    Unknown,
)
from notification_engine.domain.template import RenderFailed
from notification_engine.rendering.plain import Email, render_email, unsubscribe_headers
from notification_engine.services.ports import Deadline

PATIENCE_SECONDS = 5.0  # how long a delivery holds its slot while it waits for a token
RENDERER_REST_SECONDS = 5.0
Render = Callable[[Message], Awaitable[Email | RenderFailed]]


async def plainly(message: Message) -> Email | RenderFailed:
    return render_email(message)


@dataclass(frozen=True, slots=True)
class Relay:
    """A provider with what guards it; `timeout_seconds` bounds one call."""

    provider: EmailProvider
    breaker: Breaker
    bucket: TokenBucket
    timeout_seconds: float

    async def call(self, email: Email, deadline: Deadline) -> Outcome:
        """One call, and what the breaker and the bucket learn from it."""
        ok = False
        try:
            until = min(deadline.at, time.monotonic() + self.timeout_seconds)
            outcome = await called(self.provider.name, self.provider.send(email, Deadline(until)))
            limited = isinstance(outcome, Retry) and outcome.reason is Reason.RATE_LIMITED
            ok = limited or not isinstance(outcome, Retry | Unknown)
            if limited and isinstance(outcome, Retry):
                self.bucket.rest(outcome.after or 1.0)
            return outcome
        finally:
            self.breaker.record(ok=ok)


class EmailChannel:
    name = Channel.EMAIL
    repeatable = False

    def __init__(
        self,
        relays: Sequence[Relay],
        attacher: Attacher,
        *,
        attempt_seconds: float,
        render: Render = plainly,
        unsubscribe_url: Callable[[Message], str] | None = None,
    ) -> None:
        """`unsubscribe_url` makes the link of one e-mail; None where the engine has no public address."""
        self.relays = relays
        self._attacher = attacher
        self._render = render
        self._unsubscribe_url = unsubscribe_url
        self.attempt_seconds = attempt_seconds

    @property
    def provider_names(self) -> list[str]:
        return [relay.provider.name for relay in self.relays]

    def host(self, message: Message) -> str:
        return ""

    def breakers(self) -> dict[str, dict[str, object]]:
        return {relay.provider.name: relay.breaker.shown() for relay in self.relays}

    async def close(self) -> None:
        for relay in self.relays:
            await relay.provider.close()

    async def send(self, message: Message, deadline: Deadline) -> Outcome:
        if not message.endpoint:
            return Rejected(Reason.NO_ADDRESS, "engine")
        email = await self._rendered(self._linked(message), deadline)
        if not isinstance(email, Email):
            return email
        if message.attachments:
            attached = await self._attacher.attach(message.attachments, deadline)
            if not isinstance(attached, tuple):
                return attached
            email = replace(email, attachments=attached)
        return await self._round(email, deadline)

    def _linked(self, message: Message) -> Message:
        """What is transactional carries no way to switch it off."""
        if message.transactional or self._unsubscribe_url is None:
            return message
        return replace(message, unsubscribe_url=self._unsubscribe_url(message))

    async def _rendered(self, message: Message, deadline: Deadline) -> Email | Rejected | Postponed:
        """Nothing has left the house yet, so whatever is not the template's own fault costs no round."""
        try:
            async with asyncio.timeout(max(0.001, deadline.at - time.monotonic())):
                email = await self._render(message)
        except (Unavailable, TimeoutError):
            return Postponed(Reason.SERVER_ERROR, RENDERER_REST_SECONDS, "engine", "the renderer was not available")
        if isinstance(email, RenderFailed):
            return Rejected(Reason.TEMPLATE_ERROR, "engine", email.detail)
        headers = unsubscribe_headers(message.unsubscribe_url)
        return replace(email, headers=email.headers + headers) if headers else email

    async def _round(self, email: Email, deadline: Deadline) -> Outcome:
        passed: list[PassedOver] = []
        waits: list[Postponed] = []
        last: Retry | None = None
        for relay in self.relays:
            name = relay.provider.name
            if not relay.breaker.allows():
                waits.append(Postponed(Reason.BREAKER_OPEN, max(1.0, relay.breaker.seconds_left), name))
                passed.append(PassedOver(name, Reason.BREAKER_OPEN, 0.0))
                continue
            if (rest := relay.bucket.rests) > PATIENCE_SECONDS:  # it refuses for now, as the call that told us so
                relay.breaker.release()
                waits.append(Postponed(Reason.RATE_LIMITED, rest, name))
                passed.append(PassedOver(name, Reason.RATE_LIMITED, 0.0))
                continue
            wait = relay.bucket.take(PATIENCE_SECONDS)
            if wait > PATIENCE_SECONDS:
                relay.breaker.release()
                waits.append(Postponed(Reason.RATE_LIMITED, wait, name))
                break  # our own limit is no failure of the provider: the next one is not for that
            if wait:
                await asyncio.sleep(wait)
            started = time.perf_counter()
            outcome = await relay.call(email, deadline)
            if not isinstance(outcome, Retry):
                return _with(outcome, passed)
            last = outcome
            latency = (time.perf_counter() - started) * 1000
            passed.append(PassedOver(name, outcome.reason, latency, outcome.detail))
        if last is not None:
            return _exhausted(last, passed, waits)
        return min(waits, key=lambda w: w.after) if waits else Retry(Reason.NO_PROVIDER, "engine")


def _with(outcome: Outcome, passed: Sequence[PassedOver]) -> Outcome:
    if not passed or isinstance(outcome, Delivered | Postponed):
        return outcome
    return replace(outcome, passed_over=tuple(passed))


def _exhausted(last: Retry, passed: Sequence[PassedOver], waits: Sequence[Postponed]) -> Retry:
    """The round failed: the last provider that was asked is its attempt, the others are told beside it."""
    index = max(i for i, call in enumerate(passed) if call.provider == last.provider)
    others = tuple(call for i, call in enumerate(passed) if i != index)
    wish = [w.after for w in waits if w.reason is Reason.RATE_LIMITED] + ([last.after] if last.after else [])
    return replace(last, after=min(wish) if wish else None, passed_over=others)
