"""Amazon SES, emulated by moto's server over real HTTP, in a process of its own."""

import asyncio
import os
import socket
import sys
from email import message_from_bytes, policy
from email.message import EmailMessage

import aiohttp
from aiobotocore.session import get_session
from tests.canaries import canary

KEY, SECRET, REGION = "testing", canary("aws-secret-key"), "us-east-1"


class Ses:
    def __init__(self) -> None:
        self.address = ""
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.address = f"http://127.0.0.1:{port}"
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "moto.server",
            *("-H", "127.0.0.1", "-p", str(port)),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            env=os.environ | {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET},
        )
        async with asyncio.timeout(60), aiohttp.ClientSession() as session:
            while True:
                try:
                    async with session.get(f"{self.address}/moto-api/data.json"):
                        return
                except aiohttp.ClientConnectionError:
                    await asyncio.sleep(0.1)  # not listening yet

    async def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            await self._process.wait()

    async def verify(self, sender: str) -> None:
        """Makes an identity of the account: SES refuses every other sender."""
        async with get_session().create_client(
            "sesv2",
            region_name=REGION,
            aws_access_key_id=KEY,
            aws_secret_access_key=SECRET,
            endpoint_url=self.address,
        ) as client:
            await client.create_email_identity(EmailIdentity=sender)

    async def sent(self) -> list[EmailMessage]:
        """What it took so far, oldest first."""
        async with aiohttp.ClientSession() as session, session.get(f"{self.address}/moto-api/data.json") as answer:
            data = await answer.json(content_type=None)
        raw = [message["raw_data"].encode() for message in data["ses"]["RawMessage"]]
        return [message_from_bytes(data, policy=policy.default) for data in raw]  # type: ignore[misc]

    async def reset(self) -> None:
        async with aiohttp.ClientSession() as session, session.post(f"{self.address}/moto-api/reset"):
            return
