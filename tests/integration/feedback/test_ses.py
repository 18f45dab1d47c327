"""SES's events through SNS: signed by a certificate of AWS, of our topic, fresh; and nothing else."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from tests.integration.conftest import Start
from tests.integration.feedback.conftest import Fed
from tests.servers.callbacks import CERTIFICATE, HOST, TOPIC, SendGridSigner, Sns, certificate, ses_event


def ago(minutes: float) -> str:
    return (datetime.now(UTC) - timedelta(minutes=minutes)).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@pytest.mark.parametrize(
    ("kind", "fields", "status", "reason", "suppressed"),
    [
        ("Send", {}, "accepted", None, None),
        ("Delivery", {}, "delivered", None, None),
        ("DeliveryDelay", {"delayType": "MailboxFull"}, "accepted", None, None),
        ("Bounce", {}, "failed", "bounced", "hard_bounce"),
        ("Bounce", {"bounceType": "Transient", "bounceSubType": "MailboxFull"}, "failed", "soft_bounced", None),
        ("Bounce", {"bounceType": "Undetermined", "bounceSubType": "Undetermined"}, "failed", "soft_bounced", None),
        ("Complaint", {}, "accepted", None, "complaint"),
        ("Open", {}, "accepted", None, None),
        ("Click", {}, "accepted", None, None),
        ("Reject", {"reason": "Bad content"}, "failed", "dropped", None),
        ("Subscription", {}, "accepted", None, None),
    ],
)
async def test_each_event_does_what_the_table_says(
    fed: Fed, kind: str, fields: dict[str, Any], status: str, reason: str | None, suppressed: str | None
) -> None:
    notification_id, delivery_id = await fed.emailed()
    assert await fed.ses(fed.sns.notification(ses_event(delivery_id, kind, **fields))) == 204
    delivery = (await fed.shown(notification_id))["deliveries"][0]
    assert (delivery["status"], delivery["reason"]) == (status, reason)
    assert list((await fed.suppressed()).values()) == ([suppressed] if suppressed else [])


async def test_a_feedback_notification_is_matched_by_our_header(fed: Fed) -> None:
    notification_id, delivery_id = await fed.emailed()
    event = ses_event(None, "Delivery")
    event["notificationType"] = event.pop("eventType")
    event["mail"]["headers"] = [{"name": "X-Notification-Delivery-Id", "value": delivery_id}]
    assert await fed.ses(fed.sns.notification(event, Subject="Amazon SES Email Event Notification")) == 204
    assert (await fed.shown(notification_id))["status"] == "delivered"


async def test_the_greeting_of_event_publishing_is_taken(fed: Fed) -> None:
    greeting = "Successfully validated SNS topic for Amazon SES event publishing."
    assert await fed.ses(fed.sns.notification(greeting)) == 204
    (kept,) = (await fed.stored())["notification_provider_events"]
    assert (kept["raw"], kept["matched"], "kind" in kept) == (greeting, False, False)


async def test_a_message_that_comes_again_changes_nothing(fed: Fed) -> None:
    _, delivery_id = await fed.emailed()
    signed = fed.sns.notification(ses_event(delivery_id, "Bounce"))
    assert await fed.ses(signed) == 204
    before = await fed.stored()
    assert [await fed.ses(signed) for _ in range(3)] == [204, 204, 204]
    assert await fed.stored() == before


async def test_the_certificate_is_fetched_once(fed: Fed) -> None:
    for _ in range(3):
        assert await fed.ses(fed.sns.notification("hello")) == 204
    assert fed.sns.visited == ["/SimpleNotificationService-0000.pem"]


async def test_a_message_of_an_hour_ago_is_a_late_retry(fed: Fed) -> None:
    notification_id, delivery_id = await fed.emailed()
    assert await fed.ses(fed.sns.notification(ses_event(delivery_id, "Delivery"), Timestamp=ago(60))) == 204
    assert (await fed.shown(notification_id))["status"] == "delivered"


def _url(url: str) -> Callable[[Sns, Any], dict[str, str]]:
    return lambda sns, event: sns.notification(event, SigningCertURL=url)


def _changed(**fields: str) -> Callable[[Sns, Any], dict[str, str]]:
    return lambda sns, event: sns.notification(event) | fields


FORGED: dict[str, Callable[[Sns, Any], dict[str, str]]] = {
    "another key": lambda sns, event: sns.notification(event) | {"Signature": Sns().notification(event)["Signature"]},
    "another message": _changed(Message=json.dumps({"eventType": "Delivery"})),
    "another id": _changed(MessageId="11111111-2222-3333-4444-555555555555"),
    "a subject added": _changed(Subject="hello"),
    "no base64": _changed(Signature="%%%"),
    "signature version 1": lambda sns, event: sns.notification(event, SignatureVersion="1"),
    "version 1 called 2": lambda sns, event: sns.notification(event, SignatureVersion="1") | {"SignatureVersion": "2"},
    "another topic": lambda sns, event: sns.notification(event, TopicArn=f"{TOPIC}-2"),
    "stale": lambda sns, event: sns.notification(event, Timestamp=ago(65.2)),
    "of the future": lambda sns, event: sns.notification(event, Timestamp=ago(-5.2)),
    "a made fresh one": lambda sns, event: sns.notification(event, Timestamp=ago(70)) | {"Timestamp": ago(0)},
    "plain http": _url(CERTIFICATE.replace("https", "http")),
    "another host": _url("https://evil.example/SimpleNotificationService-0000.pem"),
    "a host that ends alike": _url("https://sns.us-east-1.amazonaws.com.evil.example/a.pem"),
    "a host that begins alike": _url("https://evil-sns.us-east-1.amazonaws.com/a.pem"),
    "a bucket": _url("https://sns.s3.evil.amazonaws.com/a.pem"),
    "a user before the host": _url("https://sns.us-east-1.amazonaws.com@evil.example/a.pem"),
    "another port": _url("https://sns.us-east-1.amazonaws.com:8443/a.pem"),
    "a backslash": _url("https://sns.us-east-1.amazonaws.com\\@evil.example/a.pem"),
    "no pem": _url(f"{HOST}/SimpleNotificationService-0000.txt"),
    "pem in the query": _url(f"{HOST}/?Action=Publish&x=.pem"),
    "an address with a broken port": _url("https://sns.us-east-1.amazonaws.com:x/a.pem"),
}


@pytest.mark.parametrize("case", FORGED)
async def test_what_is_not_signed_by_our_topic_gets_401_and_changes_nothing(fed: Fed, case: str) -> None:
    _, delivery_id = await fed.emailed()
    forged = FORGED[case](fed.sns, ses_event(delivery_id, "Bounce"))
    before = await fed.stored()
    assert await fed.ses(forged) == 401
    assert await fed.stored() == before
    # Only what might be of AWS and of our topic makes the engine ask anybody.
    signed = {"another key", "another message", "another id", "a subject added", "no base64"}
    asked = case in signed | {"version 1 called 2", "a made fresh one"}
    assert fed.sns.visited == ([f"/{CERTIFICATE.rpartition('/')[2]}"] if asked else [])


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b'{"Type": "Notification"}',
        b'{"Type": ["Notification"]}',
        b'{"Type": "Other"}',
    ],
)
async def test_what_is_no_message_gets_400_and_changes_nothing(fed: Fed, body: bytes) -> None:
    before = await fed.stored()
    assert (await fed.post("ses", body, {"Content-Type": "text/plain"}))[0] == 400
    assert await fed.stored() == before


@pytest.mark.parametrize("field", ["Message", "MessageId", "Timestamp", "TopicArn", "Signature", "SigningCertURL"])
@pytest.mark.parametrize("value", [None, 7, {"$gt": ""}], ids=["missing", "a number", "an object"])
async def test_a_field_that_is_missing_or_no_text_gets_400(fed: Fed, field: str, value: Any) -> None:
    broken: dict[str, Any] = dict(fed.sns.notification("hello"))
    broken[field] = value
    assert await fed.ses({k: v for k, v in broken.items() if v is not None}) == 400
    assert fed.sns.visited == []


@pytest.mark.parametrize(
    "pem",
    [
        b"not a certificate",
        b"x" * 70_000,
        certificate(ec.generate_private_key(ec.SECP256R1())),
    ],
    ids=["junk", "too large", "no RSA key"],
)
async def test_a_certificate_that_is_none_gets_401(fed: Fed, pem: bytes) -> None:
    fed.sns.pem = pem
    before = await fed.stored()
    assert await fed.ses(fed.sns.notification("hello")) == 401
    assert await fed.stored() == before


@pytest.mark.parametrize(("begin", "end"), [(-30, -1), (1, 30)], ids=["expired", "not yet valid"])
async def test_a_certificate_out_of_its_time_gets_401(fed: Fed, begin: int, end: int) -> None:
    fed.sns.pem = certificate(fed.sns.key, begin=timedelta(days=begin), end=timedelta(days=end))
    assert await fed.ses(fed.sns.notification("hello")) == 401


async def test_a_certificate_of_another_key_gets_401(fed: Fed) -> None:
    fed.sns.pem = certificate(rsa.generate_private_key(public_exponent=65537, key_size=2048))
    assert await fed.ses(fed.sns.notification("hello")) == 401


@pytest.mark.parametrize(("status", "expected"), [(403, 401), (404, 401), (302, 401), (500, 503), (429, 503)])
async def test_what_aws_answers_decides_whether_sns_tries_again(fed: Fed, status: int, expected: int) -> None:
    fed.sns.status = status
    before = await fed.stored()
    assert await fed.ses(fed.sns.notification("hello")) == expected
    assert await fed.stored() == before
    fed.sns.status = 200
    assert await fed.ses(fed.sns.notification("hello")) == 204


async def test_an_aws_that_is_away_is_a_503(start: Start, sns: Sns, signer: SendGridSigner) -> None:
    running = await start(fetcher=sns.fetcher(seconds=2), SES_SNS_TOPIC_ARN=TOPIC)
    await sns._runner.cleanup()  # type: ignore[union-attr]
    status, problem = await running.call("POST", "/callbacks/ses", sns.notification("hello"))
    assert (status, problem["title"]) == (503, "Unavailable")


async def test_a_subscription_to_our_topic_is_confirmed(fed: Fed) -> None:
    signed = fed.sns.membership()
    assert await fed.ses(signed) == 204
    assert fed.sns.visited[1:] == [signed["SubscribeURL"].removeprefix(HOST)]


async def test_the_end_of_a_subscription_is_not_undone(fed: Fed) -> None:
    assert await fed.ses(fed.sns.membership("UnsubscribeConfirmation")) == 204
    assert fed.sns.visited == ["/SimpleNotificationService-0000.pem"]


@pytest.mark.parametrize(
    "url",
    [
        f"https://evil.example/?{urlencode({'Action': 'ConfirmSubscription', 'TopicArn': TOPIC})}",
        f"{HOST}/?{urlencode({'Action': 'ConfirmSubscription', 'TopicArn': TOPIC + '-2'})}",
        f"{HOST}/?{urlencode({'Action': 'DeleteTopic', 'TopicArn': TOPIC})}",
        f"{HOST}/?Action=ConfirmSubscription",
        f"http://sns.us-east-1.amazonaws.com/?{urlencode({'Action': 'ConfirmSubscription', 'TopicArn': TOPIC})}",
    ],
    ids=["another host", "another topic", "another action", "no topic", "plain http"],
)
async def test_no_other_address_is_visited_to_confirm(fed: Fed, url: str) -> None:
    assert await fed.ses(fed.sns.membership(SubscribeURL=url)) == 401
    assert fed.sns.visited == ["/SimpleNotificationService-0000.pem"]


async def test_a_confirmation_of_another_topic_asks_nobody(fed: Fed) -> None:
    assert await fed.ses(fed.sns.membership(TopicArn=f"{TOPIC}-2")) == 401
    assert fed.sns.visited == []
