"""What a provider's answer means for an e-mail: one table for every provider and sign, documented in docs/email.md.

NEXT     about the provider or the account: the next provider is asked within the same round
MESSAGE  about this message: asking elsewhere would not help
UNKNOWN  the provider may have it: nobody else is asked
"""

from dataclasses import dataclass
from enum import StrEnum

from notification_engine.domain.delivery import Reason
from notification_engine.domain.outcome import Accepted, Outcome, Rejected, Retry, Unknown

R = Reason


class Kind(StrEnum):
    ACCEPTED = "accepted"
    NEXT = "next"
    MESSAGE = "message"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Verdict:
    kind: Kind
    reason: Reason | None = None


_ACCEPTED = Verdict(Kind.ACCEPTED)
_REFUSED = Verdict(Kind.MESSAGE, R.REFUSED)
_TOO_LARGE = Verdict(Kind.MESSAGE, R.TOO_LARGE)
_ADDRESS = Verdict(Kind.MESSAGE, R.INVALID_ADDRESS)
_CREDENTIALS = Verdict(Kind.NEXT, R.CREDENTIALS)
_ACCOUNT = Verdict(Kind.NEXT, R.PROVIDER_REFUSED)
_LIMITED = Verdict(Kind.NEXT, R.RATE_LIMITED)
_SERVER = Verdict(Kind.NEXT, R.SERVER_ERROR)
_UNREADABLE = Verdict(Kind.UNKNOWN, R.UNREADABLE_ANSWER)

# By provider, then by sign; the first sign of an answer that stands here decides.
TABLE: dict[str, dict[str, Verdict]] = {
    # HTTP statuses of SendGrid v3 mail/send (its API reference, "Mail Send" responses)
    "sendgrid": {
        "202": _ACCEPTED,
        "400": _REFUSED,
        "401": _CREDENTIALS,
        "403": _CREDENTIALS,
        "404": _ACCOUNT,
        "405": _ACCOUNT,
        "406": _ACCOUNT,
        "413": _TOO_LARGE,
        "415": _ACCOUNT,
        "429": _LIMITED,
        "2xx": _UNREADABLE,
        "3xx": _ACCOUNT,
        "4xx": _ACCOUNT,
        "5xx": _SERVER,
    },
    # Error codes of Amazon SES v2 SendEmail and of AWS request signing, then the HTTP status
    "ses": {
        "200": _ACCEPTED,
        "MessageRejected: not verified": _ACCOUNT,
        "MessageRejected": _REFUSED,
        "BadRequestException: not verified": _ACCOUNT,
        "BadRequestException": _REFUSED,
        "AccountSuspendedException": _ACCOUNT,
        "SendingPausedException": _ACCOUNT,
        "MailFromDomainNotVerifiedException": _ACCOUNT,
        "NotFoundException": _ACCOUNT,
        "LimitExceededException": _LIMITED,
        "TooManyRequestsException": _LIMITED,
        "Throttling": _LIMITED,
        "ThrottlingException": _LIMITED,
        "AccessDenied": _CREDENTIALS,
        "AccessDeniedException": _CREDENTIALS,
        "ExpiredToken": _CREDENTIALS,
        "ExpiredTokenException": _CREDENTIALS,
        "IncompleteSignature": _CREDENTIALS,
        "InvalidClientTokenId": _CREDENTIALS,
        "MissingAuthenticationToken": _CREDENTIALS,
        "OptInRequired": _CREDENTIALS,
        "SignatureDoesNotMatch": _CREDENTIALS,
        "UnrecognizedClientException": _CREDENTIALS,
        "413": _TOO_LARGE,
        "2xx": _UNREADABLE,
        "3xx": _ACCOUNT,
        "4xx": _ACCOUNT,
        "5xx": _SERVER,
    },
    # Stage and reply code of SMTP (RFC 5321), or its enhanced code (RFC 3463)
    "smtp": {
        "data 250": _ACCEPTED,
        "connect 4xx": _SERVER,
        "connect 5xx": _ACCOUNT,
        "auth 4xx": _SERVER,
        "auth 5xx": _CREDENTIALS,
        "mail 552": _TOO_LARGE,
        "mail 4xx": _SERVER,
        "mail 5xx": _ACCOUNT,
        "rcpt 5.7": _ACCOUNT,
        "rcpt 4xx": _SERVER,
        "rcpt 5xx": _ADDRESS,
        "data 552": _TOO_LARGE,
        "data 4xx": _SERVER,
        "data 5xx": _REFUSED,
        "data 2xx": _UNREADABLE,
        "data 3xx": _UNREADABLE,
    },
}
# What no answer means, whoever was asked. `before`: no byte of the message was written; `after`: some may have been.
SILENCE: dict[str, Verdict] = {
    "timeout before": Verdict(Kind.NEXT, R.TIMEOUT),
    "lost before": Verdict(Kind.NEXT, R.CONNECTION_FAILED),
    "timeout after": Verdict(Kind.UNKNOWN, R.TIMEOUT),
    "lost after": Verdict(Kind.UNKNOWN, R.CONNECTION_LOST),
    "unreadable": _UNREADABLE,
}


def http_signs(status: int) -> tuple[str, str]:
    return str(status), f"{status // 100}xx"


def judge(
    provider: str, *signs: str, detail: str, after: float | None = None, message_id: str | None = None
) -> Outcome:
    """The outcome by the first sign that the table knows; a sign that nobody knows is unreadable."""
    known = TABLE.get(provider, {}) | SILENCE
    verdict = next((known[sign] for sign in signs if sign in known), _UNREADABLE)
    reason = verdict.reason or R.INTERNAL
    match verdict.kind:
        case Kind.ACCEPTED:
            return Accepted(provider, message_id, detail)
        case Kind.NEXT:
            return Retry(reason, provider, after, detail)
        case Kind.MESSAGE:
            return Rejected(reason, provider, detail)
        case Kind.UNKNOWN:
            return Unknown(reason, provider, detail)
