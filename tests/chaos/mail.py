"""A mail server on loopback that can lie at every step of SMTP, spoken by hand.

What it does to a message follows from the local part of its recipient before `+` (from RCPT on), or from a script by
the number of the conversation (before the recipient is known).
"""

import asyncio
import re
import socket
import struct
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum

from tests.chaos.receipts import Receipts, receipt

DELIVERY_HEADER = re.compile(rb"^X-Notification-Delivery-Id:\s*(\S+)", re.IGNORECASE | re.MULTILINE)
_EOF = b"\r\n.\r\n"
FOREVER = 3600.0


class Step(StrEnum):
    CONNECT = "connect"
    EHLO = "ehlo"
    MAIL = "mail"
    RCPT = "rcpt"
    DATA = "data"  # the command
    TAKEN = "taken"  # the message is read to its end


class Cut(StrEnum):
    RESET = "reset"
    END = "end"


@dataclass(frozen=True)
class MailAnswer:
    """At one step: a reply of its own, a cut or silence (both None)."""

    step: Step
    reply: str | None = None
    cut: Cut | None = None
    delay_seconds: float = 0.0

    @property
    def refuses(self) -> bool:
        return self.reply is not None and self.reply[0] in "45"

    @property
    def told(self) -> str:
        if self.cut is not None:
            return f"{self.cut} at {self.step}"
        return f"silence at {self.step}" if self.reply is None else self.reply.partition(" ")[0]


MailScript = Callable[[int], MailAnswer | None]  # given how often this recipient (or the server) was here before
ACCEPT_THEN_DROP = MailAnswer(Step.TAKEN, cut=Cut.RESET)
ACCEPT_THEN_END = MailAnswer(Step.TAKEN, cut=Cut.END)
_GOOD = {
    Step.CONNECT: "220 mail.example.org ready",
    Step.EHLO: "250 mail.example.org",
    Step.MAIL: "250 2.1.0 ok",
    Step.RCPT: "250 2.1.5 ok",
    Step.DATA: "354 go ahead",
    Step.TAKEN: "250 2.0.0 taken",
}


class _Ended(Exception):
    """The script has cut the conversation."""


class MailServer:
    def __init__(self, ledger: Receipts) -> None:
        self.ledger = ledger
        self.port = 0
        self.conversations = 0
        self.connect_script: MailScript = lambda seen: None
        self._scripts: dict[str, MailScript] = {}
        self._seen: Counter[str] = Counter()
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=4096, limit=4 * 1024 * 1024)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in tuple(self._open):
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    def script(self, name: str, script: MailScript | MailAnswer) -> None:
        """For recipients `name@...` and `name+anything@...`."""
        self._scripts[name] = (lambda seen: script) if isinstance(script, MailAnswer) else script

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            with suppress(_Ended, asyncio.IncompleteReadError, ConnectionError):
                await _Conversation(self, reader, writer).run()
        except asyncio.CancelledError:  # by `stop`; asyncio's own callback would print it
            writer.transport.abort()
        finally:
            self._open.discard(task)
            writer.close()

    def begun(self) -> MailAnswer | None:
        self.conversations += 1
        return self.connect_script(self.conversations - 1)

    def scripted(self, address: str) -> MailAnswer | None:
        script = self._scripts.get(address.partition("@")[0].partition("+")[0])
        if script is None:
            return None
        self._seen[address] += 1
        return script(self._seen[address] - 1)


class _Conversation:
    def __init__(self, server: MailServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._server = server
        self._reader = reader
        self._writer = writer
        self._scripted = server.begun()

    async def run(self) -> None:
        await self._reply(Step.CONNECT)
        while line := await self._reader.readline():
            command = line.decode("latin-1").strip()
            match command.partition(" ")[0].upper():
                case "EHLO" | "HELO":
                    await self._reply(Step.EHLO)
                case "MAIL":
                    await self._reply(Step.MAIL)
                case "RCPT":
                    address = command.partition("<")[2].partition(">")[0]
                    self._scripted = self._server.scripted(address) or self._scripted
                    await self._reply(Step.RCPT)
                case "DATA":
                    if await self._reply(Step.DATA):
                        await self._take()
                case "RSET" | "NOOP":
                    await self._say("250 2.0.0 ok")
                case "QUIT":
                    await self._say("221 2.0.0 bye")
                    return
                case _:
                    await self._say("502 5.5.1 not here")

    async def _take(self) -> None:
        content = await self._reader.readuntil(_EOF)
        found = DELIVERY_HEADER.search(content)
        delivery_id = found.group(1).decode() if found else ""
        scripted = self._scripted if self._scripted and self._scripted.step is Step.TAKEN else None
        granted = scripted is None or (scripted.reply or "").startswith("2")  # a late yes is one, too
        if granted or scripted is None or scripted.reply is None:
            told = scripted.told if scripted else "250"
            await self._server.ledger.add(receipt(delivery_id, "email", told, answered=granted))
        await self._reply(Step.TAKEN)

    async def _reply(self, step: Step) -> bool:
        """What the script says to this step, or the good reply; True when the step was granted."""
        scripted = self._scripted
        if scripted is None or scripted.step is not step:
            await self._say(_GOOD[step])
            return True
        if step is not Step.TAKEN or scripted.refuses:
            await self._server.ledger.refuse(scripted.told)
        if scripted.cut is not None:
            self._cut(scripted.cut)
        await asyncio.sleep(scripted.delay_seconds if scripted.reply is not None else FOREVER)
        await self._say(scripted.reply or "")
        return not scripted.refuses

    def _cut(self, how: Cut) -> None:
        if how is Cut.RESET:
            linger = struct.pack("ii", 1, 0)
            self._writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self._writer.transport.abort()
        raise _Ended

    async def _say(self, reply: str) -> None:
        self._writer.write(reply.encode() + b"\r\n")
        await self._writer.drain()
