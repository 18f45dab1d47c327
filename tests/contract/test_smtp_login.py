"""The login of the SMTP provider, against a server that asks for one."""

import asyncio
import base64
import time

import pytest
from tests.contract.table import there
from tests.servers.tcp import Talk
from tests.unit.builders import a_message

from notification_engine.channels.email.smtp import SmtpConfig, SmtpProvider
from notification_engine.domain.delivery import Reason
from notification_engine.domain.outcome import Accepted, Outcome, Retry
from notification_engine.rendering.plain import render_email
from notification_engine.services.ports import Deadline

GIVEN = base64.b64encode(b"\0engine\0hunter2")


def asking(seen: list[bytes], reply: bytes) -> Talk:
    """Offers AUTH PLAIN, answers it with `reply`, and takes everything else."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example.org ESMTP\r\n")
        while line := await reader.readline():
            seen.append(line.strip())
            word = line.split()[0].upper()
            if word == b"EHLO":
                writer.write(b"250-mail.example.org\r\n250 AUTH PLAIN\r\n")
            elif word == b"AUTH":
                writer.write(reply)
            elif word == b"DATA":
                writer.write(b"354 go on\r\n")
                await reader.readuntil(b"\r\n.\r\n")
                writer.write(b"250 taken\r\n")
            else:
                writer.write(b"250 fine\r\n")

    return talk


async def sent(talk: Talk, username: str | None) -> Outcome:
    async with there(talk) as place, asyncio.timeout(30):
        config = SmtpConfig("127.0.0.1", place.port, username, "hunter2", False, "engine@example.org", "Engine")
        return await SmtpProvider(config).send(render_email(a_message()), Deadline(time.monotonic() + 20))


async def test_a_login_comes_before_the_message() -> None:
    seen: list[bytes] = []
    assert isinstance(await sent(asking(seen, b"235 welcome\r\n"), "engine"), Accepted)
    words = [line.split()[0] for line in seen]
    assert b"AUTH PLAIN " + GIVEN in seen
    assert words.index(b"AUTH") < words.index(b"MAIL")


async def test_without_a_name_there_is_no_login() -> None:
    seen: list[bytes] = []
    assert isinstance(await sent(asking(seen, b"535 no\r\n"), None), Accepted)
    assert not any(line.startswith(b"AUTH") for line in seen)


@pytest.mark.parametrize(
    ("reply", "reason"),
    [(b"535 5.7.8 no\r\n", Reason.CREDENTIALS), (b"454 4.7.0 later\r\n", Reason.SERVER_ERROR)],
)
async def test_a_refused_login_is_about_the_provider_and_names_no_password(reply: bytes, reason: Reason) -> None:
    outcome = await sent(asking([], reply), "engine")
    assert isinstance(outcome, Retry)
    assert outcome.reason is reason
    assert "hunter2" not in repr(outcome)
