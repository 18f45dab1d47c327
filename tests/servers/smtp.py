"""A real SMTP server (aiosmtpd) that keeps what it took and can be told to refuse."""

import asyncio
import logging
from email import message_from_bytes, policy
from email.message import EmailMessage

from aiosmtpd.smtp import SMTP, Envelope, Session

logging.getLogger("mail.log").setLevel(logging.WARNING)  # it logs the addresses of every message

CUT = "cut"  # as a reply: the message is taken and the connection lost before the answer


class Mailbox:
    """`replies` are used up one a message: an SMTP line such as `451 4.3.0 try later`, CUT, or None to take it."""

    def __init__(self) -> None:
        self.messages: list[EmailMessage] = []
        self.envelopes: list[Envelope] = []
        self.replies: list[str | None] = []
        self.rcpt_replies: list[str | None] = []
        self.port = 0
        self._changed = asyncio.Condition()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: SMTP(self, enable_SMTPUTF8=True, loop=loop), "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()

    async def received(self, count: int, seconds: float = 20) -> list[EmailMessage]:
        async with asyncio.timeout(seconds), self._changed:
            await self._changed.wait_for(lambda: len(self.messages) >= count)
        return self.messages

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        reply = self.rcpt_replies.pop(0) if self.rcpt_replies else None
        if reply is None:
            envelope.rcpt_tos.append(address)
        return reply or "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        reply = self.replies.pop(0) if self.replies else None
        if reply in {None, CUT}:
            message = message_from_bytes(envelope.original_content or b"", policy=policy.default)
            async with self._changed:
                self.messages.append(message)  # type: ignore[arg-type]
                self.envelopes.append(envelope)
                self._changed.notify_all()
        if reply == CUT:
            server.transport.abort()
        return reply or "250 2.0.0 taken"
