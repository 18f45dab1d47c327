"""The page and the button behind the links in e-mails (RFC 8058). Without a token of ours: the link is the proof.

Invariant: looking changes nothing, because mail scanners follow every link.
"""

from email import message_from_bytes
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse

from notification_engine.api.dependencies import Open, Services
from notification_engine.api.rate_limits import public
from notification_engine.api.security_headers import inline_policy, page_headers
from notification_engine.domain.delivery import Channel
from notification_engine.domain.errors import NotFound
from notification_engine.services.unsubscribe import Sealed

OPEN = "The link of an e-mail is the proof."
router = APIRouter(prefix="/unsubscribe", tags=["unsubscribe"], dependencies=[Depends(Open(OPEN)), Depends(public)])
PAGE = Path(__file__).with_name("unsubscribe.html").read_text()
FIELD, VALUE = "List-Unsubscribe", "One-Click"
FORM = f'<form method="post"><input type="hidden" name="{FIELD}" value="{VALUE}"><button>Unsubscribe</button></form>'
HEADERS = page_headers(inline_policy(PAGE)) | {"X-Robots-Tag": "noindex"}
_CHANNELS = {Channel.EMAIL: "E-mails", Channel.WEBHOOK: "Webhooks", Channel.IN_APP: "Inbox messages"}
_HTML: dict[str, Any] = {"content": {"text/html": {}}}


@router.get(
    "/{token}",
    summary="A page with a button",
    description="Roles: none; the link of an e-mail. Changes nothing.",
    response_class=HTMLResponse,
    responses={404: {"description": "Not a link of ours; a page says so."} | _HTML},
)
async def look(token: str, given: Services) -> HTMLResponse:
    try:
        said = await given.unsubscribe.read(token)
    except NotFound:
        return _unknown()
    return _page("Unsubscribe?", f"{_what(said)} will no longer be sent to you.", FORM)


@router.post(
    "/{token}",
    summary="Switch this type and channel off",
    description="Roles: none; the link of an e-mail, and a form with `List-Unsubscribe=One-Click` (RFC 8058).",
    response_class=HTMLResponse,
    responses={400: {"description": "Without the form."} | _HTML, 404: {"description": "Not a link of ours."} | _HTML},
)
async def off(token: str, request: Request, given: Services) -> HTMLResponse:
    if not _clicked(request.headers.get("content-type", ""), await request.body()):
        return _page("Nothing was changed", "The request is not the one that the button sends.", status=400)
    try:
        said = await given.unsubscribe.off(token)
    except NotFound:
        return _unknown()
    more = "Other notifications still reach you; what you want of them is in your preferences."
    return _page("You are unsubscribed", f"{_what(said)} will no longer be sent to you. {more}")


def _clicked(content_type: str, body: bytes) -> bool:
    """The form that RFC 8058 demands, in either of the two encodings that it allows."""
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "application/x-www-form-urlencoded":
        return parse_qs(body.decode("latin-1")).get(FIELD) == [VALUE]
    if kind != "multipart/form-data":
        return False
    form = message_from_bytes(b"Content-Type: " + content_type.encode("latin-1") + b"\r\n\r\n" + body)
    return any(
        part.get_param("name", header="content-disposition") == FIELD
        and isinstance(value := part.get_payload(), str)
        and value.strip() == VALUE
        for part in form.walk()
    )


def _what(said: Sealed) -> str:
    return f"{_CHANNELS[said.channel]} about <b>{escape(said.notification_type)}</b>"


def _unknown() -> HTMLResponse:
    return _page(
        "This link does not work", "It is not complete, or no longer valid. Take it from the e-mail again.", status=404
    )


def _page(title: str, html: str, form: str = "", *, status: int = 200) -> HTMLResponse:
    filled = PAGE.replace("{{title}}", title).replace("{{text}}", html).replace("{{form}}", form)
    return HTMLResponse(filled, status_code=status, headers=HEADERS)
