"""The audit log over HTTP; every route that changes something for others leaves a row."""

import csv
import io
import json
from typing import Any

from tests.integration.api.test_openapi import Operation, filled, operations, sent
from tests.integration.conftest import Running, token

from notification_engine.domain.caller import Role

ADMIN = token("the-admin", Role.ADMIN, Role.SERVICE, Role.USER)
NOT_AUDITED = {  # with the reason
    "POST /templates/{key}/preview": "changes nothing and shows nothing of anybody",
}
OWN = ("Roles: user, service, operator", "Roles: service", "Roles: its owner", "Roles: any ")


async def rows(running: Running, **match: Any) -> list[dict[str, Any]]:
    found = running.engine.database.majority("notification_audit_logs").find(match, sort=[("day", 1), ("seq", 1)])
    return [row async for row in found]


def administrative(operation: Operation) -> bool:
    """Changes what is not the caller's own."""
    described = str(operation.body["description"])
    return (
        operation.method != "GET"
        and not {"callbacks", "unsubscribe", "health"}.intersection(operation.body["tags"])
        and not described.startswith(OWN)
    )


async def test_every_route_that_changes_something_for_others_leaves_a_row(running: Running) -> None:
    async with running.session.get(f"{running.address}/openapi.json") as answer:
        document = await answer.json()
    prefix = "/api/v1/notifications"
    checked = [o for o in operations(document) if administrative(o)]
    assert len(checked) >= 16
    for operation in checked:
        address = running.address + await filled(running, operation.path)
        if operation.path.endswith("/preferences"):
            address += "?user_id=somebody"
        headers = {"Authorization": f"Bearer {ADMIN}", "X-Request-ID": "req-of-the-test"}
        headers |= {"Content-Type": "text/csv"} if "data" in sent(operation) else {}
        before = len(await rows(running, request_id="req-of-the-test"))
        async with running.session.request(operation.method, address, headers=headers, **sent(operation)) as done:
            assert done.status == operation.success, (operation, await done.text())
        added = (await rows(running, request_id="req-of-the-test"))[before:]
        if f"{operation.method} {operation.path.removeprefix(prefix)}" in NOT_AUDITED:
            assert added == [], operation
            continue
        assert added, f"{operation} leaves no row in the audit log"
        assert {row["user_id"] for row in added} <= {"the-admin"} or operation.path.endswith("/data"), operation
        assert {row["address"] for row in added} == {"127.0.0.1"}, operation
    assert (await running.engine.audit.verify()).fault is None


async def test_changed_fields_are_told_and_secrets_are_not(running: Running) -> None:
    url = "http://127.0.0.1:9/T000/secret-path?token=hush"
    endpoint = await running.register(url)
    place = f"/webhooks/{endpoint['webhook_id']}"
    await running.call("PATCH", place, {"description": "new", "url": url + "2"})
    await running.call("PUT", "/types/a.b", {"priority": "high"})
    await running.call("PATCH", "/types/a.b", {"priority": "low"})
    [changed] = await rows(running, action="webhook.change")
    assert changed["before"]["description"] == ""
    assert changed["after"]["description"] == "new"
    assert changed["before"]["url"] != changed["after"]["url"]
    [typed] = await rows(running, action="type.change")
    assert (typed["before"], typed["after"]) == ({"priority": "high"}, {"priority": "low"})
    everything = repr(await rows(running))
    for secret in ("hush", "secret-path", endpoint["secret"]):
        assert secret not in everything


async def test_an_operator_who_changes_anothers_preferences_is_told_with_both_states(running: Running) -> None:
    await running.call("PUT", "/preferences?user_id=ada", {"mute": False})
    await running.call("PUT", "/preferences?user_id=ada", {"mute": True})
    await running.call("PUT", "/preferences", {"mute": True})
    first, second = await rows(running, action="preferences.replace")
    assert (second["subject"], second["before"]["mute"], second["after"]["mute"]) == ("ada", False, True)
    assert first["user_id"] == "dev"


async def test_the_log_is_for_administrators_alone(running: Running) -> None:
    for path in ("/audit-logs", "/audit-logs/export"):
        status, body = await running.call("GET", path)
        assert (status, body["detail"]) == (403, "One of these roles is needed: admin.")
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        status, _ = await running.call(method, "/audit-logs", {"read": True}, as_=ADMIN)
        assert status in {404, 405}, method


async def test_pages_are_filtered(running: Running) -> None:
    for number in range(3):
        await running.register(f"http://127.0.0.1:9/{number}")
    await running.call("PUT", "/types/a.b", {"priority": "high"}, as_=ADMIN)

    async def found(query: str) -> list[str]:
        status, body = await running.call("GET", f"/audit-logs?{query}", as_=ADMIN)
        assert status == 200, body
        return [row["action"] for row in body["audit_logs"]]

    assert await found("") == ["type.replace", *["webhook.create"] * 3]
    assert await found("action=webhook.create") == ["webhook.create"] * 3
    assert await found("user_id=the-admin") == ["type.replace"]
    assert await found("target=a.b&limit=1") == ["type.replace"]
    assert await found("since=2099-01-01T00:00:00Z") == []
    assert await found("until=2020-01-01T00:00:00Z") == []
    assert await found("user_id[$ne]=x&action=webhook.create") == ["webhook.create"] * 3  # a name, not an operator


async def test_both_exports_hold_every_row(running: Running) -> None:
    await running.call("PUT", "/types/a.b", {"description": "=cmd()"}, as_=token("=HYPERLINK(1)", Role.ADMIN))
    for kind in ("csv", "jsonl"):
        address = f"{running.address}/api/v1/notifications/audit-logs/export?format={kind}"
        async with running.session.get(address, headers={"Authorization": f"Bearer {ADMIN}"}) as answer:
            assert answer.status == 200
            text = await answer.text()
        if kind == "csv":
            table = list(csv.DictReader(io.StringIO(text)))
            assert [row["action"] for row in table] == ["type.replace", "audit.export"]
            assert table[0]["user_id"] == "'=HYPERLINK(1)"
        else:
            lines = [json.loads(line) for line in text.splitlines()]
            assert [line["action"] for line in lines] == ["type.replace", "audit.export", "audit.export"]
            assert {"salts", "digests", "hash", "previous_hash"} <= set(lines[0])


async def test_dead_letters_that_are_not_there_leave_a_row_too(running: Running) -> None:
    for action in ("replay", "discard"):
        status, _ = await running.call("POST", f"/dead-letters/{action}", {"channel": "webhook"})
        assert status == 200
    assert [row["target"] for row in await rows(running)] == ["0 deliveries"] * 2
