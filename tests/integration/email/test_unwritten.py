"""A call whose time ended before a byte of it was written is known not to have been sent."""

import time
from collections.abc import AsyncIterator

import pytest
from tests.servers.tcp import FullHouse, TcpServer, silent

from notification_engine.channels.email.provider import EmailProvider
from notification_engine.channels.email.sendgrid import SendGridConfig, SendGridProvider
from notification_engine.channels.email.ses import SesConfig, SesProvider
from notification_engine.domain.delivery import Reason
from notification_engine.domain.outcome import Outcome, Retry, Unknown
from notification_engine.net.session import Outbound
from notification_engine.rendering.plain import Email
from notification_engine.services.ports import Deadline

EMAIL = Email("dlv_01jnbkz0000000000000000000_0", "ada@example.org", "Hello", "text", "<p>html</p>")


@pytest.fixture
async def outbound() -> AsyncIterator[Outbound]:
    made = Outbound(None)
    yield made
    await made.close()


async def sent(name: str, address: str, outbound: Outbound) -> Outcome:
    provider: EmailProvider
    if name == "sendgrid":
        provider = SendGridProvider(outbound.session, SendGridConfig("SG.k", "engine@example.org", "Engine", address))
    else:
        provider = SesProvider(SesConfig("us-east-1", "engine@example.org", "Engine", "a", "b", address))
    try:
        await provider.send(EMAIL, Deadline(time.monotonic() - 1))
        return await provider.send(EMAIL, Deadline(time.monotonic() + 2))
    finally:
        await provider.close()


@pytest.mark.parametrize("name", ["sendgrid", "ses"])
async def test_a_deadline_while_connecting_goes_to_the_next(name: str, outbound: Outbound) -> None:
    house = FullHouse()
    outcome = await sent(name, house.address, outbound)
    house.close()
    assert isinstance(outcome, Retry), outcome
    assert outcome.reason is Reason.TIMEOUT


@pytest.mark.parametrize("name", ["sendgrid", "ses"])
async def test_a_deadline_after_the_request_is_unknown(name: str, outbound: Outbound) -> None:
    server = TcpServer(silent)
    await server.start()
    outcome = await sent(name, f"http://127.0.0.1:{server.port}", outbound)
    await server.stop()
    assert isinstance(outcome, Unknown), outcome
    assert outcome.reason is Reason.TIMEOUT
