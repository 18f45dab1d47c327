import socket

import aiohttp
import pytest

from notification_engine.net.guard import BlockedAddress, Guard
from notification_engine.net.session import Outbound


async def test_the_way_out_keeps_nothing_and_believes_nobody() -> None:
    outbound = Outbound(Guard())
    session = outbound.session()
    assert isinstance(session.cookie_jar, aiohttp.DummyCookieJar)
    assert not session.trust_env
    assert not session.auto_decompress, "a small answer must not grow"
    await outbound.close()


async def test_there_is_one_session_until_it_is_closed() -> None:
    outbound = Outbound(Guard())
    first = outbound.session()
    assert outbound.session() is first
    await outbound.close()
    assert first.closed
    assert outbound.session() is not first
    await outbound.close()


async def test_closing_what_was_never_opened_is_harmless() -> None:
    await Outbound(Guard()).close()


@pytest.mark.parametrize("host", ["127.0.0.1", "169.254.169.254", "[::1]", "[::ffff:168.63.129.16]"])
async def test_an_inside_address_is_refused_before_it_is_dialled(host: str) -> None:
    outbound = Outbound(Guard(https_only=False))
    with pytest.raises(aiohttp.ClientConnectorError) as error:
        await outbound.session().post(f"http://{host}:9/in")
    assert isinstance(error.value.os_error, BlockedAddress)
    await outbound.close()


async def test_a_name_that_leads_inside_is_refused_too() -> None:
    """The check is of the address that is dialled, whatever the resolver said at registration."""

    class Rebinding(aiohttp.abc.AbstractResolver):
        async def resolve(self, host: str, port: int = 0, family: int = socket.AF_INET) -> list[object]:  # type: ignore[override]
            return [{"hostname": host, "host": "10.0.0.1", "port": port, "family": family, "proto": 0, "flags": 0}]

        async def close(self) -> None: ...

    outbound = Outbound(Guard(https_only=False))
    session = outbound.session()
    session.connector._resolver = Rebinding()
    with pytest.raises(aiohttp.ClientConnectorError) as error:
        await session.post("http://receiver.example.org/in")
    assert isinstance(error.value.os_error, BlockedAddress)
    await outbound.close()
