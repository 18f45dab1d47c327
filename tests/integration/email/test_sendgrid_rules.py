"""The stand-in for SendGrid keeps the vendor's rules, one rejecting test for each; our own request breaks none."""

import base64
import copy
import time
from typing import Any

import pytest
from aiohttp import ClientSession
from tests.servers.sendgrid import KEY, MAX_TOTAL, SENDER, SendGrid, broken_rule

from notification_engine.channels.email.sendgrid import mail_send
from notification_engine.rendering.plain import Attached, Email

EMAIL = Email(
    "dlv_01jnbkz0000000000000000000_0",
    "ada@bücher.example",
    "Grüße 🚀",
    "text",
    "<p>html</p>",
    (("List-Unsubscribe-Post", "List-Unsubscribe=One-Click"),),
    (Attached("report.pdf", "application/pdf", b"%PDF-1.7"),),
)
GOOD = mail_send(EMAIL, SENDER, "Engine")


def changed(**fields: Any) -> dict[str, Any]:
    body = copy.deepcopy(GOOD) | fields
    return {name: value for name, value in body.items() if value is not None}


def to(*addresses: str) -> dict[str, Any]:
    return {"to": [{"email": address} for address in addresses]}


def tagged(args: dict[str, Any]) -> dict[str, Any]:
    return to("a@b.example") | {"custom_args": args}


def attached(**fields: str) -> dict[str, str]:
    return {"filename": "a", "content": "eA=="} | fields


RULES: list[tuple[str, dict[str, Any], str]] = [
    ("personalizations are required", changed(personalizations=None), "personalizations"),
    ("at most 1,000 personalizations", changed(personalizations=[to("a@b.example")] * 1001), "personalizations"),
    ("each has recipients", changed(personalizations=[{}]), "personalizations.0.to"),
    ("an address is an address", changed(personalizations=[to("nobody")]), "personalizations.0.to.0.email"),
    ("an address is ASCII", changed(personalizations=[to("ä@b.example")]), "personalizations.0.to.0.email"),
    ("addresses are unique", changed(personalizations=[to("a@b.example", "A@b.example")]), "personalizations.0.to"),
    ("from is required", changed(**{"from": None}), "from.email"),
    ("from is an address", changed(**{"from": {"email": "x"}}), "from.email"),
    ("a subject is required", changed(subject=""), "subject"),
    ("a subject is one line", changed(subject="a\r\nBcc: eve@example.org"), "subject"),
    ("content is required", changed(content=[]), "content"),
    ("content has a type", changed(content=[{"value": "x"}]), "content.0.type"),
    ("content is not empty", changed(content=[{"type": "text/plain", "value": ""}]), "content.0.value"),
    ("text comes first", changed(content=list(reversed(GOOD["content"]))), "content"),
    ("custom args of the whole send are a text", changed(custom_args={"n": "1"}), "custom_args"),
    ("custom args are texts", changed(personalizations=[tagged({"n": 1})]), "personalizations.0.custom_args"),
    (
        "custom args are small",
        changed(personalizations=[tagged({"n": "x" * 10_000})]),
        "personalizations.0.custom_args",
    ),
    ("a name is a text", changed(**{"from": {"email": SENDER, "name": 1}}), "from.name"),
    ("some headers are reserved", changed(headers={"Received": "x"}), "headers.Received"),
    ("headers are one line", changed(headers={"X-A": "a\r\nb"}), "headers.X-A"),
    ("attachments have a name", changed(attachments=[{"content": "eA=="}]), "attachments.0.filename"),
    ("attachments have a content", changed(attachments=[{"filename": "a"}]), "attachments.0.content"),
    ("attachments have a type", changed(attachments=[attached(type="")]), "attachments.0.type"),
    ("attachments are shown somehow", changed(attachments=[attached(disposition="x")]), "attachments.0.disposition"),
    ("attachments are base64", changed(attachments=[{"filename": "a", "content": "%"}]), "attachments.0.content"),
    ("not later than 72 hours", changed(send_at=int(time.time()) + 80 * 3600), "send_at"),
]


@pytest.mark.parametrize(("body", "field"), [rule[1:] for rule in RULES], ids=[rule[0] for rule in RULES])
async def test_a_broken_rule_is_refused_by_its_field(sendgrid: SendGrid, body: dict[str, Any], field: str) -> None:
    async with ClientSession() as session:
        answer = await session.post(f"{sendgrid.address}/v3/mail/send", json=body, headers=bearer(KEY))
        assert answer.status == 400
        assert (await answer.json())["errors"][0]["field"] == field
    assert sendgrid.taken == []


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@pytest.mark.parametrize(
    ("method", "key", "kind", "sender", "status"),
    [
        ("GET", KEY, "application/json", SENDER, 405),
        ("POST", "SG.other", "application/json", SENDER, 401),
        ("POST", KEY, "text/plain", SENDER, 415),
        ("POST", KEY, "application/json", "stranger@example.org", 403),
    ],
)
async def test_who_asks_and_how_counts(
    sendgrid: SendGrid, method: str, key: str, kind: str, sender: str, status: int
) -> None:
    body = changed(**{"from": {"email": sender}})
    async with ClientSession() as session:
        url = f"{sendgrid.address}/v3/mail/send"
        answer = await session.request(method, url, json=body, headers=bearer(key) | {"Content-Type": kind})
        assert answer.status == status


async def test_more_than_thirty_megabytes_are_too_large(sendgrid: SendGrid) -> None:
    attachments = [{"filename": "a", "content": base64.b64encode(b"x" * MAX_TOTAL).decode()}]
    async with ClientSession() as session:
        url = f"{sendgrid.address}/v3/mail/send"
        answer = await session.post(url, json=changed(attachments=attachments), headers=bearer(KEY))
        assert answer.status == 413


def test_our_own_request_breaks_no_rule() -> None:
    assert broken_rule(GOOD) is None
    recipient = to("ada@xn--bcher-kva.example")
    assert GOOD["personalizations"] == [recipient | {"custom_args": {"delivery_id": EMAIL.delivery_id}}]
