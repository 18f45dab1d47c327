"""Who asks, and by which scheme, behind reverse proxies.

Invariant: only what a trusted proxy wrote is believed, and only in the one header that it is known to write: another
one comes from the client as it is. From the right, the first hop that is no trusted proxy is the client; what cannot be
read ends the walk, and whoever handed it on is the client.
"""

import ipaddress
import re
from collections.abc import Iterable, Sequence

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
MAX_HOPS = 32
_WITH_PORT = re.compile(r"(?:\[(?P<v6>[^\[\]]*)\]|(?P<v4>[0-9.]+))(?::[0-9]{1,5})?", re.ASCII)
_PAIR = re.compile(r"""\s*(?P<name>[A-Za-z]+)=(?:"(?P<quoted>[^"\\]*)"|(?P<token>[^\s";,=]*))\s*""", re.ASCII)
_SCHEMES = {"http": "http", "https": "https", "ws": "http", "wss": "https"}


class ClientAddress:
    """`header` is `x-forwarded-for` (with `x-forwarded-proto`) or `forwarded` (RFC 7239)."""

    def __init__(self, app: ASGIApp, trusted: Sequence[str], header: str) -> None:
        self._app = app
        self._trusted = tuple(ipaddress.ip_network(network) for network in trusted)
        self._header = header

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in {"http", "websocket"} and scope.get("client"):
            host, port = scope["client"][:2]
            peer = parse_address(host)
            if peer is not None:
                if self._trusts(peer):
                    scope = self._behind_proxies(dict(scope), peer)
                elif str(peer) != host:
                    scope = {**scope, "client": (str(peer), port)}
        await self._app(scope, receive, send)

    def _trusts(self, address: Address) -> bool:
        return any(address in network for network in self._trusted)

    def _behind_proxies(self, scope: Scope, peer: Address) -> Scope:
        headers = Headers(scope=scope)
        if self._header == "forwarded":
            hops = [_forwarded(element) for element in _elements(headers.getlist("forwarded"))]
            client = self._client(peer, (hop.get("for", "") for hop in hops))
            protocol = hops[-1].get("proto", "") if hops else ""
        else:
            client = self._client(peer, _elements(headers.getlist("x-forwarded-for")))
            protocol = next(iter(reversed(_elements(headers.getlist("x-forwarded-proto")))), "")
        scope["client"] = (str(client), 0)
        if scheme := _SCHEMES.get(protocol.strip().lower()):
            plain = {"http": "ws", "https": "wss"}
            scope["scheme"] = plain[scheme] if scope["type"] == "websocket" else scheme
        return scope

    def _client(self, peer: Address, hops: Iterable[str]) -> Address:
        client = peer
        for hop in list(hops)[::-1][:MAX_HOPS]:
            if not self._trusts(client) or (address := parse_address(hop)) is None:
                break
            client = address
        return client


def parse_address(text: str) -> Address | None:
    """With or without a port; of IPv4 inside IPv6 the IPv4 address. None for what is no address."""
    text = text.strip()
    found = _WITH_PORT.fullmatch(text)
    try:
        address = ipaddress.ip_address((found["v6"] or found["v4"]) if found else text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address):
        return address.ipv4_mapped or ipaddress.IPv6Address(int(address))  # without a zone, which is the sender's own
    return address


def _elements(lines: Sequence[str]) -> list[str]:
    return ",".join(lines).split(",") if lines else []


def _forwarded(element: str) -> dict[str, str]:
    """The pairs of one hop; nothing of a hop that is not well formed."""
    pairs = {}
    for part in element.split(";"):
        found = _PAIR.fullmatch(part)
        if found is None:
            return {}
        pairs[found["name"].lower()] = found["quoted"] if found["quoted"] is not None else found["token"]
    return pairs
