"""One-click unsubscribe: the headers in real messages, the page, and what a click changes."""

import asyncio
import re
from html import unescape
from typing import Any

import pytest
from aiohttp import FormData
from tests.integration.conftest import API, SECRET, Running, Start, message
from tests.integration.feedback.conftest import KEPT
from tests.servers.sendgrid import KEY, SENDER, SendGrid
from tests.servers.smtp import Mailbox

from notification_engine.domain.delivery import Channel
from notification_engine.security.unsubscribe import UnsubscribeTokens

PUBLIC = "https://notify.example.org/base"
CLICK = {"List-Unsubscribe": "One-Click"}
OTHER_FIELD = '--b\r\nContent-Disposition: form-data; name="x"\r\n\r\nOne-Click\r\n--b--'
LINK = re.compile(r"https://notify\.example\.org/base/api/v1/notifications/unsubscribe/([A-Za-z0-9_-]+)")


@pytest.fixture
async def public(start: Start) -> Running:
    return await start(PUBLIC_URL=f"{PUBLIC}/")


@pytest.fixture
async def sendgrid() -> Any:
    server = SendGrid()
    await server.start()
    yield server
    await server.stop()


async def stored(running: Running) -> dict[str, list[dict[str, Any]]]:
    database = running.engine.database
    return {name: [d async for d in database.collection(name).find({}, sort=[("_id", 1)])] for name in KEPT}


async def ask(running: Running, method: str, token: str, **kwargs: Any) -> tuple[int, str]:
    """Without any token of ours, as a mail client asks."""
    async with running.session.request(method, f"{running.address}{API}/unsubscribe/{token}", **kwargs) as answer:
        assert answer.content_type == "text/html"
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        return answer.status, await answer.text()


def a_token(user: str = "u1", kind: str = "test.message", channel: Channel = Channel.EMAIL) -> str:
    return UnsubscribeTokens(SECRET).seal(user, kind, channel)


async def emailed(running: Running, **fields: Any) -> str:
    return str((await running.settled(await running.accept(message(channels=["email"], **fields))))["status"])


async def test_an_email_carries_the_headers_on_one_line_each(public: Running, mailbox: Mailbox) -> None:
    assert await emailed(public, title="Grüße") == "accepted"
    raw = mailbox.envelopes[0].original_content
    assert isinstance(raw, bytes)
    head = raw.partition(b"\r\n\r\n")[0].decode("ascii")
    (line,) = [line for line in head.split("\r\n") if line.startswith("List-Unsubscribe:")]
    found = re.fullmatch(rf"List-Unsubscribe: <{LINK.pattern}>", line)
    assert found
    assert len(line) < 998
    assert "\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n" in head
    parts = {p.get_content_type(): p.get_content() for p in mailbox.messages[0].walk() if not p.is_multipart()}
    for content in (parts["text/plain"], parts["text/html"]):
        assert LINK.search(content.replace("=\n", "")) is not None
    assert found[1] in parts["text/plain"]


async def test_what_is_transactional_carries_none(public: Running, mailbox: Mailbox) -> None:
    assert await emailed(public, notification_type="account.password_reset") == "accepted"
    received = mailbox.messages[0]
    assert received["List-Unsubscribe"] is None
    assert received["List-Unsubscribe-Post"] is None
    assert b"unsubscribe" not in (mailbox.envelopes[0].original_content or b"")  # type: ignore[operator]


async def test_without_a_public_address_there_is_none(running: Running, mailbox: Mailbox) -> None:
    assert await emailed(running) == "accepted"
    assert mailbox.messages[0]["List-Unsubscribe"] is None
    assert b"unsubscribe" not in (mailbox.envelopes[0].original_content or b"")  # type: ignore[operator]


async def test_sendgrid_is_given_the_headers(start: Start, sendgrid: SendGrid) -> None:
    running = await start(
        PUBLIC_URL=PUBLIC,
        EMAIL_PROVIDER="sendgrid",
        SENDGRID_API_KEY=KEY,
        SENDGRID_FROM_EMAIL=SENDER,
        SENDGRID_BASE_URL=sendgrid.address,
    )
    assert await emailed(running) == "accepted"
    headers = sendgrid.taken[0]["headers"]
    assert re.fullmatch(f"<{LINK.pattern}>", headers["List-Unsubscribe"])
    assert headers["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert await emailed(running, notification_type="account.locked_out") == "accepted"
    assert set(sendgrid.taken[1]["headers"]) == {"X-Notification-Delivery-Id"}


async def test_the_link_of_an_email_ends_the_next_one(public: Running, mailbox: Mailbox) -> None:
    assert await emailed(public) == "accepted"
    found = LINK.search(str(mailbox.messages[0]["List-Unsubscribe"]))
    assert found
    assert (await ask(public, "POST", found[1], data=CLICK))[0] == 200
    assert await emailed(public) == "suppressed"
    assert await emailed(public, notification_type="test.other") == "accepted"
    assert len(mailbox.messages) == 2


async def test_looking_changes_nothing(public: Running) -> None:
    before = await stored(public)
    status, html = await ask(public, "GET", a_token())
    assert status == 200
    assert "test.message" in html
    assert '<form method="post">' in html
    assert "u1" not in html
    assert "<script" not in html
    async with public.session.head(f"{public.address}{API}/unsubscribe/{a_token()}") as answer:
        assert answer.status == 405
    assert await stored(public) == before


@pytest.mark.parametrize("kind", ["urlencoded", "multipart"])
async def test_a_click_switches_this_type_and_channel_off_and_nothing_else(public: Running, kind: str) -> None:
    chosen = {"mute": False, "types": {"test.*": {"webhook": False}, "test.message": {"in_app": True}}}
    assert (await public.call("PUT", "/preferences?user_id=u1", chosen))[0] == 200
    form = FormData(CLICK)
    if kind == "multipart":
        form = FormData(default_to_multipart=True)
        form.add_field("List-Unsubscribe", "One-Click")
    status, html = await ask(public, "POST", a_token(), data=form)
    assert (status, "You are unsubscribed" in html) == (200, True)
    _, preferences = await public.call("GET", "/preferences?user_id=u1")
    types = {"test.*": {"webhook": False}, "test.message": {"in_app": True, "email": False}}
    assert (preferences["types"], preferences["mute"]) == (types, False)
    of_the_operator, audited = (await stored(public))["notification_audit_logs"]
    assert of_the_operator["action"] == "preferences.replace"
    expected = ("u1", "preferences.unsubscribe", "test.message email")
    assert (audited["user_id"], audited["action"], audited["target"]) == expected


async def test_clicks_at_once_and_again_count_once(public: Running) -> None:
    answers = await asyncio.gather(*(ask(public, "POST", a_token(), data=CLICK) for _ in range(6)))
    assert {status for status, _ in answers} == {200}
    before = await stored(public)
    assert len(before["notification_preferences"]) == len(before["notification_audit_logs"]) == 1
    assert (await ask(public, "POST", a_token(), data=CLICK))[0] == 200
    assert await stored(public) == before


async def test_clicks_for_several_types_at_once_lose_none(public: Running) -> None:
    kinds = [f"test.kind{i}" for i in range(8)]
    answers = await asyncio.gather(*(ask(public, "POST", a_token(kind=k), data=CLICK) for k in kinds))
    assert {status for status, _ in answers} == {200}
    _, preferences = await public.call("GET", "/preferences?user_id=u1")
    assert preferences["types"] == {kind: {"email": False} for kind in kinds}


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/x-www-form-urlencoded", ""),
        ("application/x-www-form-urlencoded", "List-Unsubscribe=Two-Click"),
        ("application/x-www-form-urlencoded", "List-Unsubscribe=One-Click&List-Unsubscribe=x"),
        ("application/json", '{"List-Unsubscribe": "One-Click"}'),
        ("text/plain", "List-Unsubscribe=One-Click"),
        ("multipart/form-data", "List-Unsubscribe=One-Click"),
        (
            "multipart/form-data; boundary=b",
            '--b\r\nContent-Disposition: form-data; name="x"\r\n\r\nOne-Click\r\n--b--',
        ),
    ],
)
async def test_without_the_form_nothing_is_changed(public: Running, content_type: str, body: str) -> None:
    before = await stored(public)
    status, _ = await ask(public, "POST", a_token(), data=body, headers={"Content-Type": content_type})
    assert status == 400
    assert await stored(public) == before


def _other_letters(token: str) -> str:
    """The same bytes, in another spelling: the last letter holds bits that do not count."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    assert len(token) % 4
    return token[:-1] + alphabet[alphabet.index(token[-1]) ^ 1]


BAD = {
    "cut": a_token()[:-4],
    "a letter changed": ("B" if a_token()[0] == "A" else "A") + a_token()[1:],
    "another spelling": _other_letters(a_token()),
    "padded": a_token() + "=",
    "of another key": UnsubscribeTokens("another secret of the tests, 32 bytes").seal("u1", "a.b", Channel.EMAIL),
    "plain": "dTE",
    "huge": "A" * 5000,
    "no ASCII": "%C3%A4",
    "of a type that is transactional": a_token(kind="account.password_reset"),
}


@pytest.mark.parametrize("case", BAD)
async def test_a_link_that_is_none_gets_a_page_that_says_so(public: Running, case: str) -> None:
    before = await stored(public)
    for method in ("GET", "POST"):
        status, html = await ask(public, method, BAD[case], data=CLICK if method == "POST" else None)
        assert (status, "This link does not work" in html) == (404, True)
    assert await stored(public) == before


async def test_no_log_line_holds_the_link(public: Running, capsys: pytest.CaptureFixture[str]) -> None:
    token = a_token()
    await ask(public, "GET", token)
    printed = capsys.readouterr().out
    assert f"{API}/unsubscribe/..." in printed
    assert token not in printed


@pytest.mark.parametrize("chosen", [{"mute": True}, {"types": {"*": {"email": False}}}], ids=["mute", "off"])
async def test_what_is_transactional_is_sent_against_the_preferences(
    running: Running, mailbox: Mailbox, chosen: dict[str, Any]
) -> None:
    assert (await running.call("PUT", "/preferences?user_id=u1", chosen))[0] == 200
    notification_id = await running.accept(message(channels=["email"], notification_type="account.locked_out"))
    assert (await running.settled(notification_id))["status"] == "accepted"
    entries = {e["code"]: e["text"] for e in await running.timeline(notification_id)}
    assert entries["preference_ignored"].endswith("It is sent all the same: account.locked_out is transactional.")
    assert await emailed(running) == "suppressed"
    document = await running.engine.database.collection("notifications").find_one({"_id": notification_id})
    assert document is not None
    assert document["transactional"] is True


RUN = {
    "url": "https://app.example.org/runs/4711",
    "run": {"id": 4711, "name": "Checkout"},
    "tests": {"total": 2, "passed": 2, "failed": 0, "skipped": 0},
}


@pytest.mark.parametrize(("locale", "word"), [("en", "Unsubscribe"), ("de", "Abbestellen")])
async def test_a_templates_footer_holds_the_link(public: Running, mailbox: Mailbox, locale: str, word: str) -> None:
    recipient = {"user_id": "u1", "email": "u1@example.org", "locale": locale}
    body = message(channels=["email"], notification_type="test_execution.completed", data=RUN)
    body |= {"recipients": [recipient]}
    body.pop("title")
    body.pop("body")
    assert (await public.settled(await public.accept(body)))["status"] == "accepted"
    (received,) = mailbox.messages
    found = LINK.search(str(received["List-Unsubscribe"]))
    assert found
    parts = {p.get_content_type(): p.get_content() for p in received.walk() if not p.is_multipart()}
    assert re.search(rf'<a href="{re.escape(found[0])}"[^>]*>{word}</a>', unescape(parts["text/html"]))
    assert parts["text/plain"].count(found[0]) == 1


async def test_a_type_that_operators_made_transactional_cannot_be_switched_off(public: Running) -> None:
    changed = {"channels": ["email"], "transactional": True}
    status, answer = await public.call("PUT", "/types/test.message", changed)
    assert status in {200, 201}, answer
    before = (await stored(public))["notification_preferences"]
    assert (await ask(public, "POST", a_token(), data=CLICK))[0] == 404
    assert (await stored(public))["notification_preferences"] == before == []
