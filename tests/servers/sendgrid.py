"""A stand-in for SendGrid's v3 Mail Send that enforces the vendor's documented rules and fails when told to.

Rules after the Twilio SendGrid API reference, "Mail Send" (limitations and request body), and its OpenAPI description;
where one of the two is stricter, it counts.
"""

import asyncio
import base64
import binascii
import itertools
import json
import re
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from tests.canaries import canary
from tests.servers.http import HttpServer

KEY = "SG." + canary("sendgrid-key")
SENDER = "engine@example.org"
MAX_TOTAL = 30 * 1024 * 1024
MAX_PERSONALIZATIONS = 1000
MAX_CUSTOM_ARGS = 10_000
_ADDRESS = re.compile(r"[^@\s]+@[^@\s.]+(\.[^@\s.]+)+")
RESERVED = {"x-sg-id", "x-sg-eid", "received", "dkim-signature", "content-type", "content-transfer-encoding"} | {
    "to",
    "from",
    "subject",
    "reply-to",
    "cc",
    "bcc",
}


@dataclass
class Fault:
    """`mode`: status, drop (before an answer), reset (before the body is read), silent, html, truncated."""

    mode: str = "status"
    status: int = 500
    headers: dict[str, str] = field(default_factory=dict)
    taken: bool = False  # the message counts as taken although no good answer comes


class SendGrid(HttpServer):
    """`faults` are used up one a call. `verified` are the senders of the account."""

    def __init__(self) -> None:
        super().__init__()
        self.taken: list[dict[str, Any]] = []
        self.calls: list[dict[str, Any]] = []
        self.faults: deque[Fault] = deque()
        self.always: Fault | None = None
        self.verified = {SENDER}
        self.scopes = ["mail.send", "mail.batch.create"]  # of the one key
        self.scopes_status = 200
        self.asked_scopes = 0
        self._changed = asyncio.Condition()
        self._ids = itertools.count(1)

    def application(self) -> web.Application:
        app = web.Application(client_max_size=2 * MAX_TOTAL)
        app.router.add_route("*", "/v3/mail/send", self._handle)
        app.router.add_get("/v3/scopes", self._show_scopes)
        return app

    async def received(self, count: int, seconds: float = 20) -> list[dict[str, Any]]:
        async with asyncio.timeout(seconds), self._changed:
            await self._changed.wait_for(lambda: len(self.taken) >= count)
        return self.taken

    async def _show_scopes(self, request: web.Request) -> web.Response:
        """API reference, "API Key Permissions": what the key may do."""
        self.asked_scopes += 1
        if request.headers.get("Authorization") != f"Bearer {KEY}":
            return _problem(401, "authorization required", None)
        return web.json_response({"scopes": self.scopes}, status=self.scopes_status)

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        fault = self.faults.popleft() if self.faults else self.always
        if fault and fault.mode == "reset":
            _abort(request)
            return web.Response()
        raw = await request.read()
        refusal = self._refusal(request, raw)
        if refusal is not None and fault is None:
            return _problem(*refusal)
        body = json.loads(raw)
        async with self._changed:
            self.calls.append(body)
            if fault is None or fault.taken:
                self.taken.append(body)
            self._changed.notify_all()
        return await self._answer(request, fault)

    async def _answer(self, request: web.Request, fault: Fault | None) -> web.StreamResponse:
        if fault is None:
            return web.Response(status=202, headers={"X-Message-Id": f"sg-{next(self._ids)}"})
        match fault.mode:
            case "drop":
                _abort(request)
            case "silent":
                await asyncio.sleep(3600)
            case "html":
                return web.Response(status=200, text="<html>Welcome</html>", content_type="text/html")
            case "truncated":
                assert request.transport is not None
                request.transport.write(b"HTTP/1.1 2")
                _abort(request, flush=True)
            case _:
                return web.Response(status=fault.status, headers=fault.headers)
        return web.Response()

    def _refusal(self, request: web.Request, raw: bytes) -> tuple[int, str, str | None] | None:
        """Status, message and field by the first rule that is broken."""
        if request.method != "POST":
            return 405, "method not allowed", None
        if request.headers.get("Authorization") != f"Bearer {KEY}":
            return 401, "The provided authorization grant is invalid, expired, or revoked", None
        if len(raw) > MAX_TOTAL:
            return 413, "content too large", None
        if request.content_type != "application/json":
            return 415, "unsupported media type", None
        try:
            body = json.loads(raw)
        except ValueError:
            return 400, "Bad Request", None
        if fault := broken_rule(body):
            return 400, *fault
        if body["from"]["email"] not in self.verified:
            return 403, "The from address does not match a verified Sender Identity.", "from"
        return None


def broken_rule(body: Any) -> tuple[str, str | None] | None:
    """The message and the field of the first documented rule that the body breaks; None for a good one."""
    if not isinstance(body, dict):
        return "Bad Request", None
    for rule in (_types, _personalizations, _from, _subject, _content, _custom_args, _headers, _attachments, _send_at):
        if found := rule(body):
            return found
    return None


Broken = tuple[str, str | None] | None
_TYPES: dict[str, type] = {
    **dict.fromkeys(("personalizations", "attachments", "to", "cc", "bcc"), list),
    **dict.fromkeys(("from", "headers"), dict),
    **dict.fromkeys(("subject", "email", "name", "type", "value", "filename", "disposition"), str),
}
_FREE = {"headers", "custom_args"}  # what is in them has names of the sender's own


def _types(given: dict[str, Any], where: str = "") -> Broken:
    """A field of one name has one type wherever it stands, but `content`: a list, or an attachment's text."""
    for name, value in given.items():
        at = f"{where}{name}"
        wanted = (str if where.startswith("attachments.") else list) if name == "content" else _TYPES.get(name, object)
        if not isinstance(value, wanted):
            return "Bad Request: of another type.", at
        if isinstance(value, dict) and name not in _FREE and (found := _types(value, f"{at}.")):
            return found
        for index, item in enumerate(value if isinstance(value, list) else ()):
            if not isinstance(item, dict):
                return "Bad Request: an object is expected.", f"{at}.{index}"
            if found := _types(item, f"{at}.{index}."):
                return found
    return None


def _personalizations(body: dict[str, Any]) -> Broken:
    given = body.get("personalizations")
    if not isinstance(given, list) or not given:
        return "The personalizations field is required and must have at least one personalization.", "personalizations"
    if len(given) > MAX_PERSONALIZATIONS:
        return "You may not have more than 1000 personalizations.", "personalizations"
    for index, personalization in enumerate(given):
        to = personalization.get("to")
        where = f"personalizations.{index}.to"
        if not isinstance(to, list) or not to:
            return "The to array is required for all personalization objects, and must have at least one object.", where
        seen: set[str] = set()
        for number, address in enumerate(to + personalization.get("cc", []) + personalization.get("bcc", [])):
            email = address.get("email") if isinstance(address, dict) else None
            if not isinstance(email, str) or not email.isascii() or not _ADDRESS.fullmatch(email):
                return "Does not contain a valid address.", f"{where}.{number}.email"
            if email.lower() in seen:
                return "Each email address in the personalization block should be unique.", where
            seen.add(email.lower())
    if sum(len(p.get("to", [])) + len(p.get("cc", [])) + len(p.get("bcc", [])) for p in given) > 1000:
        return "The total number of recipients must be no more than 1000.", "personalizations"
    return None


def _from(body: dict[str, Any]) -> Broken:
    sender = body.get("from")
    if not isinstance(sender, dict) or not isinstance(sender.get("email"), str):
        return "The from object must be provided for every email send.", "from.email"
    return None if _ADDRESS.fullmatch(sender["email"]) else ("Does not contain a valid address.", "from.email")


def _subject(body: dict[str, Any]) -> Broken:
    subjects = [body.get("subject")] + [p.get("subject") for p in body["personalizations"]]
    if not any(isinstance(s, str) and s for s in subjects):
        return "The subject is required.", "subject"
    if any(isinstance(s, str) and re.search(r"[\x00-\x1f\x7f]", s) for s in subjects):
        return "The subject must not contain control characters.", "subject"
    return None


def _content(body: dict[str, Any]) -> Broken:
    content = body.get("content")
    if not isinstance(content, list) or not content:
        return "Unless a valid template_id is provided, the content parameter is required.", "content"
    for index, part in enumerate(content):
        if not isinstance(part, dict) or not part.get("type"):
            return "The content type is required.", f"content.{index}.type"
        if not isinstance(part.get("value"), str) or not part["value"]:
            return "The content value must be a string at least one character in length.", f"content.{index}.value"
    kinds = [part["type"] for part in content]
    if "text/plain" in kinds[1:] or kinds.count("text/html") > 1:
        return "If present, text/plain must be first, followed by text/html, followed by any other content.", "content"
    return None


def _custom_args(body: dict[str, Any]) -> Broken:
    """The prose shows an object for the whole send too, the description allows a string alone."""
    if not isinstance(body.get("custom_args", ""), str):
        return "Custom args of the whole send must be a string.", "custom_args"
    for index, personalization in enumerate(body["personalizations"]):
        args = personalization.get("custom_args", {})
        where = f"personalizations.{index}.custom_args"
        if not isinstance(args, dict) or any(not isinstance(value, str) for value in args.values()):
            return "Custom args must be strings.", where
        if len(json.dumps(args)) >= MAX_CUSTOM_ARGS:
            return "Custom args must be less than 10,000 bytes.", where
    return None


def _headers(body: dict[str, Any]) -> Broken:
    for name, value in body.get("headers", {}).items():
        if name.lower() in RESERVED:
            return "The header is reserved.", f"headers.{name}"
        if not name.isascii() or not isinstance(value, str) or re.search(r"[\r\n\x00]", value):
            return "Headers must be strings of one line.", f"headers.{name}"
    return None


def _attachments(body: dict[str, Any]) -> Broken:
    for index, attachment in enumerate(body.get("attachments", [])):
        where = f"attachments.{index}"
        if not attachment.get("filename"):
            return "The attachment filename is required.", f"{where}.filename"
        if attachment.get("type") == "":
            return "The attachment type must be at least one character in length.", f"{where}.type"
        if attachment.get("disposition", "attachment") not in {"attachment", "inline"}:
            return "The attachment disposition must be attachment or inline.", f"{where}.disposition"
        if "content" not in attachment:
            return "The attachment content is required.", f"{where}.content"
        try:
            if not base64.b64decode(attachment["content"], validate=True):
                return "The attachment content is required.", f"{where}.content"
        except binascii.Error:
            return "The attachment content must be base64 encoded.", f"{where}.content"
    return None


def _send_at(body: dict[str, Any]) -> Broken:
    at = body.get("send_at")
    if at is not None and (not isinstance(at, int) or at > time.time() + 72 * 3600):
        return "You can only schedule up to 72 hours in advance.", "send_at"
    return None


def _problem(status: int, message: str, name: str | None) -> web.Response:
    return web.json_response({"errors": [{"message": message, "field": name}]}, status=status)


def _abort(request: web.Request, *, flush: bool = False) -> None:
    if request.transport is not None:
        request.transport.close() if flush else request.transport.abort()
