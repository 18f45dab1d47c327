"""Every request that we send, and the stand-in's rules, against the vendor's own OpenAPI description of Mail Send.

The description is data beside the repository, `../shared/vendor/sendgrid/tsg_mail_v3.json`; a checkout without it has
no test here, and `test_sendgrid_rules.py` holds the same rules as we have written them down.
"""

import base64
import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from tests.integration.conftest import Start, message
from tests.integration.email.test_sendgrid_rules import GOOD, RULES
from tests.servers.sendgrid import KEY, MAX_PERSONALIZATIONS, RESERVED, SENDER, SendGrid, broken_rule

DESCRIPTION = Path(__file__).parents[3].parent / "shared" / "vendor" / "sendgrid" / "tsg_mail_v3.json"
PDF = {
    "filename": "Bericht ü.pdf",
    "content_type": "application/pdf",
    "content": base64.b64encode(b"%PDF-1.7").decode(),
}
RUN = {
    "url": "https://app.example.org/runs/1",
    "run": {"id": 1, "name": "Prüfung", "environment": "staging", "branch": "main"},
    "tests": {"total": 9, "passed": 9, "failed": 0, "skipped": 0},
}
SENT: dict[str, dict[str, Any]] = {
    "plain": {},
    "empty text": {"body": ""},
    "attachments": {"attachments": [PDF, PDF | {"filename": "b", "content_type": "text/plain"}]},
    "non-ASCII": {"title": "Grüße 🚀", "recipients": [{"user_id": "ä", "email": "ada@bücher.example"}]},
    "actions": {"actions": [{"label": "Open", "url": "https://app.example.org/"}]},
    "templated": {"notification_type": "test_execution.completed", "data": RUN},
    "transactional": {
        "notification_type": "account.password_reset",
        "data": {"url": "https://app.example.org/reset", "expires_minutes": 30},
    },
}
# What only the prose of the reference says: the description lets these pass.
PROSE = {
    "an address is ASCII",
    "addresses are unique",
    "a subject is one line",
    "content is required",
    "text comes first",
    "custom args are texts",
    "custom args are small",
    "some headers are reserved",
    "headers are one line",
    "attachments are base64",
    "not later than 72 hours",
}
Path_ = tuple[str | int, ...]


def document() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(DESCRIPTION.read_text())
    return loaded


def validator() -> Draft202012Validator:
    """For the body of `mail/send`; its references lead into the document."""
    body = "#/components/requestBodies/PostMailSend/content/application~1json/schema"
    schema = document() | {"$ref": body, "$schema": "https://json-schema.org/draft/2020-12/schema"}
    return Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER)


def faults(body: Any) -> list[str]:
    return [f"{error.json_path}: {error.message[:200]}" for error in validator().iter_errors(body)]


def described(schema: dict[str, Any]) -> dict[str, Any]:
    """With the reference resolved; what stands beside it stays."""
    whole = document()
    while "$ref" in schema:
        found: Any = whole
        for part in schema["$ref"].removeprefix("#/").split("/"):
            found = found[part.replace("~1", "/")]
        schema = {k: v for k, v in schema.items() if k != "$ref"} | found
    return schema


def body_schema() -> dict[str, Any]:
    return described({"$ref": "#/components/requestBodies/PostMailSend"})["content"]["application/json"]["schema"]


def unknown_names(value: Any, schema: dict[str, Any], where: str = "") -> Iterator[str]:
    """Fields that the description does not know; a schema alone would let a misspelt one pass."""
    schema = described(schema)
    if isinstance(value, dict) and "properties" in schema:
        for name, inner in value.items():
            if name not in schema["properties"]:
                yield f"{where}.{name}"
            else:
                yield from unknown_names(inner, schema["properties"][name], f"{where}.{name}")
    for index, item in enumerate(value if isinstance(value, list) else ()):
        yield from unknown_names(item, schema.get("items", {}), f"{where}.{index}")


def stated(value: Any, schema: dict[str, Any], at: Path_ = ()) -> Iterator[tuple[str, Path_, Any]]:
    """The description's rules about fields of this body, each with what breaks it: rule, path, value (None: gone)."""
    schema = described(schema)
    if "type" in schema:
        yield f"type {schema['type']}", at, 7
    if schema.get("minLength"):
        yield "minLength", at, ""
    if schema.get("format") == "email":
        yield "format email", at, "nobody"
    if "enum" in schema:
        yield "enum", at, "something else"
    if "maxItems" in schema:
        yield "maxItems", at, [value[0] if value else {}] * (schema["maxItems"] + 1)
    for name in schema.get("required", ()):
        yield "required", (*at, name), None
    for name, inner in value.items() if isinstance(value, dict) else ():
        if name in schema.get("properties", {}):
            yield from stated(inner, schema["properties"][name], (*at, name))
    for index, item in enumerate(value[:1] if isinstance(value, list) else ()):
        yield from stated(item, schema["items"], (*at, index))


def with_(body: dict[str, Any], at: Path_, value: Any) -> Any:
    if not at:
        return value
    changed: Any = copy.deepcopy(body)
    inner = changed
    for part in at[:-1]:
        inner = inner[part]
    if value is None:
        del inner[at[-1]]
    else:
        inner[at[-1]] = value
    return changed


if DESCRIPTION.exists():

    async def test_every_request_that_we_send_is_as_described(start: Start, sendgrid: SendGrid) -> None:
        running = await start(
            EMAIL_PROVIDER="sendgrid",
            SENDGRID_API_KEY=KEY,
            SENDGRID_FROM_EMAIL=SENDER,
            SENDGRID_BASE_URL=sendgrid.address,
            PUBLIC_URL="https://notify.example.org",
        )
        for name, fields in SENT.items():
            shown = await running.settled(await running.accept(message(channels=["email"], **fields)))
            assert shown["deliveries"][0]["status"] == "accepted", (name, shown)
        assert len(sendgrid.calls) == len(SENT)
        for name, body in zip(SENT, sendgrid.calls, strict=True):
            assert faults(body) == [], name
            assert list(unknown_names(body, body_schema())) == [], name
        linked = [n for n, body in zip(SENT, sendgrid.calls, strict=True) if "List-Unsubscribe" in body["headers"]]
        assert linked == [name for name in SENT if name != "transactional"]
        assert sum("attachments" in body for body in sendgrid.calls) == 1

    def test_a_request_with_everything_is_as_described() -> None:
        assert faults(GOOD) == []
        assert list(unknown_names(GOOD, body_schema())) == []
        assert faults(GOOD | {"custom_args": {"n": "1"}}) != [], "an object for the whole send is not described"

    @pytest.mark.parametrize(
        ("at", "value"),
        [pytest.param(at, v, id=f"{rule} {'.'.join(map(str, at))}") for rule, at, v in stated(GOOD, body_schema())],
    )
    def test_the_stand_in_keeps_what_is_described(at: Path_, value: Any) -> None:
        broken = with_(GOOD, at, value)
        assert faults(broken) != [], "the description itself lets it pass"
        assert broken_rule(broken) is not None

    @pytest.mark.parametrize(("name", "body"), [rule[:2] for rule in RULES], ids=[rule[0] for rule in RULES])
    def test_a_rule_of_the_stand_in_is_described_or_prose(name: str, body: dict[str, Any]) -> None:
        assert (faults(body) == []) is (name in PROSE)

    def test_limits_of_the_stand_in_are_those_described() -> None:
        properties = body_schema()["properties"]
        assert properties["personalizations"]["maxItems"] == MAX_PERSONALIZATIONS
        most = [{"to": [{"email": f"a{i}@b.example"}]} for i in range(MAX_PERSONALIZATIONS)]
        assert faults(GOOD | {"personalizations": most}) == []
        assert broken_rule(GOOD | {"personalizations": most}) is None
        assert {n.lower() for n in properties["headers"]["description"].split("`")[1::2]} == RESERVED
        assert "10,000 bytes" in properties["custom_args"]["description"]
        assert "72 hours" in properties["send_at"]["description"]
        responses = document()["paths"]["/v3/mail/send"]["post"]["responses"]
        assert {"202", "400", "401", "403", "405", "413", "500"} <= responses.keys()
