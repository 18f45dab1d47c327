"""Templates that loop, eat memory, write without end or read what they may not: they fail, and nobody else waits."""

import asyncio
from typing import Any

import pytest
from tests.integration.conftest import Running, Start, message
from tests.servers.smtp import Mailbox

from notification_engine.wiring import EngineRole

LOOP = "{% for i in range(n) %}{% for j in range(n) %}{% endfor %}{% endfor %}"
WRITES = "{% for i in range(n) %}{{ block }}{% endfor %}"
EATS = "{% set a = [0] * n %}{{ a | tojson | length }}"
BAD = {"loop": LOOP, "writes": WRITES, "eats": EATS}
NUMBERS = {"loop": 50_000, "writes": 50_000, "eats": 99_999_999}


async def publish(running: Running, key: str, **parts: str) -> None:
    body = {"locales": {"en": parts}, "sample_data": {"n": 1, "block": "x"}}
    status, saved = await running.call("PUT", f"/templates/{key}", body)
    assert status == 200, saved
    status, version = await running.call("POST", f"/templates/{key}/publish")
    assert status == 200, version


def use(key: str, user: str = "u1", **data: Any) -> dict[str, Any]:
    sent = message(user, template=key, channels=["email"], data={"n": 1, "block": "y" * 4000} | data)
    return {name: value for name, value in sent.items() if name not in {"title", "body"}}


async def reason(running: Running, body: dict[str, Any]) -> tuple[str, str]:
    shown = await running.settled(await running.accept(body))
    [delivery] = shown["deliveries"]
    return delivery["status"], delivery["reason"]


@pytest.mark.parametrize("kind", list(BAD))
async def test_a_template_without_end_fails_its_delivery(start: Start, mailbox: Mailbox, kind: str) -> None:
    running = await start(RENDER_CPU_SECONDS=0.2)
    await publish(running, "bad.one", title="t", html=f"<p>{BAD[kind]}</p>")
    assert await reason(running, use("bad.one")) == ("accepted", None)
    body = use("bad.one", n=NUMBERS[kind])
    notification_id = await running.accept(body)
    await running.settled(notification_id)
    entries = await running.timeline(notification_id)
    assert entries[-1]["code"] == "attempt_failed"
    assert "template_error" in entries[-1]["text"]
    assert "yyyy" not in entries[-1]["text"]
    assert len(await mailbox.received(1)) == 1


async def test_nobody_else_waits_for_templates_without_end(start: Start, mailbox: Mailbox) -> None:
    running = await start(RENDER_CPU_SECONDS=0.2)
    await publish(running, "good.one", title="t", html="<p>fine {{ n }}</p>")
    for kind, source in BAD.items():
        await publish(running, f"bad.{kind}", title="t", html=f"<p>{source}</p>")
    bad = [use(f"bad.{kind}", f"b{i}", n=NUMBERS[kind]) for kind in BAD for i in range(5)]
    good = [use("good.one", f"g{i}", n=i) for i in range(30)]
    waiting = [asyncio.create_task(reason(running, body)) for body in bad]
    assert await asyncio.gather(*(reason(running, body) for body in good)) == [("accepted", None)] * 30
    assert await asyncio.gather(*waiting) == [("failed", "template_error")] * 15
    assert running.engine.pool.replaced >= 1
    assert len(await mailbox.received(30)) == 30
    assert await reason(running, use("good.one")) == ("accepted", None)


async def test_an_in_app_text_that_does_not_render_is_accepted_and_fails(running: Running) -> None:
    await publish(running, "bad.words", title=LOOP + "t", body="b", html="<p>the e-mail is fine</p>")
    body = use("bad.words", n=NUMBERS["loop"]) | {"channels": ["in_app", "email"]}
    shown = await running.settled(await running.accept(body))
    outcomes = {d["channel"]: (d["status"], d["reason"]) for d in shown["deliveries"]}
    assert outcomes == {"in_app": ("failed", "template_error"), "email": ("accepted", None)}
    assert shown["title"] == "test.message"
    assert (await running.call("GET", "/unread-count"))[1] == {"unread_count": 0}


async def test_a_stored_template_that_reads_private_names_fails(running: Running) -> None:
    """Saving refuses it; this one came into the database another way."""
    await publish(running, "bad.reader", title="t", html="<p>{{ n }}</p>")
    await running.engine.database.collection("notification_templates").update_one(
        {"_id": "bad.reader@1"}, {"$set": {"locales.en.html": "<p>{{ n.__class__.__mro__ }}</p>"}}
    )
    assert await reason(running, use("bad.reader")) == ("failed", "template_error")


async def test_a_version_that_is_gone_fails_its_delivery(start: Start) -> None:
    api = await start(EngineRole.API)
    await start(EngineRole.DAEMON)  # it has never seen the version
    await publish(api, "bad.gone", title="t", html="<p>{{ n }}</p>")
    sent = await api.accept(use("bad.gone") | {"scheduled_at": "2026-12-31T00:00:00Z"})
    await api.engine.database.collection("notification_templates").delete_one({"_id": "bad.gone@1"})
    await api.engine.database.collection("notifications").update_one(
        {"_id": sent}, [{"$set": {"due_at": "$$NOW", "deliveries.next_attempt_at": "$$NOW"}}]
    )
    [delivery] = (await api.settled(sent))["deliveries"]
    assert (delivery["status"], delivery["reason"]) == ("failed", "template_error")
