"""Messages of Amazon SNS over HTTPS: who signed them, and whether they are for us (Amazon SNS developer guide,
"Verifying the signatures of Amazon SNS messages").

Invariant: nothing is fetched for a message of another topic, a stale one, or an address that is not of AWS. Signature
version 1 (SHA-1) is refused.
"""

import base64
import binascii
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlsplit

import orjson
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256

from notification_engine.domain.errors import RequestError, Unauthenticated

TOPIC_PATTERN = r"^arn:aws(-[a-z]+)*:sns:[a-z0-9-]+:[0-9]{12}:[A-Za-z0-9_-]{1,256}$"
MAX_AGE = timedelta(minutes=65)  # SNS retries for up to an hour under the first timestamp
MAX_AHEAD = timedelta(minutes=5)
_HOST = re.compile(r"sns\.[a-z0-9-]{3,32}\.amazonaws\.com(\.cn)?")
NOTIFICATION, CONFIRMATION = "Notification", "SubscriptionConfirmation"
# The signed fields in their order; a subject only where there is one.
_NOTICE = ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type")
_MEMBERSHIP = ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type")
_SIGNED = {NOTIFICATION: _NOTICE, CONFIRMATION: _MEMBERSHIP, "UnsubscribeConfirmation": _MEMBERSHIP}

Fetch = Callable[[str], Awaitable[bytes]]


@dataclass(frozen=True, slots=True)
class SnsMessage:
    kind: str
    id: str
    message: str = field(repr=False)
    published_at: datetime
    subscribe_url: str | None = field(default=None, repr=False)


class SnsSignature:
    """`certificate` fetches the PEM of a signing certificate by an address that was checked here."""

    def __init__(self, topic: str, certificate: Fetch) -> None:
        self.topic = topic
        self._certificate = certificate

    async def verify(self, body: bytes, now: datetime) -> SnsMessage:
        """Raises RequestError (400) for what is no SNS message, Unauthenticated for what is not from our topic, stale
        or forged, and what the fetching raises."""
        fields = _fields(body)
        if fields["TopicArn"] != self.topic:
            raise Unauthenticated("The message is of another topic.")
        if fields["SignatureVersion"] != "2":
            raise Unauthenticated("Only signature version 2 is accepted; set it for the topic.")
        published_at = _fresh(fields["Timestamp"], now)
        if not is_aws(fields["SigningCertURL"]) or not urlsplit(fields["SigningCertURL"]).path.endswith(".pem"):
            raise Unauthenticated("The certificate's address is not one of AWS.")
        _check(fields, _key(await self._certificate(fields["SigningCertURL"]), now))
        return SnsMessage(
            fields["Type"], fields["MessageId"], fields["Message"], published_at, fields.get("SubscribeURL")
        )

    def confirms(self, message: SnsMessage) -> str:
        """The address that confirms the subscription to our topic. Raises Unauthenticated for any other."""
        url = message.subscribe_url or ""
        query = parse_qs(urlsplit(url).query) if is_aws(url) else {}
        if query.get("Action") != ["ConfirmSubscription"] or query.get("TopicArn") != [self.topic]:
            raise Unauthenticated("The address does not confirm a subscription to our topic.")
        return url


def is_aws(url: str) -> bool:
    """HTTPS, the standard port, and a host of SNS itself."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return False
    plain = url.isascii() and url.isprintable() and " " not in url and "\\" not in url
    bare = parts.netloc in {parts.hostname, f"{parts.hostname}:443"} and port in {None, 443}
    return plain and parts.scheme == "https" and bare and bool(_HOST.fullmatch(parts.hostname or ""))


def _fields(body: bytes) -> dict[str, str]:
    """The message's texts. Raises RequestError for what lacks one that its kind needs."""
    try:
        given = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise RequestError("The body is not JSON.") from None
    signed = _SIGNED.get(str(given.get("Type"))) if isinstance(given, dict) else None
    if signed is None:
        raise RequestError("The body is not a message of SNS.")
    needed = {*signed, "Signature", "SignatureVersion", "SigningCertURL"} - {"Subject"}
    fields = {name: given[name] for name in (*needed, "Subject") if given.get(name) is not None}
    if not needed <= fields.keys() or not all(isinstance(value, str) for value in fields.values()):
        raise RequestError("A field of the message is missing.")
    return fields


def _fresh(timestamp: str, now: datetime) -> datetime:
    try:
        at = datetime.fromisoformat(timestamp)
    except ValueError:
        raise RequestError("The timestamp is not one.") from None
    at = at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)
    if not now - MAX_AGE <= at <= now + MAX_AHEAD:
        raise Unauthenticated("The message is not fresh.")
    return at


def _key(pem: bytes, now: datetime) -> RSAPublicKey:
    try:
        certificate = x509.load_pem_x509_certificate(pem)
        key = certificate.public_key()
    except ValueError:
        raise Unauthenticated("The certificate cannot be read.") from None
    if not isinstance(key, RSAPublicKey):
        raise Unauthenticated("The certificate holds no RSA key.")
    if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
        raise Unauthenticated("The certificate is not valid now.")
    return key


def _check(fields: Mapping[str, str], key: RSAPublicKey) -> None:
    signed = "".join(f"{name}\n{fields[name]}\n" for name in _SIGNED[fields["Type"]] if name in fields)
    try:
        key.verify(base64.b64decode(fields["Signature"], validate=True), signed.encode(), PKCS1v15(), SHA256())
    except (InvalidSignature, ValueError, binascii.Error):
        raise Unauthenticated("The signature does not fit.") from None
