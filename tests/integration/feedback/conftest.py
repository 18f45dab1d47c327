"""Engines that take callbacks, and what their database holds."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import bson
import pytest
from tests.integration.conftest import API, Running, Start, message
from tests.servers.callbacks import TOPIC, SendGridSigner, Sns
from tests.servers.smtp import CUT, Mailbox

from notification_engine.storage.data_keys import EVENTS, SUPPRESSIONS

KEPT = (
    "notifications",
    "notification_history",
    "notification_provider_events",
    "notification_callbacks_seen",
    "notification_suppressions",
    "notification_preferences",
    "notification_audit_logs",
)


@dataclass
class Fed:
    """An engine with both callbacks configured."""

    running: Running
    signer: SendGridSigner
    sns: Sns
    mailbox: Mailbox

    async def post(self, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, Any]:
        url = f"{self.running.address}{API}/callbacks/{path}"
        async with self.running.session.post(url, data=body, headers=headers) as answer:
            text = await answer.text()
            return answer.status, json.loads(text) if text else None

    async def sendgrid(self, *events: dict[str, Any], at: datetime | None = None) -> int:
        body = json.dumps(events).encode()
        return (await self.post("sendgrid", body, self.signer.headers(body, at)))[0]

    async def ses(self, signed: dict[str, str]) -> int:
        return (await self.post("ses", json.dumps(signed).encode(), {"Content-Type": "text/plain"}))[0]

    async def emailed(self, user: str = "u1", *, cut: bool = False, **fields: Any) -> tuple[str, str]:
        """Ids of a notification and its e-mail delivery: accepted, or of unknown outcome."""
        if cut:
            self.mailbox.replies.append(CUT)
        notification_id = await self.running.accept(message(user, channels=["email"], **fields))
        shown = await self.running.settled(notification_id)
        assert shown["status"] == ("unknown" if cut else "accepted")
        return notification_id, str(shown["deliveries"][0]["delivery_id"])

    async def shown(self, notification_id: str) -> dict[str, Any]:
        return dict((await self.running.call("GET", f"/{notification_id}"))[1])

    async def stored(self) -> dict[str, list[dict[str, Any]]]:
        """Everything that a callback could change."""
        database = self.running.engine.database
        stored = {name: [d async for d in database.collection(name).find({}, sort=[("_id", 1)])] for name in KEPT}
        events, sealer = "notification_provider_events", self.running.engine.data_keys.sealer(EVENTS)
        stored[events] = [bson.decode(sealer.open(d.pop("sealed"), d["_id"])) | d for d in stored[events]]
        sealer, name = self.running.engine.data_keys.sealer(SUPPRESSIONS), "notification_suppressions"
        stored[name] = [d | {"address": sealer.open(d["address"], d["_id"]).decode()} for d in stored[name]]
        return stored

    async def suppressed(self) -> dict[str, str]:
        return {d["address"]: d["reason"] for d in (await self.stored())["notification_suppressions"]}


@pytest.fixture(scope="session")
def signer() -> SendGridSigner:
    return SendGridSigner()


@pytest.fixture
async def sns() -> AsyncIterator[Sns]:
    server = Sns()
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def fed(start: Start, signer: SendGridSigner, sns: Sns, mailbox: Mailbox) -> Fed:
    running = await start(fetcher=sns.fetcher(), SENDGRID_WEBHOOK_PUBLIC_KEY=signer.public_key, SES_SNS_TOPIC_ARN=TOPIC)
    return Fed(running, signer, sns, mailbox)
