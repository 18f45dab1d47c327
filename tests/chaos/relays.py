"""The HTTP APIs of e-mail providers on loopback, with the receivers' scripts and one ledger for all.

What one does to an e-mail follows from the local part of its recipient before `+`, and from how often that recipient
was here before. A request that was read whole and not refused counts as taken, whatever is answered.
"""

import asyncio
import base64
import itertools
import json
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace

from tests.chaos.mail import DELIVERY_HEADER
from tests.chaos.receipts import Receipts, receipt
from tests.chaos.receivers import Answer, Cut, head, reset, write
from tests.servers.sendgrid import broken_rule

MAX_HEAD = 64 * 1024
LATENCY_SECONDS = 0.02  # so that there is always something on the wire


@dataclass(frozen=True)
class Asked:
    recipient: str
    delivery_id: str


Script = Callable[[int], Answer | None]  # given how often this recipient was here before; None: the good answer


class Provider:
    """`answers` counts, by recipient's name, what came; `taken` are the delivery ids, oldest first."""

    path = ""

    def __init__(self, ledger: Receipts) -> None:
        self.ledger = ledger
        self.port = 0
        self.taken: list[str] = []
        self.calls = 0
        self._scripts: dict[str, Script] = {}
        self._seen: Counter[str] = Counter()
        self._ids = itertools.count(1)
        self._server: asyncio.Server | None = None
        self._open: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def good(self, number: int) -> Answer:
        raise NotImplementedError

    def read(self, body: bytes) -> Asked:
        """Raises ValueError, KeyError, IndexError for what the vendor would refuse."""
        raise NotImplementedError

    async def start(self) -> None:
        """Under the same port as before: also the end of an outage."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, limit=MAX_HEAD, backlog=4096)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Nobody listens any more, and what is on the wire is reset."""
        if self._server is not None:
            self._server.close()
        for task, writer in tuple(self._open.items()):
            reset(writer)
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    def script(self, name: str, script: Script | Answer) -> None:
        """For recipients `name+anything@...`."""
        self._scripts[name] = (lambda seen: script) if isinstance(script, Answer) else script

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open[task] = writer
        try:
            with suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):  # cancelled by `stop`
                while await self._call(reader, writer):
                    continue
        finally:
            self._open.pop(task)
            writer.close()

    async def _call(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request and its answer. False: the connection has ended."""
        path, headers = head(await reader.readuntil(b"\r\n\r\n"))
        body = await reader.readexactly(int(headers["content-length"]))
        assert path == self.path, path
        self.calls += 1
        asked = self.read(body)
        answer = self._answer(asked)
        if answer.status >= 300 or answer.cut is Cut.BEFORE_BODY:
            await self.ledger.refuse(answer.told)
        else:
            self.taken.append(asked.delivery_id)
            await self.ledger.add(receipt(asked.delivery_id, "email", answer.told, answered=answer.good))
        if answer.cut in {Cut.BEFORE_BODY, Cut.AFTER_BODY}:
            return reset(writer)
        await asyncio.sleep(answer.delay_seconds)
        await write(writer, answer)
        return answer.cut is None

    def _answer(self, asked: Asked) -> Answer:
        script = self._scripts.get(asked.recipient.partition("@")[0].partition("+")[0])
        scripted = script(self._seen[asked.recipient]) if script else None
        self._seen[asked.recipient] += 1
        return scripted or replace(self.good(next(self._ids)), delay_seconds=LATENCY_SECONDS)


class SendGrid(Provider):
    """v3 Mail Send; a request that breaks a rule of the vendor fails the run."""

    path = "v3/mail/send"

    def good(self, number: int) -> Answer:
        return Answer(202, (("x-message-id", f"sg-{number}"),))

    def read(self, body: bytes) -> Asked:
        sent = json.loads(body)
        broken = broken_rule(sent)
        assert broken is None, broken
        (personalization,) = sent["personalizations"]
        return Asked(personalization["to"][0]["email"], personalization["custom_args"]["delivery_id"])


class Ses(Provider):
    """v2 SendEmail with raw MIME, as far as a send needs it."""

    path = "v2/email/outbound-emails"

    def good(self, number: int) -> Answer:
        return Answer(200, (("content-type", "application/json"),), json.dumps({"MessageId": f"ses-{number}"}).encode())

    def read(self, body: bytes) -> Asked:
        sent = json.loads(body)
        found = DELIVERY_HEADER.search(base64.b64decode(sent["Content"]["Raw"]["Data"]))
        assert found is not None, "no delivery id"
        return Asked(sent["Destination"]["ToAddresses"][0], found.group(1).decode())


def aws_error(status: int, code: str, text: str = "no") -> Answer:
    headers = (("x-amzn-errortype", code), ("content-type", "application/json"))
    return Answer(status, headers, json.dumps({"message": text}).encode())
