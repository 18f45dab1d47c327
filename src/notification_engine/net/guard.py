"""The outbound guard: where a caller's URL may lead, by address and by port.

Invariant: every dialled address is checked in the form in which it is dialled, literals too. What is said at
registration is a courtesy to the caller; names change.
"""

import ipaddress
import socket
from collections.abc import Collection, Sequence
from typing import Any
from urllib.parse import urlsplit

from ssrfguard import DEFAULT_DENIED, AddressTable, Block, Policy, Reach, SSRFGuardError

from notification_engine.domain.errors import InvalidRequest

_MORE = (
    # Azure's metadata service has a public address; as a row of the table it is also found inside IPv6.
    Block(ipaddress.ip_network("168.63.129.16/32"), "Azure metadata", "none", Reach.DENIED),
    # Of IPv6 only global unicast leads outside; this also closes SIIT (::ffff:0:0:0/96), which wraps any IPv4 address.
    Block(ipaddress.ip_network("::/0"), "not global unicast", "RFC4291", Reach.DENIED),
    Block(ipaddress.ip_network("2000::/3"), "global unicast", "RFC4291", Reach.PERMITTED),
)
DENIED = AddressTable((*DEFAULT_DENIED.blocks, *_MORE))
MAX_URL = 2048
_PORTS = {"http": 80, "https": 443}


class BlockedAddress(OSError):
    """The address that was about to be dialled is not allowed; its text says why, and carries no address."""


class Guard:
    """`allowed_networks` opens chosen networks (CIDR) for receivers on premises; everything private is denied else.
    `ports`: none named opens all."""

    def __init__(
        self, allowed_networks: Sequence[str] = (), *, https_only: bool = True, ports: Collection[int] = ()
    ) -> None:
        networks = tuple(ipaddress.ip_network(n) for n in allowed_networks)
        self._policy = Policy(allowed_networks=networks, denied_networks=DENIED)
        self._https_only = https_only
        self._ports = frozenset(ports)

    def check_address(self, address: str) -> None:
        """Raises BlockedAddress."""
        try:
            self._policy.check_address(address)
        except (SSRFGuardError, ValueError):
            raise BlockedAddress("it leads to a network that is not allowed") from None

    def check_port(self, port: int) -> None:
        """Raises BlockedAddress."""
        if self._ports and port not in self._ports:
            raise BlockedAddress("its port is not allowed")

    def check_url(self, url: str) -> None:
        """At registration: shape and literal addresses. Raises InvalidRequest, field `url`."""
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError as error:
            raise InvalidRequest("The address is not a URL.", field="url") from error
        if len(url) > MAX_URL or not host or any(ord(c) <= 32 or ord(c) == 127 for c in url):
            raise InvalidRequest("The address is not a URL.", field="url")
        schemes = ("https",) if self._https_only else ("https", "http")
        if parts.scheme not in schemes:
            raise InvalidRequest(f"The address must begin with {' or '.join(schemes)}://.", field="url")
        if parts.username is not None or parts.password is not None:
            raise InvalidRequest("The address must not hold a user or password.", field="url")
        if port == 0:
            raise InvalidRequest("The port must be 1 to 65535.", field="url")
        if self._ports and (port or _PORTS[parts.scheme]) not in self._ports:
            allowed = ", ".join(map(str, sorted(self._ports)))
            raise InvalidRequest(f"The port must be one of these: {allowed}.", field="url")
        self._check_literal(host)

    def _check_literal(self, host: str) -> None:
        """Also decimal, octal, hex and short forms, as the C library would read them, and with a final dot."""
        try:
            address = str(ipaddress.ip_address(host))
        except ValueError:
            try:
                address = socket.inet_ntoa(socket.inet_aton(_ascii(host).removesuffix(".")))
            except OSError:
                return
        try:
            self.check_address(address)
        except BlockedAddress as error:
            raise InvalidRequest("The address leads to a network that is not allowed.", field="url") from error

    def open_socket(self, info: tuple[Any, ...]) -> socket.socket:
        """For the connector: checks the very address that is dialled."""
        family, kind, protocol, _, address = info
        self.check_address(address[0])
        self.check_port(address[1])
        opened = socket.socket(family=family, type=kind, proto=protocol)
        opened.setblocking(False)
        return opened


def _ascii(host: str) -> str:
    """As the resolver would be asked. Raises InvalidRequest for what no resolver takes: an empty or overlong label."""
    try:
        return host.encode("idna").decode()
    except UnicodeError as error:
        raise InvalidRequest("The address is not a URL.", field="url") from error
