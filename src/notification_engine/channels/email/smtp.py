"""SMTP (RFC 5321). Until the message's data is written, every failure is definite; from then on a lost answer is
unknown, because the server may have taken it. The client bounds each command; the deadline bounds the whole."""

import asyncio
import re
import time
from dataclasses import dataclass, replace

import aiosmtplib
from aiosmtplib import SMTP

from notification_engine.channels.email.credentials import Tried, unreachable
from notification_engine.channels.email.message import build
from notification_engine.channels.email.verdict import judge
from notification_engine.domain.delivery import Reason
from notification_engine.domain.outcome import Outcome, Rejected
from notification_engine.rendering.plain import Email
from notification_engine.services.ports import Deadline

_ENHANCED = re.compile(r"\s*(5\.7)\.\d+\b")


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

    def renew(self, password: str) -> None:
        self._config = replace(self._config, password=password)

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
        stage = "connect"
        try:
            async with asyncio.timeout(deadline.at - time.monotonic()):
                await client.connect()
                if self._config.username is not None:
                    stage = "auth"
                    await client.login(self._config.username, self._config.password or "")
                stage = "mail"
                await client.mail(self._config.sender)
                stage = "rcpt"
                await client.rcpt(recipient)
        except aiosmtplib.SMTPResponseException as error:
            return self._answered(stage, error)
        except (aiosmtplib.SMTPTimeoutError, TimeoutError):
            return judge(self.name, "timeout before", detail=stage)
        except (aiosmtplib.SMTPException, OSError) as error:
            return judge(self.name, "lost before", detail=f"{stage}: {type(error).__name__}")
        return await self._hand_over(client, data, deadline)

    async def _hand_over(self, client: SMTP, data: bytes, deadline: Deadline) -> Outcome:
        try:
            async with asyncio.timeout(deadline.at - time.monotonic()):
                answer = await client.data(data)
        except aiosmtplib.SMTPResponseException as error:
            return self._answered("data", error)
        except (aiosmtplib.SMTPTimeoutError, TimeoutError):
            return judge(self.name, "timeout after", detail="data")
        except (aiosmtplib.SMTPException, OSError) as error:
            return judge(self.name, "lost after", detail=f"data: {type(error).__name__}")
        return judge(self.name, f"data {answer.code}", "data 2xx", detail=f"SMTP {answer.code}")

    def _answered(self, stage: str, error: aiosmtplib.SMTPResponseException) -> Outcome:
        """By the enhanced code (RFC 3463) where one decides, then the code, then its class."""
        enhanced = _ENHANCED.match(str(error.message))
        signs = [f"{stage} {enhanced[1]}"] if enhanced else []
        signs += [f"{stage} {error.code}", f"{stage} {error.code // 100}xx"]
        return judge(self.name, *signs, detail=f"SMTP {error.code} after {stage}")

    async def try_credentials(self, seconds: float) -> Tried:
        """EHLO, STARTTLS where it is asked for, and the login."""
        c = self._config
        client = SMTP(hostname=c.host, port=c.port, start_tls=c.starttls, timeout=seconds)
        try:
            async with asyncio.timeout(seconds):
                await client.connect()
                if c.username is not None:
                    await client.login(c.username, c.password or "")
        except aiosmtplib.SMTPAuthenticationError as error:
            return Tried(False, f"the login was refused (SMTP {error.code})", "Check SMTP_USERNAME and SMTP_PASSWORD.")
        except aiosmtplib.SMTPResponseException as error:
            return Tried(False, f"the server refused us (SMTP {error.code})", "Check SMTP_HOST, SMTP_PORT and its log.")
        except (aiosmtplib.SMTPConnectError, aiosmtplib.SMTPTimeoutError, TimeoutError, OSError) as error:
            return unreachable("the mail server", error)
        except aiosmtplib.SMTPException as error:  # it knows no STARTTLS, or no log-in
            return Tried(False, f"the server lacks what is asked ({type(error).__name__})", "Check SMTP_STARTTLS.")
        finally:
            client.close()
        return Tried(True, "logged in" if c.username is not None else "greeted, no log-in is set")

    async def close(self) -> None:
        """Every message has a connection of its own."""
