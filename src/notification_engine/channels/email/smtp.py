"""SMTP (RFC 5321). Until the message's data is written, every failure is definite; from then on a lost answer is
unknown, because the server may have taken it. The client bounds each command; the deadline bounds the whole."""

import asyncio
import time
from dataclasses import dataclass

import aiosmtplib
from aiosmtplib import SMTP

from notification_engine.channels.email.message import build
from notification_engine.domain.delivery import Reason
from notification_engine.domain.outcome import Accepted, Outcome, Rejected, Retry, Unknown
from notification_engine.rendering.plain import Email
from notification_engine.services.ports import Deadline


@dataclass(frozen=True, slots=True)
class SmtpConfig:
    host: str
    port: int
    username: str | None
    password: str | None
    starttls: bool
    sender: str
    sender_name: str


class SmtpProvider:
    name = "smtp"

    def __init__(self, config: SmtpConfig) -> None:
        self._config = config

    async def send(self, email: Email, deadline: Deadline) -> Outcome:
        try:
            message = build(email, self._config.sender, self._config.sender_name)
            recipient, data = str(message["To"]), message.as_bytes()
        except ValueError:
            return Rejected(Reason.INVALID_ADDRESS, self.name)
        client = SMTP(
            hostname=self._config.host,
            port=self._config.port,
            start_tls=self._config.starttls,
            timeout=max(0.001, deadline.at - time.monotonic()),
        )
        try:
            return await self._converse(client, recipient, data, deadline)
        finally:
            client.close()

    async def _converse(self, client: SMTP, recipient: str, data: bytes, deadline: Deadline) -> Outcome:
        try:
            async with asyncio.timeout(deadline.at - time.monotonic()):
                await self._introduce(client, recipient)
        except aiosmtplib.SMTPAuthenticationError:
            return Retry(Reason.CREDENTIALS, self.name)
        except aiosmtplib.SMTPRecipientRefused as error:
            if error.code >= 500:
                return Rejected(Reason.INVALID_ADDRESS, self.name, f"SMTP {error.code}")
            return Retry(Reason.SERVER_ERROR, self.name, detail=f"SMTP {error.code}")
        except aiosmtplib.SMTPResponseException as error:
            return self._refused(error.code)
        except (aiosmtplib.SMTPTimeoutError, TimeoutError):
            return Retry(Reason.TIMEOUT, self.name)
        except (aiosmtplib.SMTPException, OSError) as error:
            return Retry(Reason.CONNECTION_FAILED, self.name, detail=type(error).__name__)
        return await self._hand_over(client, data, deadline)

    async def _introduce(self, client: SMTP, recipient: str) -> None:
        await client.connect()
        if self._config.username is not None:
            await client.login(self._config.username, self._config.password or "")
        await client.mail(self._config.sender)
        await client.rcpt(recipient)

    async def _hand_over(self, client: SMTP, data: bytes, deadline: Deadline) -> Outcome:
        try:
            async with asyncio.timeout(deadline.at - time.monotonic()):
                answer = await client.data(data)
        except aiosmtplib.SMTPResponseException as error:
            if error.code < 400:
                return Unknown(Reason.UNREADABLE_ANSWER, self.name, f"SMTP {error.code}")
            return self._refused(error.code)
        except (aiosmtplib.SMTPTimeoutError, TimeoutError):
            return Unknown(Reason.TIMEOUT, self.name)
        except (aiosmtplib.SMTPException, OSError) as error:
            return Unknown(Reason.CONNECTION_LOST, self.name, type(error).__name__)
        return Accepted(self.name, detail=f"SMTP {answer.code}")

    def _refused(self, code: int) -> Outcome:
        if code >= 500:
            return Rejected(Reason.REFUSED, self.name, f"SMTP {code}")
        return Retry(Reason.SERVER_ERROR, self.name, detail=f"SMTP {code}")
