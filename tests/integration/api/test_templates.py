"""Templates end to end: saved, published, sent in the recipient's language; and what is refused."""

import asyncio
from typing import Any

import pytest
from tests.integration.conftest import API, Running, message, token
from tests.servers.receiver import Receiver
from tests.servers.smtp import Mailbox

from notification_engine.domain.caller import Role

MJML = """<mjml><mj-body><mj-section><mj-column>
<mj-text>Hello {{ name }}, {{ count | plural(one="# order", other="# orders") }}.</mj-text>
{% if url %}<mj-button href="{{ url }}">Open</mj-button>{% endif %}
</mj-column></mj-section></mj-body></mjml>"""


def draft(**fields: Any) -> dict[str, Any]:
    english = {
        "subject": "{{ count | number }} for {{ name }}",
        "mjml": MJML,
        "title": 'You have {{ count | plural(one="# order", other="# orders") }}',
        "body": "Since {{ since | datetime }}.",
    }
    german = {"subject": "{{ count | number }} für {{ name }}", "title": "{{ count }} Bestellungen"}
    sample = {"name": "Ada", "count": 2, "since": "2026-03-01T12:00:00Z"}
    return {"locales": {"en": english, "de": german}, "sample_data": sample} | fields


def order(*users: str, **fields: Any) -> dict[str, Any]:
    data = {"name": "<Ada>", "count": 1234, "since": "2026-03-01T12:00:00Z", "url": 'https://x.example/?a="1"'}
    sent = message(*users, notification_type="shop.order", data=data, template="shop.order") | fields
    return {name: value for name, value in sent.items() if name not in {"title", "body"} or name in fields}


async def publish(running: Running, key: str = "shop.order", **fields: Any) -> dict[str, Any]:
    status, saved = await running.call("PUT", f"/templates/{key}", draft(**fields))
    assert status == 200, saved
    status, version = await running.call("POST", f"/templates/{key}/publish")
    assert status == 200, version
    return dict(version)


async def test_a_published_template_fills_every_channel(running: Running, receiver: Receiver, mailbox: Mailbox) -> None:
    endpoint = await running.register(f"{receiver.address}/a")
    receiver.secrets["/a"] = endpoint["secret"]
    assert (await publish(running))["version"] == 1
    recipient = {"user_id": "u1", "email": "u1@example.org", "locale": "de-CH", "time_zone": "Europe/Zurich"}
    body = order(recipients=[recipient], channels=["in_app", "email", "webhook"])
    shown = await running.settled(await running.accept(body))
    assert {d["channel"]: d["status"] for d in shown["deliveries"]} == {
        "in_app": "delivered",
        "email": "accepted",
        "webhook": "delivered",
    }
    assert shown["title"] == "1234 Bestellungen"
    assert shown["body"] == "Since 01.03.2026, 13:00."
    [call] = await receiver.received(1)
    assert (call.event["data"]["title"], call.event["data"]["body"]) == (shown["title"], shown["body"])
    [mail] = await mailbox.received(1)
    assert mail["Subject"] == "1’234 für <Ada>"
    html, text = mail.get_body(("html",)).get_content(), mail.get_body(("plain",)).get_content()
    assert "Hello &lt;Ada&gt;" in html
    assert 'href="https:&#x2f;&#x2f;x.example&#x2f;?a=&quot;1&quot;"' in html
    assert "Hello <Ada>" in text
    assert 'Open: https://x.example/?a="1"' in text
    assert "{{" not in html + text
    assert "mjml" not in html


async def test_the_version_of_the_accept_is_the_version_of_the_send(running: Running, mailbox: Mailbox) -> None:
    await publish(running, locales={"en": {"subject": "first", "text": "first"}}, sample_data={})
    far = await running.accept(order(channels=["email"], scheduled_at="2026-12-31T00:00:00Z"))
    await publish(running, locales={"en": {"subject": "second", "text": "second"}}, sample_data={})
    assert (await running.call("DELETE", "/templates/shop.order"))[0] == 204
    await running.engine.database.collection("notifications").update_one(
        {"_id": far}, [{"$set": {"due_at": "$$NOW", "deliveries.next_attempt_at": "$$NOW"}}]
    )
    await running.settled(far)
    [mail] = await mailbox.received(1)
    assert mail["Subject"] == "first"


async def test_what_the_caller_writes_wins_and_the_e_mail_is_the_templates(running: Running, mailbox: Mailbox) -> None:
    await publish(running, locales={"en": {"subject": "S {{ notification.title }}", "text": "T", "title": "x"}})
    shown = await running.settled(await running.accept(order(title="Mine", body="B", channels=["in_app", "email"])))
    assert (shown["title"], shown["body"]) == ("Mine", "B")
    [mail] = await mailbox.received(1)
    assert mail["Subject"] == "S Mine"


async def test_title_and_body_without_a_template_are_sent_as_they_are(running: Running, mailbox: Mailbox) -> None:
    body = message(notification_type="test_execution.failed", title="{{ raw }}", body="{% x %}", channels=["email"])
    shown = await running.settled(await running.accept(body))
    assert (shown["title"], shown["body"]) == ("{{ raw }}", "{% x %}")
    [mail] = await mailbox.received(1)
    assert mail["Subject"] == "{{ raw }}"
    assert not running.engine.pool.started


@pytest.mark.parametrize(
    ("part", "source", "line", "column"),
    [
        ("subject", "{{ x", 1, 4),
        ("text", "one\ntwo {% if %}", 2, 11),
        ("body", "{{ a }}\n{{ a.__class__ }}", 2, 5),
        ("mjml", "<mjml><mj-body>\n  <mj-secton></mj-secton>\n</mj-body></mjml>", 2, 3),
        ("mjml", "<mjml><mj-body><mj-section>\n</mj-body></mjml>", 2, 1),
        ("html", "<p>{{ é }}</p>\n{% for %}", 2, 8),
    ],
)
async def test_what_does_not_parse_is_refused_with_its_place(
    shared: Running, part: str, source: str, line: int, column: int
) -> None:
    locales = {"en": {"title": "t", part: source}}
    status, problem = await shared.call("PUT", "/templates/bad.one", draft(locales=locales, sample_data={}))
    assert status == 422, problem
    assert (problem["field"], problem["line"], problem["column"]) == (f"locales.en.{part}", line, column)
    assert f"line {line}, column {column}" in problem["detail"]
    assert (await shared.call("GET", "/templates/bad.one"))[0] == 404


async def test_a_preview_lists_what_is_missing_and_publishes_nothing(shared: Running) -> None:
    await shared.call("PUT", "/templates/only.seen", draft())
    given = {"data": {"count": 1, "url": ""}, "locale": "de", "time_zone": "Europe/Berlin"}
    status, shown = await shared.call("POST", "/templates/only.seen/preview", given)
    assert status == 200, shown
    assert (shown["locale"], shown["subject"]) == ("de", "1 für")
    assert shown["missing"] == ["name", "since"]
    assert "Hello" in shown["html"]
    assert (await shared.call("GET", "/templates/only.seen"))[1]["published_version"] is None
    assert (await shared.call("GET", "/templates/only.seen/versions"))[1] == {"versions": []}
    status, refused = await shared.call("POST", "", order(template="only.seen"))
    assert (status, refused["field"]) == (422, "template")


async def test_a_preview_of_an_unsaved_draft_needs_no_template(shared: Running) -> None:
    unsaved = draft(locales={"en": {"title": "{{ a }}", "html": "<p>{{ b }}</p>"}}, sample_data={"a": 1, "b": "<2>"})
    status, shown = await shared.call("POST", "/templates/not.there/preview", {"draft": unsaved})
    assert status == 200, shown
    assert (shown["title"], shown["text"], shown["missing"]) == ("1", "<2>\n", [])
    assert (await shared.call("GET", "/templates/not.there"))[0] == 404


async def test_layouts_and_partials_are_drawn_in_at_publish_and_stay(running: Running, mailbox: Mailbox) -> None:
    frame = "<mjml><mj-body><mj-section><mj-column><mj-text>{% block c %}{% endblock %}</mj-text></mj-column>"
    frame += "</mj-section>{% include 'acme.foot' %}</mj-body></mjml>"
    foot = "<mj-section><mj-column><mj-text>FOOT {{ name }}</mj-text></mj-column></mj-section>"
    await publish(running, "acme.foot", kind="partial", locales={"en": {"mjml": foot}})
    await publish(running, "acme.frame", kind="partial", locales={"en": {"mjml": frame}})
    own = {"title": "t", "mjml": "{% extends 'acme.frame' %}{% block c %}OWN{% endblock %}"}
    version = await publish(running, locales={"en": own})
    assert version["uses"] == {"acme.frame": 1, "acme.foot": 1}
    await publish(running, "acme.foot", kind="partial", locales={"en": {"mjml": foot.replace("FOOT", "NEW")}})
    await running.settled(await running.accept(order(channels=["email"])))
    [mail] = await mailbox.received(1)
    text = mail.get_body(("plain",)).get_content()
    assert "OWN" in text
    assert "FOOT <Ada>" in text


async def test_a_circle_of_partials_is_refused(shared: Running) -> None:
    await shared.call("PUT", "/templates/ring.a", draft(kind="partial", locales={"en": {"html": "x"}}))
    await shared.call("POST", "/templates/ring.a/publish")
    ring = {"en": {"html": "{% include 'ring.a' %}"}}
    await publish(shared, "ring.b", kind="partial", locales=ring)
    back = draft(kind="partial", locales={"en": {"html": "{% include 'ring.b' %}"}})
    status, problem = await shared.call("PUT", "/templates/ring.a", back)
    assert status == 422, problem
    assert "circle" in problem["detail"]


async def test_an_earlier_version_can_be_chosen_again(shared: Running) -> None:
    for words in ("one", "two"):
        await publish(shared, "back.again", locales={"en": {"title": words}})
    assert (await shared.call("POST", "/templates/back.again/publish", {"version": 1}))[1]["version"] == 1
    assert (await shared.call("GET", "/templates/back.again"))[1]["published_version"] == 1
    sent = await shared.accept(order(template="back.again", channels=["in_app"]))
    assert (await shared.call("GET", f"/{sent}"))[1]["title"] == "one"
    assert (await shared.call("POST", "/templates/back.again/publish", {"version": 9}))[0] == 422
    assert [v["version"] for v in (await shared.call("GET", "/templates/back.again/versions"))[1]["versions"]] == [1, 2]


async def test_a_removed_template_counts_on_when_it_comes_back(shared: Running) -> None:
    await publish(shared, "come.back")
    assert (await shared.call("DELETE", "/templates/come.back"))[0] == 204
    assert (await shared.call("DELETE", "/templates/come.back"))[0] == 404
    assert (await shared.call("GET", "/templates/come.back"))[0] == 404
    assert (await publish(shared, "come.back"))["version"] == 2


async def test_the_list_pages_over_built_in_and_own_templates(shared: Running) -> None:
    await publish(shared, "test_execution.failed", locales={"en": {"title": "ours"}})
    seen, cursor = [], ""
    while cursor is not None:
        status, page = await shared.call("GET", f"/templates?limit=7&cursor={cursor}")
        assert status == 200, page
        seen += page["templates"]
        cursor = page["next_cursor"]
    keys = [t["key"] for t in seen]
    assert keys == sorted(set(keys))
    own = next(t for t in seen if t["key"] == "test_execution.failed")
    assert (own["builtin"], own["published_version"]) == (False, 1)
    assert next(t for t in seen if t["key"] == "system.outage")["builtin"]
    assert (await shared.call("DELETE", "/templates/test_execution.failed"))[0] == 204
    assert (await shared.call("GET", "/templates/test_execution.failed"))[1]["builtin"]


@pytest.mark.parametrize("role", [Role.USER, Role.SERVICE])
async def test_only_operators_may_touch_templates_and_types(shared: Running, role: Role) -> None:
    for method, path in (("GET", "/templates"), ("PUT", "/templates/a.b"), ("GET", "/types"), ("DELETE", "/types/a.b")):
        assert (await shared.call(method, path, {}, as_=token("u", role)))[0] == 403


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"locales": {}}, "locales"),
        ({"locales": {"en": {"title": "t", "mjml": "x", "html": "y"}}}, "locales.en"),
        ({"locales": {"klingon": {"title": "t"}}}, "locales.klingon.[key]"),
        ({"default_locale": "fr"}, "default_locale"),
        ({"locales": {"en": {"text": "t"}}}, "locales.en"),
        ({"kind": "other"}, "kind"),
        ({"sample_data": {"a.b": 1}}, "sample_data"),
        ({"locales": {"en": {"title": "{% include 'no.where' %}"}}}, "locales.en.title"),
        ({"locales": {"en": {"title": "{{ 1 | nothing }}"}}}, "locales.en.title"),
        ({"locales": {"en": {"title": "{{ 'x' | date }}"}}}, "locales.en.title"),
    ],
)
async def test_a_wrong_draft_is_refused_by_field(shared: Running, change: dict[str, Any], field: str) -> None:
    status, problem = await shared.call("PUT", "/templates/bad.two", draft(**change))
    assert status == 422, problem
    assert problem["field"] == field


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"locale": "xx-ZZ"}, "recipients.0.locale"),
        ({"locale": "de_CH"}, "recipients.0.locale"),
        ({"time_zone": "Mars/Base"}, "recipients.0.time_zone"),
    ],
)
async def test_a_locale_or_zone_that_nobody_knows_is_refused(
    shared: Running, change: dict[str, Any], field: str
) -> None:
    status, problem = await shared.call("POST", "", message(recipients=[{"user_id": "u1"} | change]))
    assert (status, problem["field"]) == (422, field)


@pytest.mark.parametrize("key", ["system.outage", "account.password_reset"])
async def test_a_built_in_template_can_be_seen_and_lacks_nothing(shared: Running, key: str) -> None:
    status, shown = await shared.call("POST", f"/templates/{key}/preview", {"locale": "de-AT"})
    assert status == 200, shown
    assert (shown["locale"], shown["missing"]) == ("de", [])
    assert shown["title"] in shown["text"]


async def test_preview_and_sample_data_stay_within_the_limits(shared: Running) -> None:
    loop = "{% for i in range(n) %}{% for j in range(n) %}{% endfor %}{% endfor %}"
    status, problem = await shared.call(
        "PUT", "/templates/bad.sample", draft(locales={"en": {"title": "t", "body": loop}}, sample_data={"n": 50_000})
    )
    assert (status, problem["field"], problem["line"]) == (422, "locales.en.body", 1)
    await publish(shared, "bad.later", locales={"en": {"title": "t", "body": loop}}, sample_data={"n": 1})
    status, problem = await shared.call("POST", "/templates/bad.later/preview", {"data": {"n": 50_000}})
    assert (status, problem["field"]) == (422, "locales.en.body")


async def test_a_mended_draft_does_not_pay_for_the_one_before(shared: Running) -> None:
    loop = "{% for i in range(n) %}{% for j in range(n) %}{% endfor %}{% endfor %}"
    for attempt in range(4):
        body = draft(locales={"en": {"title": "t", "body": f"{attempt}{loop}"}}, sample_data={"n": 50_000})
        assert (await shared.call("PUT", "/templates/was.bad", body))[0] == 422
    mended = draft(locales={"en": {"title": "t", "body": loop}}, sample_data={"n": 2})
    assert (await shared.call("PUT", "/templates/was.bad", mended))[0] == 200


async def test_two_publications_at_once_get_two_numbers_or_a_conflict(shared: Running) -> None:
    await shared.call("PUT", "/templates/at.once", draft())
    answers = await asyncio.gather(*(shared.call("POST", "/templates/at.once/publish") for _ in range(4)))
    numbers = [body["version"] for status, body in answers if status == 200]
    assert {status for status, _ in answers} <= {200, 409}
    assert sorted(numbers) == sorted(set(numbers))
    assert (await shared.call("POST", "/templates/at.once/publish"))[1]["version"] > max(numbers)
    listed = (await shared.call("GET", "/templates/at.once/versions"))[1]["versions"]
    assert [v["version"] for v in listed] == list(range(1, len(listed) + 1))


async def test_the_openapi_document_shows_templates_and_types(shared: Running) -> None:
    async with shared.session.get(f"{shared.address}/openapi.json") as answer:
        document = await answer.json()
    paths = document["paths"]
    for path, methods in {
        "/templates": {"get"},
        "/templates/{key}": {"get", "put", "delete"},
        "/templates/{key}/preview": {"post"},
        "/templates/{key}/publish": {"post"},
        "/templates/{key}/versions": {"get"},
        "/types": {"get"},
        "/types/{name}": {"get", "put", "patch", "delete"},
    }.items():
        assert set(paths[f"{API}{path}"]) == methods
    example = paths[f"{API}/templates/{{key}}"]["put"]["requestBody"]["content"]["application/json"]["example"]
    assert (await shared.call("PUT", "/templates/from.example", example))[0] == 200
    kind = paths[f"{API}/types/{{name}}"]["put"]["requestBody"]["content"]["application/json"]["example"]
    assert (await shared.call("PUT", "/types/from.example", kind))[0] == 200
