"""Signatures of SendGrid's Event Webhook: ECDSA P-256 with SHA-256 over the timestamp and the raw body (Twilio
SendGrid, "Getting Started with the Event Webhook Security Features")."""

import base64
import binascii
import hashlib
from datetime import datetime

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key

from notification_engine.domain.errors import Unauthenticated

SIGNATURE_HEADER = "X-Twilio-Email-Event-Webhook-Signature"
TIMESTAMP_HEADER = "X-Twilio-Email-Event-Webhook-Timestamp"
FRESH_SECONDS = 300


class SendGridSignature:
    def __init__(self, public_key: str) -> None:
        """`public_key`: base64 of the DER form, as SendGrid shows it. Raises ValueError for anything else."""
        try:
            key = load_der_public_key(base64.b64decode(public_key, validate=True))
        except (ValueError, binascii.Error, UnsupportedAlgorithm):
            raise ValueError("not the base64 of a public key in DER") from None
        if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
            raise ValueError("not a key of the curve P-256")
        self._key = key

    def verify(self, body: bytes, signature: str | None, timestamp: str | None, now: datetime) -> str:
        """A digest of what was signed, which names this request whatever the spelling of its signature (of each ECDSA
        signature anyone can make a second one). Raises Unauthenticated for what is unsigned, stale or forged."""
        if not signature or not timestamp:
            raise Unauthenticated("The signature or its timestamp is missing.")
        if not timestamp.isascii() or not timestamp.isdigit() or len(timestamp) > 12:
            raise Unauthenticated("The timestamp is not one.")
        if abs(now.timestamp() - int(timestamp)) > FRESH_SECONDS:
            raise Unauthenticated("The request is not fresh.")
        signed = timestamp.encode() + body
        try:
            self._key.verify(base64.b64decode(signature, validate=True), signed, ec.ECDSA(SHA256()))
        except (InvalidSignature, ValueError):
            raise Unauthenticated("The signature does not fit.") from None
        return hashlib.sha256(timestamp.encode() + b"\0" + body).hexdigest()
