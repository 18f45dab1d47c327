"""A call that ended before a byte of it was written is known not to have been sent; any later, nobody knows."""

import asyncio
import socket
import struct
import time
from collections.abc import AsyncIterator

import pytest
from tests.servers.tcp import FullHouse, TcpServer, closed_port, silent

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


async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """After the whole request, which may be acted upon all the same."""
    head = await reader.readuntil(b"\r\n\r\n")
    await reader.readexactly(next(int(h[15:]) for h in head.lower().split(b"\r\n") if h.startswith(b"content-length")))
    linger = struct.pack("ii", 1, 0)
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.transport.abort()


@pytest.mark.parametrize("name", ["sendgrid", "ses"])
async def test_a_reset_after_the_request_is_unknown(name: str, outbound: Outbound) -> None:
    server = TcpServer(reset)
    await server.start()
    outcome = await sent(name, f"http://127.0.0.1:{server.port}", outbound)
    await server.stop()
    assert isinstance(outcome, Unknown), outcome
    assert outcome.reason is Reason.CONNECTION_LOST


@pytest.mark.parametrize("name", ["sendgrid", "ses"])
async def test_where_nobody_listens_the_next_is_asked(name: str, outbound: Outbound) -> None:
    outcome = await sent(name, f"http://127.0.0.1:{await closed_port()}", outbound)
    assert isinstance(outcome, Retry), outcome
    assert outcome.reason is Reason.CONNECTION_FAILED
