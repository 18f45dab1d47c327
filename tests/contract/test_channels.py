"""What every channel keeps, whatever its wire does: it answers an outcome, within its deadline, and never raises."""

import asyncio
import time
from typing import Any, get_args

import pytest
from tests.contract.table import HTTP, ROWS, SMTP, Row, Situation, there
from tests.servers.tcp import Talk, http, silent, smtp_until

from notification_engine.domain.delivery import Channel, Reason
from notification_engine.domain.notification import Action
from notification_engine.domain.outcome import Accepted, Delivered, Outcome, Rejected, Retry, Unknown
from notification_engine.services.ports import Deadline

S = Situation
SHORT, LONG = 3.0, 20.0  # the first is longer than a first call needs to open its client
WITH_A_WIRE = [row for row in ROWS if row.wire]


def by_name(rows: list[Row]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("row", rows, ids=lambda row: row.name)


async def sent(row: Row, talk: Talk | None, *, seconds: float = LONG, **fields: Any) -> Outcome:
    """One attempt; the guard around it fails a channel that does not keep its deadline at all."""
    async with there(talk) as place, asyncio.timeout(seconds + 15):
        outcome = await row.make(place).send(row.message(**fields), Deadline(time.monotonic() + seconds))
    assert isinstance(outcome, get_args(Outcome))
    assert outcome.provider
    return outcome


def test_every_channel_has_a_row() -> None:
    assert {row.channel for row in ROWS} == set(Channel)


def test_a_wire_knows_every_situation() -> None:
    assert [set(row.wire) for row in WITH_A_WIRE] == [set(Situation)] * len(WITH_A_WIRE)


@by_name(ROWS)
async def test_a_channel_declares_itself(row: Row) -> None:
    async with there(silent) as place:
        channel = row.make(place)
        assert channel.name is row.channel
        assert isinstance(channel.repeatable, bool)
        assert channel.attempt_seconds > 0
        hosts = [channel.host(row.message(endpoint=e)) for e in (row.endpoint, None, "", "another")]
        assert all(isinstance(host, str) for host in hosts)


@by_name(ROWS)
async def test_success(row: Row) -> None:
    assert isinstance(await sent(row, row.wire.get(S.SUCCESS, silent)), Accepted | Delivered)


@by_name(WITH_A_WIRE)
async def test_a_refusal_ends_it(row: Row) -> None:
    outcome = await sent(row, row.wire[S.REFUSED])
    assert isinstance(outcome, Rejected)
    assert outcome.reason is Reason.REFUSED
    assert not outcome.disable_endpoint


@pytest.mark.parametrize(
    ("row", "situation"), [(r, s) for r in WITH_A_WIRE for s in sorted(r.definite)], ids=lambda v: getattr(v, "name", v)
)
async def test_what_was_never_handed_over_is_tried_again(row: Row, situation: Situation) -> None:
    outcome = await sent(row, row.wire[situation])
    assert isinstance(outcome, Retry)
    assert outcome.reason in {Reason.CONNECTION_FAILED, Reason.CONNECTION_LOST}


@by_name(WITH_A_WIRE)
@pytest.mark.parametrize(
    ("situation", "reasons"),
    [
        (S.TIMEOUT, {Reason.TIMEOUT}),
        (S.CUT_MID_ANSWER, {Reason.CONNECTION_LOST, Reason.UNREADABLE_ANSWER}),
        (S.JUNK, {Reason.CONNECTION_LOST, Reason.UNREADABLE_ANSWER}),
    ],
)
async def test_what_may_have_arrived_is_repeated_only_to_who_can_tell(
    row: Row, situation: Situation, reasons: set[Reason]
) -> None:
    outcome = await sent(row, row.wire[situation], seconds=SHORT if situation is S.TIMEOUT else LONG)
    async with there(None) as place:
        expected = Retry if row.make(place).repeatable else Unknown
    assert isinstance(outcome, expected)
    assert outcome.reason in reasons


@by_name([row for row in WITH_A_WIRE if S.CUT_AT_ONCE not in row.definite])
async def test_a_request_that_may_have_been_read_is_unknown(row: Row) -> None:
    outcome = await sent(row, row.wire[S.CUT_AT_ONCE])
    assert isinstance(outcome, Unknown)
    assert outcome.reason is Reason.CONNECTION_LOST


@by_name(WITH_A_WIRE)
async def test_a_deadline_that_has_passed_is_an_outcome(row: Row) -> None:
    outcome = await sent(row, row.wire[S.SUCCESS], seconds=-1)
    assert isinstance(outcome, Retry)
    assert outcome.reason is Reason.TIMEOUT


@by_name(ROWS)
@pytest.mark.parametrize(
    "fields",
    [
        {"title": "", "body": ""},
        {"title": "プルリクエスト 🚀", "body": "Grüße\r\n\r\n.\r\n\u2028"},
        {"title": "a\r\nBcc: eve@example.org"},
        {"title": "=?utf-8?q?=0d=0aBcc:_eve@example.org?="},
        {"title": "x" * 5_000, "body": "y" * 200_000},
        {"endpoint": None},
        {"endpoint": ""},
        {"endpoint": "nobody"},
        {"endpoint": "ada@bücher.example"},
        {"endpoint": "àda@example.org"},
        {"endpoint": "ada@example.org, eve@example.org"},
        {
            "data": {"run": 7, "deep": {"a": [1, None, 2.5]}},
            "actions": (Action("Open <it>", "https://x.example/?a=b&c"),),
        },
    ],
    ids=lambda fields: repr(fields)[:40],
)
async def test_any_message_is_an_outcome(row: Row, fields: dict[str, Any]) -> None:
    await sent(row, row.wire.get(S.SUCCESS, silent), **fields)


@by_name(ROWS)
async def test_one_channel_sends_many_at_once(row: Row) -> None:
    async with there(row.wire.get(S.SUCCESS, silent)) as place, asyncio.timeout(30):
        channel = row.make(place)
        deadline = Deadline(time.monotonic() + LONG)
        messages = [row.message(delivery_id=f"dlv_{i}_0") for i in range(50)]
        outcomes = await asyncio.gather(*(channel.send(m, deadline) for m in messages))
    assert all(isinstance(outcome, Accepted | Delivered) for outcome in outcomes)


@by_name(WITH_A_WIRE)
async def test_a_cancelled_attempt_is_cancelled(row: Row) -> None:
    """Not swallowed as a failure: the drain relies on it."""
    async with there(row.wire[S.TIMEOUT]) as place:
        attempt = asyncio.create_task(row.make(place).send(row.message(), Deadline(time.monotonic() + LONG)))
        await asyncio.sleep(0)
        attempt.cancel()
        await asyncio.wait([attempt], timeout=10)
        assert attempt.cancelled()


STATUSES: dict[int, tuple[type[Outcome], Reason | None]] = {
    200: (Delivered, None),
    201: (Delivered, None),
    202: (Delivered, None),
    204: (Delivered, None),
    299: (Delivered, None),
    300: (Rejected, Reason.REDIRECT),
    301: (Rejected, Reason.REDIRECT),
    307: (Rejected, Reason.REDIRECT),
    399: (Rejected, Reason.REDIRECT),
    400: (Rejected, Reason.REFUSED),
    401: (Rejected, Reason.REFUSED),
    404: (Rejected, Reason.REFUSED),
    408: (Retry, Reason.TIMEOUT),
    410: (Rejected, Reason.ENDPOINT_GONE),
    422: (Rejected, Reason.REFUSED),
    425: (Retry, Reason.SERVER_ERROR),
    429: (Retry, Reason.RATE_LIMITED),
    499: (Rejected, Reason.REFUSED),
    500: (Retry, Reason.SERVER_ERROR),
    502: (Retry, Reason.SERVER_ERROR),
    503: (Retry, Reason.SERVER_ERROR),
    504: (Retry, Reason.SERVER_ERROR),
    599: (Retry, Reason.SERVER_ERROR),
}


@by_name([row for row in ROWS if row.wire is HTTP])
@pytest.mark.parametrize("status", STATUSES)
async def test_a_status_means_the_same_on_every_http_channel(row: Row, status: int) -> None:
    answer = (
        f"HTTP/1.1 {status} Whatever\r\nlocation: http://127.0.0.1:1/\r\nretry-after: 7\r\ncontent-length: 0\r\n\r\n"
    )
    outcome = await sent(row, http(answer.encode()))
    kind, reason = STATUSES[status]
    assert type(outcome) is kind
    assert getattr(outcome, "reason", None) is reason
    assert getattr(outcome, "disable_endpoint", False) is (status == 410)
    if isinstance(outcome, Retry):
        assert outcome.after == 7.0


@by_name([row for row in ROWS if row.wire is HTTP])
@pytest.mark.parametrize(
    "body",
    [
        b"content-length: 1000000\r\n\r\n" + b"x" * 1_000_000,
        b"transfer-encoding: chunked\r\n\r\nzz\r\n",
        b"\r\n" + b"x" * 10,
    ],
    ids=["long", "chunked junk", "until closed"],
)
async def test_what_stands_in_an_answer_changes_no_outcome_but_by_being_unreadable(row: Row, body: bytes) -> None:
    outcome = await sent(row, http(b"HTTP/1.1 200 OK\r\n" + body))
    assert isinstance(outcome, Delivered | Retry)


@by_name([row for row in ROWS if row.wire is HTTP])
async def test_the_status_counts_though_the_answer_never_ends(row: Row) -> None:
    """Asking again would be a duplicate for a receiver that has said yes."""
    talk = http(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n", then_silent=True)
    assert isinstance(await sent(row, talk, seconds=SHORT), Delivered)


SMTP_REPLIES: list[tuple[bytes, bytes, type[Outcome], Reason]] = [
    (b"EHLO", b"", Retry, Reason.CONNECTION_FAILED),
    (b"MAIL", b"451 4.3.0 later\r\n", Retry, Reason.SERVER_ERROR),
    (b"MAIL", b"550 5.1.8 not you\r\n", Retry, Reason.PROVIDER_REFUSED),
    (b"MAIL", b"", Retry, Reason.CONNECTION_FAILED),
    (b"RCPT", b"450 4.2.1 busy\r\n", Retry, Reason.SERVER_ERROR),
    (b"RCPT", b"550 5.1.1 nobody\r\n", Rejected, Reason.INVALID_ADDRESS),
    (b"RCPT", b"421 4.3.2 closing\r\n", Retry, Reason.SERVER_ERROR),
    (b"RCPT", b"", Retry, Reason.CONNECTION_FAILED),
    (b"DATA", b"451 4.3.0 later\r\n", Retry, Reason.SERVER_ERROR),
    (b"DATA", b"554 5.7.1 no\r\n", Rejected, Reason.REFUSED),
    (b".", b"421 4.3.2 closing\r\n", Retry, Reason.SERVER_ERROR),
    (b".", b"452 4.3.1 full\r\n", Retry, Reason.SERVER_ERROR),
    (b"RCPT", b"550 5.7.1 relaying denied\r\n", Retry, Reason.PROVIDER_REFUSED),
    (b".", b"552 5.3.4 too big\r\n", Rejected, Reason.TOO_LARGE),
    (b".", b"400 later\r\n", Retry, Reason.SERVER_ERROR),
    (b".", b"500 what\r\n", Rejected, Reason.REFUSED),
    (b".", b"354 go on\r\n", Unknown, Reason.UNREADABLE_ANSWER),
]


@by_name([row for row in ROWS if row.wire is SMTP])
@pytest.mark.parametrize(("command", "reply", "kind", "reason"), SMTP_REPLIES)
async def test_a_reply_means_the_same_on_every_smtp_channel(
    row: Row, command: bytes, reply: bytes, kind: type, reason: Reason
) -> None:
    outcome = await sent(row, smtp_until(command, reply))
    assert (type(outcome), getattr(outcome, "reason", None)) == (kind, reason)


@by_name([row for row in ROWS if row.wire is SMTP])
@pytest.mark.parametrize("command", [b"EHLO", b"MAIL", b"RCPT"])
async def test_silence_before_the_content_is_a_definite_failure(row: Row, command: bytes) -> None:
    outcome = await sent(row, smtp_until(command, b"", then_silent=True), seconds=SHORT)
    assert isinstance(outcome, Retry)
    assert outcome.reason is Reason.TIMEOUT
