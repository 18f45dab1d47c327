import time

import pytest
from tests.unit.builders import AloneBreakers, a_message, no_attacher

from notification_engine.channels.email.breaker import Breaker
from notification_engine.channels.email.bucket import TokenBucket
from notification_engine.channels.email.channel import EmailChannel, Relay
from notification_engine.channels.email.console import ConsoleProvider
from notification_engine.domain.breaker import BreakerPolicy, BreakerState, BreakerView
from notification_engine.domain.delivery import Reason
from notification_engine.domain.outcome import Accepted, Outcome, Postponed, Rejected, Retry, Unknown
from notification_engine.rendering.plain import Email
from notification_engine.services.ports import Deadline


class Provider:
    """Answers what it was told to."""

    def __init__(self, name: str, outcome: Outcome) -> None:
        self.name = name
        self.outcome = outcome
        self.asked: list[Email] = []

    async def send(self, email: Email, deadline: Deadline) -> Outcome:
        self.asked.append(email)
        return self.outcome

    async def close(self) -> None: ...


def relay(provider: Provider, breaker: Breaker | None = None, bucket: TokenBucket | None = None) -> Relay:
    alone = breaker or Breaker(provider.name, BreakerPolicy(), AloneBreakers())
    return Relay(provider, alone, bucket or TokenBucket(0), 5)


def passed_over(outcome: Outcome) -> list[tuple[str, Reason]]:
    return [(call.provider, call.reason) for call in getattr(outcome, "passed_over", ())]


BUSY = Retry(Reason.SERVER_ERROR, "first")
TAKEN = Accepted("second", "<dlv_1_0@example.org>")


async def sent(*providers: Provider, endpoint: str | None = "ada@example.org") -> Outcome:
    channel = EmailChannel([relay(provider) for provider in providers], no_attacher(), attempt_seconds=5)
    return await channel.send(a_message(endpoint=endpoint), Deadline(time.monotonic() + 5))


async def test_a_failure_of_the_provider_moves_on_to_the_next() -> None:
    first, second = Provider("first", BUSY), Provider("second", TAKEN)
    outcome = await sent(first, second)
    assert isinstance(outcome, Accepted)
    assert (outcome.provider, outcome.provider_message_id) == (TAKEN.provider, TAKEN.provider_message_id)
    assert passed_over(outcome) == [("first", Reason.SERVER_ERROR)]
    assert first.asked == second.asked, "the same e-mail"


@pytest.mark.parametrize(
    "outcome",
    [
        Accepted("first"),
        Rejected(Reason.INVALID_ADDRESS, "first"),
        Unknown(Reason.TIMEOUT, "first"),
        Unknown(Reason.CONNECTION_LOST, "first"),
    ],
    ids=repr,
)
async def test_nobody_else_is_asked_once_the_message_may_be_out_or_is_no_good(outcome: Outcome) -> None:
    second = Provider("second", TAKEN)
    assert await sent(Provider("first", outcome), second) == outcome
    assert second.asked == []


async def test_when_all_fail_the_last_ones_word_counts() -> None:
    last = Retry(Reason.TIMEOUT, "second")
    outcome = await sent(Provider("first", BUSY), Provider("second", last))
    assert isinstance(outcome, Retry)
    assert (outcome.provider, outcome.reason) == ("second", Reason.TIMEOUT)
    assert passed_over(outcome) == [("first", Reason.SERVER_ERROR)]


async def test_where_nobody_may_be_asked_it_is_postponed() -> None:
    breaker = Breaker("first", BreakerPolicy(), AloneBreakers())
    breaker._view = BreakerView(BreakerState.OPEN, open_seconds_left=20)
    provider = Provider("first", TAKEN)
    channel = EmailChannel([relay(provider, breaker)], no_attacher(), attempt_seconds=5)
    outcome = await channel.send(a_message(endpoint="ada@example.org"), Deadline(time.monotonic() + 5))
    assert isinstance(outcome, Postponed)
    assert outcome.reason is Reason.BREAKER_OPEN
    assert 19 < outcome.after <= 20
    assert provider.asked == []


async def test_our_own_rate_does_not_fail_over() -> None:
    bucket = TokenBucket(0.01, burst=1)
    bucket.take(0)
    second = Provider("second", TAKEN)
    channel = EmailChannel(
        [relay(Provider("first", TAKEN), bucket=bucket), relay(second)], no_attacher(), attempt_seconds=5
    )
    outcome = await channel.send(a_message(endpoint="ada@example.org"), Deadline(time.monotonic() + 5))
    assert isinstance(outcome, Postponed)
    assert outcome.reason is Reason.RATE_LIMITED
    assert second.asked == []


async def test_a_provider_that_asked_for_a_rest_gets_it_and_the_next_is_asked() -> None:
    limited, second = Provider("first", Retry(Reason.RATE_LIMITED, "first", after=60.0)), Provider("second", TAKEN)
    channel = EmailChannel([relay(limited), relay(second)], no_attacher(), attempt_seconds=5)
    for _ in range(2):
        outcome = await channel.send(a_message(endpoint="ada@example.org"), Deadline(time.monotonic() + 5))
        assert passed_over(outcome) == [("first", Reason.RATE_LIMITED)]
    assert (len(limited.asked), len(second.asked)) == (1, 2)


async def test_while_the_only_provider_rests_it_is_postponed() -> None:
    limited = Provider("first", Retry(Reason.RATE_LIMITED, "first", after=60.0))
    channel = EmailChannel([relay(limited)], no_attacher(), attempt_seconds=5)
    for _ in range(2):
        outcome = await channel.send(a_message(endpoint="ada@example.org"), Deadline(time.monotonic() + 5))
    assert isinstance(outcome, Postponed)
    assert 59 < outcome.after <= 60
    assert len(limited.asked) == 1


async def test_without_a_provider_it_is_tried_again() -> None:
    assert await sent() == Retry(Reason.NO_PROVIDER, "engine")


@pytest.mark.parametrize("endpoint", [None, ""])
async def test_without_an_address_nobody_is_asked(endpoint: str | None) -> None:
    first = Provider("first", TAKEN)
    assert await sent(first, endpoint=endpoint) == Rejected(Reason.NO_ADDRESS, "engine")
    assert first.asked == []


def test_the_providers_are_named_in_their_order() -> None:
    relays = [relay(Provider("b", BUSY)), relay(Provider("a", BUSY))]
    assert EmailChannel(relays, no_attacher(), attempt_seconds=1).provider_names == ["b", "a"]


async def test_the_console_shows_an_e_mail_to_people() -> None:
    printed: list[str] = []
    outcome = await ConsoleProvider("engine@localhost", "Engine", printed.append).send(
        Email("dlv_1_0", "ada@example.org", "Run 7", "first line\nsecond line\n", "<p></p>"), Deadline(0)
    )
    assert outcome == Accepted("console", "<dlv_1_0@localhost>")
    (shown,) = printed
    for line in ("From: Engine <engine@localhost>", "To: ada@example.org", "Subject: Run 7", "second line"):
        assert f"  {line}\n" in shown


async def test_the_console_prints_by_itself_and_refuses_what_no_server_would_take(
    capsys: pytest.CaptureFixture[str],
) -> None:
    provider = ConsoleProvider("engine@localhost", "Engine")
    await provider.send(Email("dlv_1_0", "ada@example.org", "Run 7", "text", ""), Deadline(0))
    assert "Subject: Run 7" in capsys.readouterr().out
    outcome = await provider.send(Email("dlv_1_0", "nobody", "Run 7", "text", ""), Deadline(0))
    assert outcome == Rejected(Reason.INVALID_ADDRESS, "console")
    assert capsys.readouterr().out == ""
