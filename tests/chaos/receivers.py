"""Webhook receivers on loopback, with a script for each name and a ledger of what arrived.

HTTP is spoken by hand, because no server library lies on request: resets, answers that end early, a byte at a time.
"""

import asyncio
import gzip
import socket
import struct
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum

from tests.chaos.mail import MailServer
from tests.chaos.receipts import Receipt, Receipts, receipt

MAX_HEAD = 64 * 1024


class Cut(StrEnum):
    BEFORE_BODY = "reset before the body"
    AFTER_BODY = "reset after the body"
    MID_ANSWER = "answer cut short"
    STATUS_LINE = "status line cut short"


@dataclass(frozen=True)
class Answer:
    """`drip_seconds`: the pause between two bytes of the answer (slow-loris); `delay_seconds` comes before it.

    `heard` false: by then the sender has given up.
    """

    status: int = 204
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    cut: Cut | None = None
    delay_seconds: float = 0.0
    drip_seconds: float = 0.0
    heard: bool = True

    @property
    def good(self) -> bool:
        """Whether the sender hears of success; the status of an answer that is cut short is heard."""
        return self.heard and self.cut in {None, Cut.MID_ANSWER} and 200 <= self.status < 300

    @property
    def told(self) -> str:
        """What the sender hears of it, for the ledger."""
        return str(self.cut) if self.cut else str(self.status)

    def raw(self) -> bytes:
        lines = [f"HTTP/1.1 {self.status} Scripted", *(f"{name}: {value}" for name, value in self.headers)]
        if self.status not in {204, 304}:
            lines.append(f"content-length: {len(self.body) * (2 if self.cut is Cut.MID_ANSWER else 1)}")
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + self.body


Script = Callable[[int], Answer]  # given how often this delivery was here before
OK = Answer()
HTML = Answer(200, (("content-type", "text/html"),), b"<html><h1>Welcome</h1></html>")
TRUNCATED = Answer(200, (("content-type", "application/json"),), b'{"taken": tr', cut=Cut.MID_ANSWER)
RESET_BEFORE = Answer(cut=Cut.BEFORE_BODY)
RESET_AFTER = Answer(cut=Cut.AFTER_BODY)


def refused(status: int, retry_after: str | None = None) -> Answer:
    return Answer(status, (("retry-after", retry_after),) if retry_after is not None else ())


def gzip_bomb(megabytes: int = 64) -> Answer:
    """Small on the wire; unpacked it is as large as said."""
    packed = gzip.compress(bytes(megabytes * 1024 * 1024), compresslevel=9)
    return Answer(200, (("content-encoding", "gzip"), ("content-type", "application/json")), packed)


def late(seconds: float) -> Answer:
    """A good answer, but after the deadline."""
    return Answer(delay_seconds=seconds, heard=False)


def loris(seconds: float) -> Answer:
    """A good answer, one byte each so many seconds."""
    return Answer(200, body=b"ok", drip_seconds=seconds, heard=False)


def always(answer: Answer) -> Script:
    return lambda seen: answer


def first(answer: Answer, times: int = 1) -> Script:
    """That answer to the first calls of each delivery, then a good one."""
    return lambda seen: answer if seen < times else OK


class Receivers:
    """All names share one port, on 127.0.0.1 and on what `listen` adds (127.x.y.z is loopback too). Mail: `mail`."""

    def __init__(self) -> None:
        self.ledger = Receipts()
        self.mail = MailServer(self.ledger)
        self.calls: Counter[str] = Counter()
        self._scripts: dict[str, Script] = {}
        self._seen: Counter[str] = Counter()
        self._servers: list[asyncio.Server] = []
        self._open: set[asyncio.Task[None]] = set()
        self._port = 0

    @property
    def receipts(self) -> list[Receipt]:
        return self.ledger.taken

    @property
    def smtp_port(self) -> int:
        return self.mail.port

    async def start(self) -> None:
        await self.listen("127.0.0.1")
        await self.mail.start()

    async def listen(self, *hosts: str) -> None:
        """On these addresses too, under the same port: the engine's shares are by host."""
        for host in hosts:
            server = await asyncio.start_server(self._serve, host, self._port, limit=MAX_HEAD, backlog=4096)
            self._port = server.sockets[0].getsockname()[1]
            self._servers.append(server)

    async def stop(self) -> None:
        for server in self._servers:
            server.close()
        for task in tuple(self._open):
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)
        await self.mail.stop()

    def webhook_url(self, name: str, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self._port}/{name}"

    def script(self, name: str, script: Script | Answer) -> None:
        """What calls of `/name` are answered from now on."""
        self._scripts[name] = always(script) if isinstance(script, Answer) else script

    async def received(self, count: int, seconds: float = 60) -> list[Receipt]:
        """Waits until so many receipts are there."""
        await self.ledger.until(lambda: len(self.receipts) >= count, seconds)
        return self.receipts

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            with suppress(asyncio.IncompleteReadError, ConnectionError):
                while await self._call(reader, writer):
                    continue
        except asyncio.CancelledError:  # by `stop`; asyncio's own callback would print it
            writer.transport.abort()
        finally:
            self._open.discard(task)
            writer.close()

    async def _call(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request and its answer. False: the connection has ended."""
        name, headers = head(await reader.readuntil(b"\r\n\r\n"))
        delivery_id = headers.get("webhook-id", "")
        answer = self._scripts.get(name, always(OK))(self._seen[delivery_id])
        self._seen[delivery_id] += 1
        self.calls[name] += 1
        if answer.cut is Cut.BEFORE_BODY:
            await self.ledger.refuse(answer.told)
            return reset(writer)
        await reader.readexactly(int(headers.get("content-length", "0")))
        await self.ledger.add(receipt(delivery_id, "webhook", answer.told, answered=answer.good))
        if answer.cut is Cut.AFTER_BODY:
            return reset(writer)
        await asyncio.sleep(answer.delay_seconds)
        await write(writer, answer)
        return answer.cut is None


def head(raw: bytes) -> tuple[str, dict[str, str]]:
    """The path's name and the headers, lower case."""
    request, *lines = raw.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
    return request.split(" ")[1].lstrip("/"), headers


async def write(writer: asyncio.StreamWriter, answer: Answer) -> None:
    raw = answer.raw()[:10] if answer.cut is Cut.STATUS_LINE else answer.raw()
    if not answer.drip_seconds:
        writer.write(raw)
        await writer.drain()
        return
    for byte in raw:
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(answer.drip_seconds)


def reset(writer: asyncio.StreamWriter) -> bool:
    """A real RST rather than an orderly end. Always False."""
    opened = writer.get_extra_info("socket")
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
    return False
