"""Sockets are off here: whoever dials out in a unit test is told so."""

import socket
from typing import Any, NoReturn

import pytest
from hypothesis import HealthCheck, settings

# A busy machine is no fault of the code: timings belong in bench/.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


class DialledOut(RuntimeError):
    """A unit test opened a connection. No OSError, so that nothing under test takes it for a network failure."""


def _refuse(*_: Any, **__: Any) -> NoReturn:
    raise DialledOut("a unit test may not open a connection")


@pytest.fixture(autouse=True)
def _sockets_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """The event loop's self-pipe is a socket pair, which needs no `connect`."""
    monkeypatch.setattr(socket.socket, "connect", _refuse)
    monkeypatch.setattr(socket.socket, "connect_ex", _refuse)
    monkeypatch.setattr(socket, "getaddrinfo", _refuse)
