"""`python -m tests.fuzz.closed serve ...`: the engine, with every way out closed but loopback.

A fuzzer registers addresses of hosts that may exist; none of them is looked up or called.
"""

import socket
from typing import Any

import aiohttp

from notification_engine.cli.main import app
from notification_engine.net.guard import BlockedAddress, Guard

_open = Guard.open_socket


def _open_on_loopback(self: Guard, info: tuple[Any, ...]) -> socket.socket:
    if info[4][0] != "127.0.0.1":
        raise BlockedAddress("closed in this suite")
    return _open(self, info)


async def _resolve_nothing(*_: Any, **__: Any) -> list[Any]:
    raise OSError("closed in this suite")


if __name__ == "__main__":
    Guard.open_socket = _open_on_loopback  # type: ignore[method-assign]
    aiohttp.ThreadedResolver.resolve = _resolve_nothing  # type: ignore[method-assign]
    app()
