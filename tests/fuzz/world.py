"""What a fuzzer runs against: an engine process on a replica set, with a mail server; its log is read at the end."""

import asyncio
import sys
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import ClientSession
from tests.chaos.cluster import die_with_parent
from tests.chaos.engines import SETTINGS, EngineProcess, environment
from tests.servers.callbacks import TOPIC, SendGridSigner
from tests.servers.smtp import Mailbox

from notification_engine.domain.caller import Role
from notification_engine.security.tokens import Tokens
from notification_engine.storage.connection import Database

API = "/api/v1/notifications"
USER = "fuzz"
SECRET = str(SETTINGS["JWT_SECRET_KEY"])
DEFECTS = ("failed unexpectedly", "Traceback", "was never retrieved", '"level":"CRITICAL"')


def token(sub: str, *roles: Role) -> str:
    return Tokens(SECRET, "HS256").issue(sub, list(roles), 24 * 60)


class ClosedEngine(EngineProcess):
    """An engine that reaches nothing but loopback; see `closed`."""

    async def start(self, *, ready: bool = True) -> None:
        with self.log.open("ab") as log:
            self.child = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "tests.fuzz.closed", "serve", "--port", str(self.port)),
                cwd=Path(__file__).parents[2],
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment(self._settings),
                start_new_session=True,
                preexec_fn=die_with_parent,
            )
        if ready:
            await self.ready()

    def defects(self) -> list[str]:
        """The lines of its log that tell of a defect; everything that a caller may cause is none."""
        return [line for line in self.log.read_text().splitlines() if any(mark in line for mark in DEFECTS)]


async def furnish(engine: ClosedEngine) -> None:
    """An inbox and a dead letter of the user who fuzzes: what a list shows is asked for by its id."""
    headers = {"Authorization": f"Bearer {token(USER, *Role)}"}
    base = {"notification_type": "test.message", "recipients": [{"user_id": USER}], "title": "Hello", "body": ""}
    async with ClientSession(engine.address, headers=headers) as session:
        hook = {"url": "http://127.0.0.1:9/closed", "notification_types": ["*"]}
        async with session.post(f"{API}/webhooks", json=hook) as answer:
            assert answer.status == 201, await answer.text()
        for channels in (["in_app"], ["in_app"], ["webhook"]):
            async with session.post(API, json=base | {"channels": channels}) as answer:
                assert answer.status == 202, await answer.text()


@asynccontextmanager
async def world(directory: Path, mongod: str, **settings: Any) -> AsyncIterator[ClosedEngine]:
    mailbox = Mailbox()
    await mailbox.start()
    name = f"fuzz_{uuid.uuid4().hex[:12]}"
    given = SETTINGS | {
        "MONGODB_URL": mongod,
        "MONGODB_DATABASE": name,
        "SMTP_PORT": mailbox.port,
        "SENDGRID_WEBHOOK_PUBLIC_KEY": SendGridSigner().public_key,
        "SES_SNS_TOPIC_ARN": TOPIC,
        "PUBLIC_URL": "http://127.0.0.1",
        "NOTIFICATION_RETRY_MAX_ATTEMPTS": 1,
        "WEBHOOK_MAX_RETRIES": 0,
        "RATE_LIMITS_ENABLED": False,  # they have tests of their own; here each request is to meet its route
    }
    engine = ClosedEngine("fuzzed", directory, given | settings, broken=None, clock=None)
    try:
        await engine.start()
        await furnish(engine)
        yield engine
    finally:
        await engine.kill()
        await mailbox.stop()
        database = Database(mongod, name, pool_size=1)
        await database.drop()
        await database.close()
