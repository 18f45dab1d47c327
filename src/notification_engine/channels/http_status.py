"""What an HTTP status means for a delivery: one table for every HTTP channel (RFC 9110, Standard Webhooks)."""

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from notification_engine.domain.delivery import Reason
from notification_engine.domain.outcome import Delivered, Outcome, Rejected, Retry
from notification_engine.domain.retry import clamp_retry_after

RETRIED_4XX = frozenset({408, 425, 429})
GONE = 410


def outcome_of_status(status: int, provider: str, retry_after: str | None, now: datetime) -> Outcome:
    """2xx delivered; 410 disables the endpoint; other 4xx but 408, 425, 429 and redirects end it; the rest retries."""
    detail = f"HTTP {status}"
    if 200 <= status < 300:
        return Delivered(provider, detail)
    if status == GONE:
        return Rejected(Reason.ENDPOINT_GONE, provider, detail, disable_endpoint=True)
    if 300 <= status < 400:
        return Rejected(Reason.REDIRECT, provider, detail)
    if 400 <= status < 500 and status not in RETRIED_4XX:
        return Rejected(Reason.REFUSED, provider, detail)
    reason = {429: Reason.RATE_LIMITED, 408: Reason.TIMEOUT}.get(status, Reason.SERVER_ERROR)
    return Retry(reason, provider, parse_retry_after(retry_after, now), detail)


def parse_retry_after(value: str | None, now: datetime) -> float | None:
    """Seconds, from a number or an HTTP date, clamped; None for junk."""
    if not value:
        return None
    if value.strip().isascii() and value.strip().isdigit():
        return clamp_retry_after(float(value.strip()[:12]))
    try:
        at = parsedate_to_datetime(value)
    except (ValueError, TypeError, OverflowError):
        return None
    aware = at if at.tzinfo else at.replace(tzinfo=UTC)
    return clamp_retry_after((aware - now).total_seconds())
