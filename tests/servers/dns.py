"""A DNS server on loopback that answers from a script, and a resolver that asks it (RFC 1035, A and AAAA)."""

import asyncio
import ipaddress
import secrets
import socket
import struct
from collections import defaultdict

from aiohttp.abc import AbstractResolver, ResolveResult

TYPES = {4: 1, 6: 28}
ANSWER_SECONDS = 5.0


class DnsServer(asyncio.DatagramProtocol):
    """`script[name]` is one list of addresses a question, the last one for ever. Each entry answers A and AAAA once."""

    def __init__(self) -> None:
        self.script: dict[str, list[list[str]]] = {}
        self.asked: list[tuple[str, int]] = []
        self._turn: dict[tuple[str, int], int] = defaultdict(int)
        self._transport: asyncio.DatagramTransport | None = None
        self.port = 0

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(lambda: self, local_addr=("127.0.0.1", 0))
        self.port = int(self._transport.get_extra_info("sockname")[1])

    async def stop(self) -> None:
        assert self._transport is not None
        self._transport.close()

    def resolver(self) -> AbstractResolver:
        return StubResolver(self.port)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        name, kind, end = _question(data)
        self.asked.append((name, kind))
        answers = [a for a in self._next(name, kind) if TYPES[ipaddress.ip_address(a).version] == kind]
        code = 0 if name in self.script else 3
        head = data[:2] + struct.pack(">HHHHH", 0x8180 | code, 1, len(answers), 0, 0)
        records = b"".join(_record(kind, address) for address in answers)
        assert self._transport is not None
        self._transport.sendto(head + data[12:end] + records, addr)

    def _next(self, name: str, kind: int) -> list[str]:
        entries = self.script.get(name, [[]])
        turn = self._turn[name, kind]
        self._turn[name, kind] += 1
        return entries[min(turn, len(entries) - 1)]


class StubResolver(AbstractResolver):
    """Asks that server over UDP. For a session in the place of the system's resolver, which only root could point to
    another port."""

    def __init__(self, port: int) -> None:
        self._port = port

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        kinds = {socket.AF_INET: (1,), socket.AF_INET6: (28,)}.get(family, (1, 28))
        found = [address for kind in kinds for address in await self._ask(host.rstrip("."), kind)]
        if not found:
            raise OSError(None, "no address")
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=0,
            )
            for address in found
        ]

    async def close(self) -> None: ...

    async def _ask(self, name: str, kind: int) -> list[str]:
        labels = name.encode("idna").split(b".")
        packed = b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
        sent = secrets.token_bytes(2) + struct.pack(">HHHHH", 0x0100, 1, 0, 0, 0) + packed + struct.pack(">HH", kind, 1)
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as question:
            question.setblocking(False)
            await loop.sock_connect(question, ("127.0.0.1", self._port))
            await loop.sock_sendall(question, sent)
            async with asyncio.timeout(ANSWER_SECONDS):
                data = await loop.sock_recv(question, 4096)
        assert data[:2] == sent[:2]
        return _addresses(data)


def _question(data: bytes) -> tuple[str, int, int]:
    """The name, the type, and where the question ends."""
    labels, place = [], 12
    while (length := data[place]) > 0:
        labels.append(data[place + 1 : place + 1 + length].decode())
        place += 1 + length
    return ".".join(labels).lower(), struct.unpack_from(">H", data, place + 1)[0], place + 5


def _record(kind: int, address: str) -> bytes:
    packed = ipaddress.ip_address(address).packed
    return struct.pack(">HHHIH", 0xC00C, kind, 1, 0, len(packed)) + packed


def _addresses(data: bytes) -> list[str]:
    count = struct.unpack_from(">H", data, 6)[0]
    place, found = _question(data)[2], []
    for _ in range(count):
        length = struct.unpack_from(">H", data, place + 10)[0]
        found.append(str(ipaddress.ip_address(data[place + 12 : place + 12 + length])))
        place += 12 + length
    return found
