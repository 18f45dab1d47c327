import math
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notification_engine.channels.http_status import outcome_of_status, parse_retry_after
from notification_engine.domain.delivery import Reason
from notification_engine.domain.outcome import Delivered, Rejected, Retry
from notification_engine.domain.retry import MAX_DELAY_SECONDS

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
RETRIED = {408: Reason.TIMEOUT, 425: Reason.SERVER_ERROR, 429: Reason.RATE_LIMITED}


def expected(status: int) -> tuple[type, Reason | None]:
    """DESIGN, section 8, in other words."""
    if status in RETRIED:
        return Retry, RETRIED[status]
    if status == 410:
        return Rejected, Reason.ENDPOINT_GONE
    by_class = {2: (Delivered, None), 3: (Rejected, Reason.REDIRECT), 4: (Rejected, Reason.REFUSED)}
    return by_class.get(status // 100, (Retry, Reason.SERVER_ERROR))


@pytest.mark.parametrize("hundred", range(1, 11))
def test_every_status_has_its_row(hundred: int) -> None:
    for status in range(hundred * 100, hundred * 100 + 100):
        outcome = outcome_of_status(status, "webhook", None, NOW)
        assert (type(outcome), getattr(outcome, "reason", None)) == expected(status), status
        assert (outcome.provider, outcome.detail) == ("webhook", f"HTTP {status}")
        assert getattr(outcome, "disable_endpoint", False) is (status == 410)


@pytest.mark.parametrize("status", [408, 425, 429, 500, 503])
def test_a_wish_is_kept_where_it_is_tried_again(status: int) -> None:
    outcome = outcome_of_status(status, "webhook", "120", NOW)
    assert isinstance(outcome, Retry)
    assert outcome.after == 120.0


def later(seconds: float) -> str:
    return format_datetime(NOW + timedelta(seconds=seconds), usegmt=True)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0),
        ("7", 7.0),
        (" 7 ", 7.0),
        ("007", 7.0),
        ("3600", 3600.0),
        ("3601", 3600.0),
        ("1000000000", 3600.0),
        ("9" * 400, 3600.0),
        (later(30), 30.0),
        (later(0), 0.0),
        (later(-30), 0.0),
        (later(86_400), 3600.0),
        ("Sun, 01 Mar 2026 12:00:30", 30.0),
        ("Sunday, 01-Mar-26 12:00:30 GMT", 30.0),
        ("Sun Mar  1 12:00:30 2026", 30.0),
        ("Sun, 01 Mar 2026 13:00:30 +0100", 30.0),
        ("Fri, 31 Dec 9999 23:59:59 -2359", 3600.0),
        ("Mon, 01 Jan 0001 00:00:00 +2359", 0.0),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_a_wish_is_seconds_or_a_date(value: str, seconds: float) -> None:
    assert parse_retry_after(value, NOW) == seconds


@pytest.mark.parametrize(
    "junk",
    [
        None,
        "",
        " ",
        "soon",
        "-5",
        "+5",
        "1e9",
        "12.5",
        "1,2",
        "0x10",
        "inf",
        "nan",
        "٣",
        "²",
        "\x00",
        "7; 8",
        "Sun, 32 Mar 2026 12:00:30 GMT",
        "Sun, 01 Mar 2026 25:00:30 GMT",
        "Sun, 01 Mar 99999 12:00:30 GMT",
        "Sun, 01 Mar 2026 12:00:30 +9999",
        "x" * 70_000,
    ],
    ids=lambda junk: repr(junk)[:40],
)
def test_junk_is_no_wish(junk: str | None) -> None:
    assert parse_retry_after(junk, NOW) is None


@given(st.text() | st.from_regex(r"[A-Z][a-z]{2}, \d{1,3} [A-Z][a-z]{2} \d{1,6} \d\d:\d\d:\d\d [-+A-Z]\w{0,4}"))
def test_whatever_a_receiver_wishes_is_none_or_at_most_an_hour(value: str) -> None:
    wish = parse_retry_after(value, NOW)
    assert wish is None or (math.isfinite(wish) and 0 <= wish <= MAX_DELAY_SECONDS)


@given(st.integers(-100_000, 100_000))
def test_a_date_counts_from_now_to_the_second(seconds: int) -> None:
    assert parse_retry_after(later(seconds), NOW) == min(max(seconds, 0), MAX_DELAY_SECONDS)
