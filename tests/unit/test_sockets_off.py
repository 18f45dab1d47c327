import asyncio
import socket

import pytest

from .conftest import DialledOut


def test_a_blocking_connection_is_refused() -> None:
    with pytest.raises(DialledOut), socket.socket() as client:
        client.connect(("127.0.0.1", 9))


async def test_a_connection_through_the_loop_is_refused() -> None:
    with pytest.raises(DialledOut):
        await asyncio.open_connection("127.0.0.1", 9)


def test_a_loop_of_its_own_still_starts() -> None:
    """In a thread: the test run's own loop may be under way in this one."""
    with asyncio.Runner() as runner:
        assert runner.run(asyncio.sleep(0, "ran")) == "ran"
