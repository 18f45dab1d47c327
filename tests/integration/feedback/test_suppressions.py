"""The suppression list: asked before each e-mail, kept by operators, in and out as CSV."""

import asyncio
import csv
import io
from datetime import UTC, datetime
from typing import Any

import pytest
from tests.integration.conftest import API, Running, Start, message, token
from tests.servers.smtp import CUT, Mailbox

from notification_engine.domain.caller import Role
from notification_engine.domain.errors import Unavailable

OPERATOR = token("op", Role.OPERATOR)
ADA = {"address": "Ada@Example.org", "reason": "manual", "note": "asked by phone"}


async def listed(running: Running, query: str = "") -> list[str]:
    status, page = await running.call("GET", f"/suppressions{query}", as_=OPERATOR)
    assert status == 200, page
    return [s["address"] for s in page["suppressions"]]


async def put(running: Running, **fields: Any) -> str:
    status, answer = await running.call("POST", "/suppressions", ADA | fields, as_=OPERATOR)
    assert status == 201, answer
    return str(answer["suppression_id"])


async def sent_csv(running: Running, body: bytes | str, kind: str = "text/csv") -> tuple[int, dict[str, Any]]:
    headers = {"Authorization": f"Bearer {OPERATOR}", "Content-Type": kind}
    url = f"{running.address}{API}/suppressions/import"
    async with running.session.post(url, data=body, headers=headers) as answer:
        return answer.status, await answer.json(content_type=None)


async def exported(running: Running) -> str:
    headers = {"Authorization": f"Bearer {OPERATOR}"}
    async with running.session.get(f"{running.address}{API}/suppressions/export", headers=headers) as answer:
        assert (answer.status, answer.content_type) == (200, "text/csv")
        assert answer.headers["Content-Disposition"] == 'attachment; filename="suppressions.csv"'
        return await answer.text()


async def until(running: Running, notification_id: str, name: str) -> dict[str, Any]:
    """The first delivery, once that field of it is set."""
    async with asyncio.timeout(20):
        while True:
            delivery = (await running.call("GET", f"/{notification_id}"))[1]["deliveries"][0]
            if delivery[name]:
                return dict(delivery)
            await asyncio.sleep(0.01)  # asked again: the state lives in another place


async def actions(running: Running) -> list[tuple[str, str, str]]:
    found = running.engine.database.collection("notification_audit_logs").find({}, sort=[("timestamp", 1)])
    return [(row["user_id"], row["action"], row["target"]) async for row in found]


async def test_a_suppressed_address_gets_no_email(running: Running, mailbox: Mailbox) -> None:
    await put(running, address="U1@EXAMPLE.org")
    notification_id = await running.accept(message("u1", channels=["email", "in_app"]))
    shown = await running.settled(notification_id)
    states = {d["channel"]: (d["status"], d["reason"]) for d in shown["deliveries"]}
    assert states == {"email": ("suppressed", "suppressed_address"), "in_app": ("delivered", None)}
    await running.settled(await running.accept(message("u2", channels=["email"])))
    assert [envelope.rcpt_tos for envelope in mailbox.envelopes] == [["u2@example.org"]]
    entry = (await running.timeline(notification_id))[-1]
    text = "Not sent by engine: suppressed_address (manual on the list)."
    assert (entry["code"], entry["text"]) == ("attempt_suppressed", text)


async def test_a_domain_in_other_letters_is_the_same(running: Running, mailbox: Mailbox) -> None:
    await put(running, address="ada@BÜCHER.example")
    assert await listed(running) == ["ada@xn--bcher-kva.example"]
    body = message(channels=["email"]) | {"recipients": [{"user_id": "u1", "email": "ADA@bücher.example"}]}
    assert (await running.settled(await running.accept(body)))["status"] == "suppressed"
    assert mailbox.envelopes == []


async def test_what_waits_for_its_retry_is_suppressed_too(start: Start, mailbox: Mailbox) -> None:
    running = await start(NOTIFICATION_RETRY_DELAY_SECONDS=1)
    mailbox.replies.append("451 4.3.0 later")
    notification_id = await running.accept(message("u1", channels=["email"]))
    await until(running, notification_id, "attempts")
    await put(running, address="u1@example.org")
    assert (await running.settled(notification_id))["deliveries"][0]["reason"] == "suppressed_address"
    assert mailbox.envelopes == []


@pytest.mark.parametrize("why", ["suppressed", "expired"])
async def test_an_unknown_one_is_held_instead_of_sent_again(running: Running, mailbox: Mailbox, why: str) -> None:
    """It may have arrived: neither `suppressed` nor `expired` would be true of it."""
    mailbox.replies.append(CUT)
    notification_id = await running.accept(message("u1", channels=["email"], priority="high"))
    assert (await running.settled(notification_id))["deliveries"][0]["held"] is False
    now = datetime.now(UTC)
    due = {"due_at": now, "deliveries.0.next_attempt_at": now}
    if why == "suppressed":
        await put(running, address="u1@example.org")
    else:
        due["expires_at"] = now
    await running.engine.database.collection("notifications").update_one({"_id": notification_id}, {"$set": due})
    delivery = await until(running, notification_id, "held")
    assert (delivery["status"], delivery["next_attempt_at"]) == ("unknown", None)
    assert len(mailbox.envelopes) == 1
    (letter,) = (await running.call("GET", "/dead-letters"))[1]["dead_letters"]
    assert letter["reason"] == ("suppressed_address" if why == "suppressed" else "expired")


async def test_who_unsubscribed_still_gets_what_is_transactional(running: Running, mailbox: Mailbox) -> None:
    await put(running, address="u1@example.org", reason="unsubscribe")
    await put(running, address="u2@example.org", reason="hard_bounce")
    reset = {"notification_type": "account.password_reset", "channels": ["email"]}
    states = [(await running.settled(await running.accept(message(u, **reset))))["status"] for u in ("u1", "u2")]
    assert states == ["accepted", "suppressed"]


async def test_a_store_that_is_away_delays_the_send(
    running: Running, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    suppressions = running.engine.suppressions
    answers = iter([Unavailable("away"), Unavailable("away")])
    find = suppressions.find

    async def flaky(*args: Any) -> Any:
        if (error := next(answers, None)) is not None:
            raise error
        return await find(*args)

    monkeypatch.setattr(suppressions, "find", flaky)
    shown = await running.settled(await running.accept(message("u1", channels=["email"])))
    assert (shown["status"], shown["deliveries"][0]["attempts"]) == ("accepted", 1)
    assert len(mailbox.envelopes) == 1


async def test_create_read_and_remove_are_audited(running: Running) -> None:
    suppression_id = await put(running)
    status, one = await running.call("GET", f"/suppressions/{suppression_id}", as_=OPERATOR)
    assert status == 200
    assert one.pop("created_at") is not None
    assert one == {
        "suppression_id": suppression_id,
        "channel": "email",
        "address": "ada@example.org",
        "reason": "manual",
        "source": "operator",
        "note": "asked by phone",
        "created_by": "op",
    }
    assert (await running.call("POST", "/suppressions", ADA, as_=OPERATOR))[0] == 409
    assert (await running.call("DELETE", f"/suppressions/{suppression_id}", as_=OPERATOR))[0] == 204
    assert (await running.call("DELETE", f"/suppressions/{suppression_id}", as_=OPERATOR))[0] == 404
    assert (await running.call("GET", f"/suppressions/{suppression_id}", as_=OPERATOR))[0] == 404
    expected = [("op", "suppression.create", suppression_id), ("op", "suppression.delete", suppression_id)]
    assert await actions(running) == expected
    assert "ada" not in suppression_id


async def test_the_same_address_by_two_at_once_is_added_once(running: Running) -> None:
    answers = await asyncio.gather(*(running.call("POST", "/suppressions", ADA, as_=OPERATOR) for _ in range(5)))
    assert sorted(status for status, _ in answers) == [201, 409, 409, 409, 409]
    assert len(await actions(running)) == 1


async def test_the_list_is_filtered_and_goes_on_behind_its_cursor(running: Running) -> None:
    for i in range(5):
        await put(running, address=f"a{i}@example.org", reason="complaint" if i % 2 else "manual")
    assert await listed(running, "?reason=complaint") == ["a3@example.org", "a1@example.org"]
    assert await listed(running, "?address=A2@example.org") == ["a2@example.org"]
    seen: list[str] = []
    url: str | None = f"{running.address}{API}/suppressions?limit=2"
    while url:
        async with running.session.get(url, headers={"Authorization": f"Bearer {OPERATOR}"}) as answer:
            page = await answer.json()
            seen += [s["address"] for s in page["suppressions"]]
            url = str(answer.links["next"]["url"]) if "next" in answer.links else None
    assert seen == [f"a{i}@example.org" for i in reversed(range(5))]


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"address": "nobody"}, "address"),
        ({"address": "a@b.example\r\nBcc: c@d.example"}, "address"),
        ({"reason": "boredom"}, "reason"),
        ({"channel": "webhook"}, "channel"),
        ({"note": "x" * 501}, "note"),
        ({"note": "a\nb"}, "note"),
        ({"created_by": "me"}, "created_by"),
    ],
)
async def test_a_wrong_field_is_named(shared: Running, fields: dict[str, Any], field: str) -> None:
    status, problem = await shared.call("POST", "/suppressions", ADA | fields, as_=OPERATOR)
    assert (status, problem["field"]) == (422, field)


async def test_it_is_for_operators(shared: Running) -> None:
    service = token("s", Role.SERVICE)
    for method, path in [
        ("GET", ""),
        ("POST", ""),
        ("POST", "/import"),
        ("GET", "/export"),
        ("GET", "/sup_1"),
        ("DELETE", "/sup_1"),
    ]:
        body = ADA if method == "POST" else None
        assert (await shared.call(method, f"/suppressions{path}", body, as_=service))[0] == 403


async def test_an_import_takes_each_good_line_and_lists_the_bad_ones(running: Running) -> None:
    await put(running, address="old@example.org", note="keeps")
    body = (
        "address,reason,note\r\n"
        "one@example.org,hard_bounce,\r\n"
        "nobody,,\r\n"
        "OLD@example.org,complaint,again\r\n"
        '"two@example.org",,"a note, with a comma"\r\n'
        "three@example.org\r\n"
        "four@example.org,boredom,\r\n"
    )
    status, problem = await sent_csv(running, body)
    assert (status, problem["added"], problem["existing"]) == (422, 2, 1)
    assert [e["field"] for e in problem["errors"]] == ["line 3", "line 6", "line 7"]
    assert problem["detail"] == "Wrong lines: 3. The others, 3, were taken."
    assert sorted(await listed(running)) == ["old@example.org", "one@example.org", "two@example.org"]
    assert (await sent_csv(running, "address\none@example.org\n"))[1] == {"added": 0, "existing": 1}
    page = (await running.call("GET", "/suppressions?address=old@example.org", as_=OPERATOR))[1]["suppressions"]
    assert (page[0]["reason"], page[0]["note"], page[0]["source"]) == ("manual", "keeps", "operator")
    imports = [target for _, action, target in await actions(running) if action == "suppression.import"]
    assert imports == ["2 new of 3", "0 new of 1"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"e-mail\na@b.example\n",
        b"address,colour\na@b.example,red\n",
        b"address,address\na@b.example,x@y.example\n",
        b"address\n\xff@b.example\n",
        b"address\n" + b"\n".join(b"a%d@b.example" % i for i in range(10_001)),
    ],
    ids=["nothing", "no address", "a strange column", "a column twice", "no UTF-8", "too many lines"],
)
async def test_what_is_no_such_file_is_refused_whole(running: Running, body: bytes) -> None:
    status, problem = await sent_csv(running, body)
    assert (status, problem["field"].split()[0]) == (422, "line")
    assert await listed(running) == []
    assert await actions(running) == []


async def test_torn_quotes_end_the_file_where_they_are(running: Running) -> None:
    status, problem = await sent_csv(running, 'address,note\na@b.example,\nb@b.example,"x"y\nc@b.example,\n')
    assert (status, problem["errors"][0]["field"]) == (422, "line 3")
    assert await listed(running) == ["a@b.example"]


async def test_only_csv_is_imported(running: Running) -> None:
    assert (await sent_csv(running, "address\na@b.example\n", "application/json"))[0] == 415


async def test_an_import_of_ten_thousand_lines_comes_out_again(running: Running) -> None:
    lines = "\n".join(f"user{i:05}@example.org,complaint" for i in range(10_000))
    assert await sent_csv(running, f"address,reason\n{lines}\n") == (200, {"added": 10_000, "existing": 0})
    text = await exported(running)
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert {row["address"] for row in rows} == {f"user{i:05}@example.org" for i in range(10_000)}
    assert {(row["source"], row["created_by"], row["reason"]) for row in rows} == {("import", "op", "complaint")}
    assert await sent_csv(running, text) == (200, {"added": 0, "existing": 10_000})
    assert ("op", "suppression.export", "all") in await actions(running)


async def test_no_cell_of_an_export_is_a_formula(running: Running) -> None:
    notes = ["=1+1", "+1", "-1", "@SUM(A1)", "'=1", "'plain", "''@x", 'a "quoted", one', ""]
    for i, note in enumerate(notes):
        await put(running, address=f"+{i}@example.org", note=note)
    text = await exported(running)
    cells = [cell for row in csv.reader(io.StringIO(text, newline="")) for cell in row]
    assert [cell for cell in cells if cell[:1] in {"=", "+", "-", "@", "\t", "\r"}] == []
    for suppression in (await running.call("GET", "/suppressions", as_=OPERATOR))[1]["suppressions"]:
        await running.call("DELETE", f"/suppressions/{suppression['suppression_id']}", as_=OPERATOR)
    assert await sent_csv(running, text) == (200, {"added": len(notes), "existing": 0})
    page = (await running.call("GET", "/suppressions", as_=OPERATOR))[1]["suppressions"]
    assert {s["address"]: s["note"] for s in page} == {f"+{i}@example.org": n for i, n in enumerate(notes)}


async def test_an_export_of_a_store_that_is_away_is_a_503(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    async def away(*_: Any, **__: Any) -> None:
        raise Unavailable("away")

    monkeypatch.setattr(running.engine.audit, "append", away)
    assert (await running.call("GET", "/suppressions/export", as_=OPERATOR))[0] == 503
