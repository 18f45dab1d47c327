"""The table of verdicts, row by row, as docs/email.md shows it to people."""

import re
from pathlib import Path

import pytest

from notification_engine.channels.email.verdict import SILENCE, TABLE, Kind, http_signs, judge
from notification_engine.domain.delivery import Reason
from notification_engine.domain.outcome import Accepted, Rejected, Retry, Unknown

PAGE = Path(__file__).parents[4] / "docs" / "email.md"
KINDS = {Kind.ACCEPTED: Accepted, Kind.NEXT: Retry, Kind.MESSAGE: Rejected, Kind.UNKNOWN: Unknown}
ROWS = [(provider, sign, verdict) for provider, signs in TABLE.items() for sign, verdict in signs.items()]
ROWS += [("any", sign, verdict) for sign, verdict in SILENCE.items()]
# What must hold whatever the table says: the promises of the failover.
NEVER_ASKED_TWICE = ["timeout after", "lost after", "unreadable"]
ABOUT_THE_ACCOUNT = [("sendgrid", "401"), ("sendgrid", "403"), ("sendgrid", "429"), ("sendgrid", "5xx")]
ABOUT_THE_ACCOUNT += [("ses", "AccountSuspendedException"), ("ses", "LimitExceededException"), ("ses", "5xx")]
ABOUT_THE_ACCOUNT += [
    ("ses", "SignatureDoesNotMatch"),
    ("smtp", "auth 5xx"),
    ("smtp", "mail 5xx"),
    ("smtp", "data 4xx"),
]
ABOUT_THE_MESSAGE = [("sendgrid", "400"), ("sendgrid", "413"), ("ses", "MessageRejected"), ("smtp", "rcpt 5xx")]


def documented() -> dict[tuple[str, str], tuple[str, str]]:
    rows = re.findall(r"^\| (\w+) \| `([^`]+)` \| (\w+) \| (?:`(\w+)`)? ?\|", PAGE.read_text(), re.MULTILINE)
    return {(provider, sign): (kind, reason) for provider, sign, kind, reason in rows}


@pytest.mark.parametrize(("provider", "sign", "verdict"), ROWS, ids=lambda value: str(value)[:30])
def test_each_row_is_what_it_says_and_documented(provider: str, sign: str, verdict: object) -> None:
    outcome = judge(provider, sign, detail="d", after=3.0, message_id="m")
    row = (TABLE.get(provider) or SILENCE)[sign]
    assert verdict is row
    assert type(outcome) is KINDS[row.kind]
    assert getattr(outcome, "reason", None) is row.reason
    assert documented()[provider, sign] == (row.kind, row.reason or "")


def test_the_page_has_no_row_of_its_own() -> None:
    assert set(documented()) == {(provider, sign) for provider, sign, _ in ROWS}


@pytest.mark.parametrize("sign", NEVER_ASKED_TWICE)
def test_what_may_have_been_taken_is_unknown(sign: str) -> None:
    assert SILENCE[sign].kind is Kind.UNKNOWN


@pytest.mark.parametrize(("provider", "sign"), ABOUT_THE_ACCOUNT)
def test_what_is_about_the_account_goes_to_the_next(provider: str, sign: str) -> None:
    assert TABLE[provider][sign].kind is Kind.NEXT


@pytest.mark.parametrize(("provider", "sign"), ABOUT_THE_MESSAGE)
def test_what_is_about_the_message_ends_it(provider: str, sign: str) -> None:
    assert TABLE[provider][sign].kind is Kind.MESSAGE


@pytest.mark.parametrize("provider", ["sendgrid", "ses"])
@pytest.mark.parametrize("status", range(200, 600))
def test_every_status_has_a_verdict(provider: str, status: int) -> None:
    assert any(sign in TABLE[provider] for sign in http_signs(status))


def test_a_sign_that_nobody_knows_is_unknown() -> None:
    outcome = judge("smtp", "what?", detail="")
    assert isinstance(outcome, Unknown)
    assert outcome.reason is Reason.UNREADABLE_ANSWER
