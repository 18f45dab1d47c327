"""Providers that call back: SendGrid's signer, and SNS with its certificates and confirmations on loopback.

The signatures are made here with the cryptography package alone, after the vendors' documents; none of our code signs.
"""

import base64
import json
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode, urlsplit

from aiohttp import web
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from tests.servers.http import HttpServer
from tests.servers.tls import self_signed

from notification_engine.net.fetch import Fetcher
from notification_engine.net.session import Outbound

TOPIC = "arn:aws:sns:us-east-1:123456789012:ses-events"
HOST = "https://sns.us-east-1.amazonaws.com"
CERTIFICATE = f"{HOST}/SimpleNotificationService-0000.pem"


class SendGridSigner:
    def __init__(self, curve: ec.EllipticCurve | None = None) -> None:
        self.key = ec.generate_private_key(curve or ec.SECP256R1())
        der = self.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        self.public_key = base64.b64encode(der).decode()

    def headers(self, body: bytes, at: datetime | None = None) -> dict[str, str]:
        stamp = str(int((at or datetime.now(UTC)).timestamp()))
        signature = self.key.sign(stamp.encode() + body, ec.ECDSA(hashes.SHA256()))
        return {
            "X-Twilio-Email-Event-Webhook-Signature": base64.b64encode(signature).decode(),
            "X-Twilio-Email-Event-Webhook-Timestamp": stamp,
            "Content-Type": "application/json",
        }


def sendgrid_event(delivery_id: str | None, event: str, **fields: Any) -> dict[str, Any]:
    plain: dict[str, Any] = {
        "email": "u1@example.org",
        "event": event,
        "timestamp": int(datetime.now(UTC).timestamp()),
        "sg_event_id": uuid.uuid4().hex,
        "sg_message_id": "14c5d75ce93.dfd.64b469.filter0001",
    }
    if delivery_id is not None:
        plain["delivery_id"] = delivery_id
    if event == "bounce":
        plain |= {"type": "bounce", "status": "5.1.1", "reason": "550 5.1.1 <u1@example.org> unknown"}
    return plain | fields


class Sns(HttpServer):
    """Signs as SNS does, and answers what its hosts would answer. `visited` are the paths asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.pem = certificate(self.key)
        self.visited: list[str] = []
        self.status = 200
        self._out = Outbound(None)

    def application(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/{path:.*}", self._answer)
        return app

    async def stop(self) -> None:
        await self._out.close()
        await super().stop()

    def fetcher(self, **bounds: Any) -> Fetcher:
        return _Loopback(self, self._out, **bounds)

    async def _answer(self, request: web.Request) -> web.Response:
        self.visited.append(request.path_qs)
        return web.Response(status=self.status, body=self.pem if request.path.endswith(".pem") else b"<Confirmed/>")

    def notification(self, message: Any, **fields: Any) -> dict[str, str]:
        text = message if isinstance(message, str) else json.dumps(message)
        return self.signed({"Type": "Notification", "Message": text} | fields)

    def membership(self, kind: str = "SubscriptionConfirmation", **fields: Any) -> dict[str, str]:
        query = urlencode({"Action": "ConfirmSubscription", "TopicArn": TOPIC, "Token": "t0ken"})
        plain = {"Type": kind, "Message": "You have chosen", "Token": "t0ken", "SubscribeURL": f"{HOST}/?{query}"}
        return self.signed(plain | fields)

    def signed(self, fields: dict[str, str]) -> dict[str, str]:
        """Over the documented fields, sorted by name, each name and value on a line of its own."""
        plain = {
            "MessageId": str(uuid.uuid4()),
            "TopicArn": TOPIC,
            "Timestamp": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "SignatureVersion": "2",
            "SigningCertURL": CERTIFICATE,
        } | fields
        names = ["Message", "MessageId", "Subject", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"]
        text = "".join(f"{name}\n{plain[name]}\n" for name in names if name in plain)
        digest = hashes.SHA256() if plain["SignatureVersion"] == "2" else hashes.SHA1()
        signature = self.key.sign(text.encode(), padding.PKCS1v15(), digest)
        return plain | {"Signature": base64.b64encode(signature).decode()}


class _Loopback(Fetcher):
    """Asks the loopback server for what stands at AWS; everything else is the engine's own."""

    def __init__(self, sns: Sns, out: Outbound, **bounds: Any) -> None:
        super().__init__(out.session, **bounds)
        self._sns = sns

    async def _get(self, url: str) -> bytes:
        parts = urlsplit(url)
        return await super()._get(f"{self._sns.address}{parts.path}" + (f"?{parts.query}" if parts.query else ""))


def certificate(key: Any, **times: timedelta) -> bytes:
    """`times`: see `self_signed`."""
    return self_signed(key, "sns.amazonaws.com", **times)


def ses_event(delivery_id: str | None, kind: str, **fields: Any) -> dict[str, Any]:
    """As SES publishes it (developer guide, "Examples of event data")."""
    at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    parts: dict[str, dict[str, Any]] = {
        "Bounce": {
            "bounceType": "Permanent",
            "bounceSubType": "General",
            "bouncedRecipients": [{"emailAddress": "u1@example.org", "status": "5.1.1"}],
        },
        "Complaint": {"complainedRecipients": [{"emailAddress": "u1@example.org"}], "complaintFeedbackType": "abuse"},
    }
    name = {"DeliveryDelay": "deliveryDelay"}.get(kind, kind.lower())
    tags = {"ses:configuration-set": ["events"]}
    if delivery_id is not None:
        tags["notification-delivery-id"] = [delivery_id]
    return {
        "eventType": kind,
        "mail": {"timestamp": at, "messageId": "0100", "destination": ["u1@example.org"], "tags": tags},
        name: {"timestamp": at} | parts.get(kind, {}) | fields,
    }
