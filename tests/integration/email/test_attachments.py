"""Attachments by content and by address, under the same guard as webhooks."""

import base64
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from tests.integration.conftest import Running, Start, message
from tests.servers.http import HttpServer
from tests.servers.smtp import Mailbox

from notification_engine.channels.email import attachments as attaching

PDF = b"%PDF-1.7 a report"


def by_content(name: str = "report.pdf", content: bytes = PDF, kind: str = "application/pdf") -> dict[str, str]:
    return {"filename": name, "content_type": kind, "content": base64.b64encode(content).decode()}


class Files(HttpServer):
    """A file server; `status` and `body` are what it answers."""

    def __init__(self) -> None:
        super().__init__()
        self.status, self.body = 200, PDF
        self.asked = 0

    def application(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/{name}", self._handle)
        return app

    async def _handle(self, request: web.Request) -> web.Response:
        self.asked += 1
        headers = {"Location": "http://127.0.0.1:1/"} if 300 <= self.status < 400 else {}
        return web.Response(status=self.status, body=self.body, headers=headers)


@pytest.fixture
async def files() -> AsyncIterator[Files]:
    server = Files()
    await server.start()
    yield server
    await server.stop()


async def emailed(running: Running, *attachments: dict[str, str], **fields: Any) -> dict[str, Any]:
    notification_id = await running.accept(message(channels=["email"], attachments=attachments, **fields))
    return await running.settled(notification_id)


async def test_contents_arrive_as_they_were_given(running: Running, mailbox: Mailbox) -> None:
    shown = await emailed(running, by_content(), by_content("log ü.txt", b"line\n", "text/plain"))
    assert shown["status"] == "accepted"
    (mail,) = await mailbox.received(1)
    parts = [(p.get_filename(), p.get_content_type(), p.get_payload(decode=True)) for p in mail.iter_attachments()]
    assert parts == [("report.pdf", "application/pdf", PDF), ("log ü.txt", "text/plain", b"line\n")]


async def test_a_content_is_kept_once_for_all_recipients(running: Running, mailbox: Mailbox) -> None:
    for _ in range(2):
        await running.accept(message("a", "b", "c", channels=["email"], attachments=[by_content()]))
    await mailbox.received(6)
    collection = running.engine.database.collection("notification_attachments")
    assert await collection.count_documents({}) == 1


async def test_an_address_is_fetched_when_it_is_sent(running: Running, mailbox: Mailbox, files: Files) -> None:
    attachment = {"filename": "report.pdf", "content_type": "application/pdf", "url": f"{files.address}/r"}
    await emailed(running, attachment)
    (mail,) = await mailbox.received(1)
    assert [p.get_payload(decode=True) for p in mail.iter_attachments()] == [PDF]
    assert files.asked == 1


@pytest.mark.parametrize("status", [301, 404, 403])
async def test_an_address_that_will_not_serve_ends_it(
    running: Running, mailbox: Mailbox, files: Files, status: int
) -> None:
    files.status = status
    shown = await emailed(running, {"filename": "r", "url": f"{files.address}/r"})
    assert (shown["status"], shown["deliveries"][0]["reason"]) == ("failed", "attachment_failed")
    assert mailbox.messages == []
    assert files.asked == 1


async def test_an_address_that_fails_for_now_is_asked_again(running: Running, mailbox: Mailbox, files: Files) -> None:
    files.status = 503
    shown = await emailed(running, {"filename": "r", "url": f"{files.address}/r"})
    assert (shown["status"], shown["deliveries"][0]["attempts"]) == ("failed", 3)
    assert files.asked == 3
    assert mailbox.messages == []


async def test_a_file_over_the_limit_is_too_large(
    running: Running, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attaching, "MAX_FILE_BYTES", 1000)
    files.body = b"x" * 1001
    shown = await emailed(running, {"filename": "r", "url": f"{files.address}/r"})
    assert shown["deliveries"][0]["reason"] == "too_large"


async def test_all_files_together_are_bounded(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attaching, "MAX_MESSAGE_BYTES", 1000)
    shown = await emailed(running, by_content("a", b"x" * 600), by_content("b", b"y" * 600))
    assert shown["deliveries"][0]["reason"] == "too_large"


async def test_an_address_within_is_refused_when_it_is_given_and_when_it_is_sent(start: Start, files: Files) -> None:
    running = await start(WEBHOOK_ALLOWED_NETWORKS=[])
    body = message(channels=["email"], attachments=[{"filename": "r", "url": f"{files.address}/r"}])
    status, problem = await running.call("POST", "", body)
    assert (status, problem["field"]) == (422, "attachments.0.url")
    status, answer = await running.call("POST", "/batch", {"notifications": [message(), body]})
    assert (status, [r["status"] for r in answer["results"]]) == (207, [202, 422])
    assert answer["results"][1]["problem"]["field"] == "attachments.0.url"
    port = files.address.rpartition(":")[2]
    shown = await emailed(running, {"filename": "r", "url": f"http://localhost:{port}/r"})
    assert shown["deliveries"][0]["reason"] == "blocked_address"
    assert files.asked == 0


@pytest.mark.parametrize(
    ("attachment", "field"),
    [
        ({"filename": "r"}, "attachments.0"),
        ({"filename": "r", "content": "eA==", "url": "http://a.example/"}, "attachments.0"),
        ({"filename": "r", "content": "%"}, "attachments.0.content"),
        ({"filename": "", "content": "eA=="}, "attachments.0.filename"),
        ({"filename": "../r", "content": "eA=="}, "attachments.0.filename"),
        ({"filename": "a\r\nBcc: x", "content": "eA=="}, "attachments.0.filename"),
        ({"filename": "r", "content": "eA==", "content_type": "text"}, "attachments.0.content_type"),
        ({"filename": "r", "content": "eA==", "content_type": "a/b\r\nX: y"}, "attachments.0.content_type"),
        ({"filename": "r", "content": "eA==", "inline": True}, "attachments.0.inline"),
    ],
)
async def test_a_fault_names_its_field(shared: Running, attachment: dict[str, Any], field: str) -> None:
    status, problem = await shared.call("POST", "", message(channels=["email"], attachments=[attachment]))
    assert (status, problem["field"].startswith(field)) == (422, True), problem


async def test_more_than_ten_are_refused(shared: Running) -> None:
    body = message(channels=["email"], attachments=[by_content(str(i)) for i in range(11)])
    status, problem = await shared.call("POST", "", body)
    assert (status, problem["field"]) == (422, "attachments")


async def test_a_content_that_is_no_longer_kept_ends_the_delivery(running: Running, mailbox: Mailbox) -> None:
    from datetime import UTC, datetime, timedelta

    soon = (datetime.now(UTC) + timedelta(seconds=1)).isoformat()
    notification_id = await running.accept(message(channels=["email"], attachments=[by_content()], scheduled_at=soon))
    await running.engine.database.collection("notification_attachments").delete_many({})
    shown = await running.settled(notification_id)
    assert shown["deliveries"][0]["reason"] == "attachment_failed"
    assert mailbox.messages == []
