"""SendGrid's Event Webhook: what a signed event does, and that nothing else does anything."""

import asyncio
import base64
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from tests.integration.conftest import Running, Start
from tests.integration.feedback.conftest import Fed
from tests.servers.callbacks import SendGridSigner, sendgrid_event

from notification_engine.domain.errors import Unavailable

SIGNATURE = "X-Twilio-Email-Event-Webhook-Signature"
TIMESTAMP = "X-Twilio-Email-Event-Webhook-Timestamp"
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551  # of the group of P-256


async def test_delivered_is_told_and_counted(fed: Fed) -> None:
    notification_id, delivery_id = await fed.emailed()
    assert await fed.sendgrid(sendgrid_event(delivery_id, "delivered")) == 204
    shown = await fed.shown(notification_id)
    assert (shown["status"], shown["deliveries"][0]["status"]) == ("delivered", "delivered")
    assert shown["deliveries"][0]["delivered_at"] is not None
    entry = (await fed.running.timeline(notification_id))[-1]
    assert (entry["code"], entry["delivery_id"], entry["channel"]) == ("event_delivered", delivery_id, "email")
    assert entry["text"] == "Reported by sendgrid: the recipient's server has taken it."
    async with fed.running.session.get(f"{fed.running.address}/metrics") as answer:
        counted = 'notification_provider_events_total{kind="delivered",matched="true",provider="sendgrid"} 1.0'
        assert counted in await answer.text()


async def test_a_hard_bounce_fails_it_and_suppresses_the_address(fed: Fed) -> None:
    notification_id, delivery_id = await fed.emailed()
    assert await fed.sendgrid(sendgrid_event(delivery_id, "bounce")) == 204
    shown = await fed.shown(notification_id)
    assert (shown["status"], shown["deliveries"][0]["reason"]) == ("failed", "bounced")
    assert await fed.suppressed() == {"u1@example.org": "hard_bounce"}
    _, letters = await fed.running.call("GET", "/dead-letters?reason=bounced")
    assert [letter["delivery_id"] for letter in letters["dead_letters"]] == [delivery_id]
    texts = [e["text"] for e in await fed.running.timeline(notification_id)]
    assert "Reported by sendgrid: the address takes no mail (bounce 5.1.1)." in texts


@pytest.mark.parametrize(
    ("event", "fields", "status", "reason", "suppressed"),
    [
        ("processed", {}, "accepted", None, None),
        ("deferred", {"response": "450 later"}, "accepted", None, None),
        ("open", {}, "accepted", None, None),
        ("click", {"url": "https://app.example.org"}, "accepted", None, None),
        ("spamreport", {}, "accepted", None, "complaint"),
        ("bounce", {"type": "blocked", "status": "5.7.1"}, "failed", "soft_bounced", None),
        ("dropped", {"reason": "Bounced Address"}, "failed", "dropped", None),
        ("a new word", {}, "accepted", None, None),
    ],
)
async def test_each_event_does_what_the_table_says(
    fed: Fed, event: str, fields: dict[str, Any], status: str, reason: str | None, suppressed: str | None
) -> None:
    notification_id, delivery_id = await fed.emailed()
    assert await fed.sendgrid(sendgrid_event(delivery_id, event, **fields)) == 204
    delivery = (await fed.shown(notification_id))["deliveries"][0]
    assert (delivery["status"], delivery["reason"]) == (status, reason)
    assert list((await fed.suppressed()).values()) == ([suppressed] if suppressed else [])
    (kept,) = (await fed.stored())["notification_provider_events"]
    assert json.loads(kept["raw"])["event"] == event
    assert kept["matched"] is True
    told = [e["code"] for e in await fed.running.timeline(notification_id) if e["code"].startswith("event_")]
    assert len(told) == (event != "a new word")


@pytest.mark.parametrize(("event", "status"), [("delivered", "delivered"), ("processed", "accepted")])
async def test_a_held_unknown_leaves_the_dead_letters(fed: Fed, event: str, status: str) -> None:
    notification_id, delivery_id = await fed.emailed(cut=True)
    assert (await fed.running.call("GET", "/dead-letters"))[1]["dead_letters"]
    assert await fed.sendgrid(sendgrid_event(delivery_id, event)) == 204
    assert (await fed.shown(notification_id))["status"] == status
    assert (await fed.running.call("GET", "/dead-letters"))[1]["dead_letters"] == []


async def test_an_unknown_that_waits_for_its_resend_is_not_sent_again(fed: Fed) -> None:
    notification_id, delivery_id = await fed.emailed(cut=True, priority="high")
    assert await fed.sendgrid(sendgrid_event(delivery_id, "delivered")) == 204
    (stored,) = (await fed.stored())["notifications"]
    assert (stored["status"], "due_at" in stored, "dead_at" in stored) == ("delivered", False, False)
    assert (await fed.shown(notification_id))["deliveries"][0]["next_attempt_at"] is None


async def test_a_batch_is_applied_whatever_its_parts(fed: Fed) -> None:
    first, one = await fed.emailed("u1")
    second, two = await fed.emailed("u2")
    batch = [
        sendgrid_event(one, "delivered"),
        sendgrid_event(None, "delivered"),
        sendgrid_event("dlv_01jnbkz0000000000000000000_0", "bounce", email="gone@example.org"),
        sendgrid_event("dlv_of_somebody_else", "bounce", email="foreign@example.org"),
        sendgrid_event(two, "bounce", email="U2@example.org"),
        sendgrid_event(two, "processed"),
    ]
    assert await fed.sendgrid(*batch) == 204
    assert [(await fed.shown(i))["status"] for i in (first, second)] == ["delivered", "failed"]
    # Of an e-mail of ours whose notification is no longer stored the address still counts; a stranger's does not.
    assert await fed.suppressed() == {"u2@example.org": "hard_bounce", "gone@example.org": "hard_bounce"}
    matched = [e["matched"] for e in (await fed.stored())["notification_provider_events"]]
    assert sorted(matched) == [False, False, False, True, True, True]


async def test_the_same_event_in_another_request_changes_nothing_more(fed: Fed) -> None:
    _, delivery_id = await fed.emailed()
    event = sendgrid_event(delivery_id, "bounce")
    assert await fed.sendgrid(event) == 204
    before = await fed.stored()
    (suppression,) = before["notification_suppressions"]
    status, _ = await fed.running.call("DELETE", f"/suppressions/{suppression['_id']}")
    assert status == 204
    assert await fed.sendgrid(event, sendgrid_event(delivery_id, "deferred")) == 204
    after = await fed.stored()
    assert after["notification_suppressions"] == []  # what an operator took off the list stays off it
    assert after["notifications"] == before["notifications"]
    assert len(after["notification_history"]) == len(before["notification_history"]) + 1


Forgery = Callable[[SendGridSigner, bytes], tuple[bytes, dict[str, str]]]


def _without(name: str) -> Forgery:
    def forge(signer: SendGridSigner, body: bytes) -> tuple[bytes, dict[str, str]]:
        headers = signer.headers(body)
        del headers[name]
        return body, headers

    return forge


def _with(name: str, value: str) -> Forgery:
    return lambda signer, body: (body, signer.headers(body) | {name: value})


def _aged(minutes: float) -> Forgery:
    return lambda signer, body: (body, signer.headers(body, datetime.now(UTC) + timedelta(minutes=minutes)))


FORGED: dict[str, Forgery] = {
    "no signature": _without(SIGNATURE),
    "no timestamp": _without(TIMESTAMP),
    "another key": lambda signer, body: (body, SendGridSigner().headers(body)),
    "another body": lambda signer, body: (body.replace(b"delivered", b"spamreport"), signer.headers(body)),
    "another timestamp": lambda signer, body: (
        body,
        signer.headers(body) | {TIMESTAMP: str(int(datetime.now(UTC).timestamp()) - 60)},
    ),
    "a digit moved from the body": lambda signer, body: (
        body[1:],
        signer.headers(body) | {TIMESTAMP: signer.headers(body)[TIMESTAMP] + "["},
    ),
    "stale": _aged(-5.1),
    "of the future": _aged(5.2),
    "no base64": _with(SIGNATURE, "%%%"),
    "no DER": _with(SIGNATURE, base64.b64encode(b"x" * 70).decode()),
    "an empty signature": _with(SIGNATURE, ""),
    "a timestamp in words": _with(TIMESTAMP, "now"),
    "a timestamp that is huge": _with(TIMESTAMP, "9" * 400),
}


@pytest.mark.parametrize("case", FORGED)
async def test_what_is_not_signed_for_now_gets_401_and_changes_nothing(fed: Fed, case: str) -> None:
    _, delivery_id = await fed.emailed()
    body, headers = FORGED[case](fed.signer, json.dumps([sendgrid_event(delivery_id, "delivered")]).encode())
    before = await fed.stored()
    status, problem = await fed.post("sendgrid", body, headers)
    assert (status, problem["type"].rpartition(":")[2]) == (401, "unauthenticated")
    assert await fed.stored() == before


@pytest.mark.parametrize("body", [b"", b"{", b"{}", b"null", b"[1]", b'["x"]', b"[" * 5000, b"\xff"])
async def test_what_is_signed_and_malformed_gets_400_and_changes_nothing(fed: Fed, body: bytes) -> None:
    before = await fed.stored()
    status, _ = await fed.post("sendgrid", body, fed.signer.headers(body))
    assert status == 400
    assert await fed.stored() == before


@pytest.mark.parametrize("respelled", [False, True], ids=["as it was", "with the other signature of the same"])
async def test_a_replay_gets_401_and_changes_nothing(fed: Fed, respelled: bool) -> None:
    _, delivery_id = await fed.emailed()
    body = json.dumps([sendgrid_event(delivery_id, "delivered")]).encode()
    headers = fed.signer.headers(body)
    assert (await fed.post("sendgrid", body, headers))[0] == 204
    if respelled:
        r, s = decode_dss_signature(base64.b64decode(headers[SIGNATURE]))
        headers[SIGNATURE] = base64.b64encode(encode_dss_signature(r, ORDER - s)).decode()
    before = await fed.stored()
    assert (await fed.post("sendgrid", body, headers))[0] == 401
    assert await fed.stored() == before


async def test_the_same_request_twice_at_once_counts_once(fed: Fed) -> None:
    notification_id, delivery_id = await fed.emailed()
    body = json.dumps([sendgrid_event(delivery_id, "delivered")]).encode()
    headers = fed.signer.headers(body)
    answers = await asyncio.gather(*(fed.post("sendgrid", body, headers) for _ in range(5)))
    assert {status for status, _ in answers} <= {204, 401}
    assert 204 in {status for status, _ in answers}
    assert (await fed.shown(notification_id))["status"] == "delivered"
    rows = [r for r in (await fed.stored())["notification_history"] if r["delivery_status"] == "event_delivered"]
    assert len(rows) == 1


@pytest.mark.parametrize("step", ["history", "suppressions", "apply", "applied"])
async def test_the_providers_own_retry_completes_what_a_503_left(
    fed: Fed, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    notification_id, delivery_id = await fed.emailed()
    engine = fed.running.engine
    place, name = {
        "history": (engine.history, "append"),
        "suppressions": (engine.suppressions, "report"),
        "apply": (engine.notifications, "apply"),
        "applied": (engine.feedback._store, "applied"),
    }[step]

    async def away(*_: Any) -> None:
        raise Unavailable("The database did not answer.", retry_after=2)

    body = json.dumps([sendgrid_event(delivery_id, "bounce")]).encode()
    headers = fed.signer.headers(body)
    with monkeypatch.context() as patched:
        patched.setattr(place, name, away)
        status, problem = await fed.post("sendgrid", body, headers)
        assert (status, problem["title"]) == (503, "Unavailable")
    assert (await fed.post("sendgrid", body, headers))[0] == 204
    assert (await fed.shown(notification_id))["deliveries"][0]["reason"] == "bounced"
    assert await fed.suppressed() == {"u1@example.org": "hard_bounce"}
    rows = [r for r in (await fed.stored())["notification_history"] if r["delivery_status"] == "event_bounced_hard"]
    assert len(rows) == 1


async def test_without_a_key_there_is_no_such_callback(running: Running, start: Start) -> None:
    for path in ("sendgrid", "ses"):
        status, problem = await running.call("POST", f"/callbacks/{path}", [])
        assert (status, problem["type"].rpartition(":")[2]) == (404, "not-found")


async def test_who_unsubscribes_at_the_provider_is_heard(fed: Fed) -> None:
    _, delivery_id = await fed.emailed()
    assert await fed.sendgrid(sendgrid_event(delivery_id, "unsubscribe")) == 204
    (stored,) = (await fed.stored())["notification_preferences"]
    assert stored["types"] == [{"pattern": "test.message", "channels": {"email": False}}]
    (audited,) = (await fed.stored())["notification_audit_logs"]
    assert (audited["user_id"], audited["action"]) == ("u1", "preferences.unsubscribe")


async def test_a_choice_made_after_the_providers_event_stands(fed: Fed) -> None:
    _, delivery_id = await fed.emailed()
    earlier = int(datetime.now(UTC).timestamp()) - 30
    engine = fed.running.engine
    await engine.database.collection("notification_preferences").insert_one(
        {"user_id": "u1", "mute": False, "types": [], "updated_at": datetime.now(UTC)}
    )
    assert await fed.sendgrid(sendgrid_event(delivery_id, "unsubscribe", timestamp=earlier)) == 204
    (stored,) = (await fed.stored())["notification_preferences"]
    assert stored["types"] == []
