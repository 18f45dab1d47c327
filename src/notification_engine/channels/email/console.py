"""Console e-mail, for development: readable on standard output, never through the logger."""

import sys
from collections.abc import Callable

from notification_engine.channels.email.credentials import Tried
from notification_engine.channels.email.message import build
from notification_engine.domain.delivery import Reason
from notification_engine.domain.outcome import Accepted, Outcome, Rejected
from notification_engine.rendering.plain import Email
from notification_engine.services.ports import Deadline


def _print(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


class ConsoleProvider:
    name = "console"

    def __init__(self, sender: str, sender_name: str, write: Callable[[str], None] = _print) -> None:
        self._sender = sender
        self._sender_name = sender_name
        self._write = write

    async def send(self, email: Email, deadline: Deadline) -> Outcome:
        try:
            message = build(email, self._sender, self._sender_name)
        except ValueError:
            return Rejected(Reason.INVALID_ADDRESS, self.name)
        head = "\n".join(f"  {name}: {message[name]}" for name in ("From", "To", "Subject", "Message-ID"))
        body = "\n".join(f"  {line}" for line in email.text.splitlines())
        self._write(f"\n  ---- e-mail ----\n{head}\n\n{body}\n  ----------------\n\n")
        return Accepted(self.name, str(message["Message-ID"]))

    async def try_credentials(self, seconds: float) -> Tried:
        return Tried(True, "e-mail is printed, not sent")

    async def close(self) -> None:
        """Standard output stays open."""
