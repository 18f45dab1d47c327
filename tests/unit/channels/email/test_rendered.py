"""The e-mail channel and what the renderer answers it: only a sound e-mail reaches a provider."""

import time
from typing import Any

import pytest
from tests.unit.builders import AloneBreakers, a_message, no_attacher

from notification_engine.channels.email.breaker import Breaker
from notification_engine.channels.email.bucket import TokenBucket
from notification_engine.channels.email.channel import EmailChannel, Relay
from notification_engine.channels.in_app import InAppChannel
from notification_engine.channels.webhook import WebhookChannel
from notification_engine.domain.breaker import BreakerPolicy
from notification_engine.domain.delivery import Reason
from notification_engine.domain.errors import Unavailable
from notification_engine.domain.outcome import Accepted, Message, Outcome, Postponed, Rejected
from notification_engine.domain.template import Compiled, Draft, Parts, RenderFailed, TemplateUse, Version
from notification_engine.rendering.email import EmailRenderer
from notification_engine.rendering.plain import Email
from notification_engine.services.ports import Deadline


class FakeProvider:
    name = "fake"

    def __init__(self) -> None:
        self.sent: list[Email] = []

    async def send(self, email: Email, deadline: Deadline) -> Outcome:
        self.sent.append(email)
        return Accepted(self.name)

    async def close(self) -> None: ...


def channel(rendered: Any) -> tuple[EmailChannel, FakeProvider]:
    async def render(message: Message) -> Email | RenderFailed:
        if isinstance(rendered, Exception):
            raise rendered
        return rendered  # type: ignore[no-any-return]

    provider = FakeProvider()
    relay = Relay(provider, Breaker("fake", BreakerPolicy(), AloneBreakers()), TokenBucket(0), 5)
    return EmailChannel([relay], no_attacher(), attempt_seconds=5, render=render), provider


def soon() -> Deadline:
    return Deadline(time.monotonic() + 5)


async def test_a_template_that_does_not_render_is_rejected_for_good() -> None:
    email, provider = channel(RenderFailed("a@1: html: OutOfFuel in line 3"))
    assert await email.send(a_message(), soon()) == Rejected(
        Reason.TEMPLATE_ERROR, "engine", "a@1: html: OutOfFuel in line 3"
    )
    assert provider.sent == []


@pytest.mark.parametrize("error", [Unavailable("full"), TimeoutError()])
async def test_a_renderer_that_is_away_is_asked_again(error: Exception) -> None:
    email, provider = channel(error)
    outcome = await email.send(a_message(), soon())
    assert isinstance(outcome, Postponed)
    assert provider.sent == []


async def test_in_app_and_webhook_without_a_text_are_rejected() -> None:
    message = a_message(template=TemplateUse("a", 1, failed=True))
    webhook: Any = WebhookChannel(lambda: None, None, timeout_seconds=1)  # type: ignore[arg-type, return-value]
    for one in (InAppChannel(), webhook):
        outcome = await one.send(message, soon())
        assert isinstance(outcome, Rejected)
        assert outcome.reason is Reason.TEMPLATE_ERROR


class Rendering:
    """Versions and renderer at once: gives each part back in brackets."""

    def __init__(self, **parts: str) -> None:
        compiled = Compiled.of("en", {"en": parts} if parts else {})
        self._version = Version("a", 1, Draft({"en": Parts()}), compiled)
        self.context: Any = None

    async def version(self, key: str, number: int) -> Version | None:
        return self._version if (key, number) == ("a", 1) else None

    async def render(self, name: str, compiled: Any, parts: Any, context: Any, *_: Any) -> dict[str, str]:
        self.context = context
        return {part: f"[{part}]" for part in parts}


async def email_of(rendering: Rendering, **fields: Any) -> Email | RenderFailed:
    given: Any = rendering
    return await EmailRenderer(given, given).render(a_message(template=TemplateUse("a", 1), **fields))


async def test_the_parts_of_the_template_make_the_e_mail() -> None:
    rendering = Rendering(subject="s", text="t", html="h", title="x")
    email = await email_of(rendering, data={"run": 7}, locale="de")
    assert isinstance(email, Email)
    assert (email.subject, email.text, email.html) == ("[subject]", "[text]", "[html]")
    assert (email.to, rendering.context["run"]) == ("ada@example.org", 7)
    assert rendering.context["notification"]["title"] == "Run 7 has ended"
    assert rendering.context["recipient"] == {"user_id": "u1", "email": "ada@example.org", "locale": "de"}


async def test_what_the_template_lacks_are_the_words_of_the_inbox() -> None:
    email = await email_of(Rendering(text="t"))
    assert isinstance(email, Email)
    assert (email.subject, email.text) == ("Run 7 has ended", "[text]")
    assert "[text]" in email.html


@pytest.mark.parametrize("use", [TemplateUse("a", 2), TemplateUse("gone", 1)])
async def test_a_version_that_is_gone_does_not_render(use: TemplateUse) -> None:
    given: Any = Rendering(text="t")
    assert isinstance(await EmailRenderer(given, given).render(a_message(template=use)), RenderFailed)


async def test_a_message_without_a_template_is_rendered_plainly() -> None:
    given: Any = None
    email = await EmailRenderer(given, given).render(a_message())
    assert isinstance(email, Email)
    assert email.subject == "Run 7 has ended"
