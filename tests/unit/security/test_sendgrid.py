import base64
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from tests.servers.callbacks import SendGridSigner

from notification_engine.domain.errors import Unauthenticated
from notification_engine.security.sendgrid import FRESH_SECONDS, SIGNATURE_HEADER, TIMESTAMP_HEADER, SendGridSignature

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
SIGNER = SendGridSigner()
CHECK = SendGridSignature(SIGNER.public_key)


def der(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey) -> str:
    return base64.b64encode(key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).decode()


def verified(body: bytes, signed_at: datetime) -> str:
    headers = SIGNER.headers(body, signed_at)
    return CHECK.verify(body, headers[SIGNATURE_HEADER], headers[TIMESTAMP_HEADER], NOW)


@pytest.mark.parametrize("body", [b"", b"[]", b"[]\r\n", "ü".encode(), b"\x00\xff"])
def test_the_very_bytes_are_what_is_signed(body: bytes) -> None:
    headers = SIGNER.headers(body, NOW)
    assert verified(body, NOW)
    with pytest.raises(Unauthenticated):
        CHECK.verify(body + b" ", headers[SIGNATURE_HEADER], headers[TIMESTAMP_HEADER], NOW)


@pytest.mark.parametrize("seconds", [-FRESH_SECONDS, 0, FRESH_SECONDS])
def test_what_is_fresh_is_taken(seconds: int) -> None:
    assert verified(b"[]", NOW + timedelta(seconds=seconds))


@pytest.mark.parametrize("seconds", [-FRESH_SECONDS - 1, FRESH_SECONDS + 1, -86_400 * 365])
def test_what_is_not_fresh_is_refused(seconds: int) -> None:
    with pytest.raises(Unauthenticated, match="fresh"):
        verified(b"[]", NOW + timedelta(seconds=seconds))


def test_the_digest_names_what_was_signed_and_not_its_signature() -> None:
    assert verified(b"[]", NOW) == verified(b"[]", NOW)  # two random signatures
    assert len({verified(b"[]", NOW), verified(b"[ ]", NOW), verified(b"[]", NOW + timedelta(seconds=1))}) == 3


@pytest.mark.parametrize(
    "key",
    [
        "",
        "no base64 at all",
        base64.b64encode(b"no DER").decode(),
        SIGNER.public_key[:-8],
        f"-----BEGIN PUBLIC KEY-----\n{SIGNER.public_key}\n-----END PUBLIC KEY-----",
        der(ec.generate_private_key(ec.SECP384R1())),
        der(rsa.generate_private_key(public_exponent=65537, key_size=2048)),
        der(ed25519.Ed25519PrivateKey.generate()),
    ],
    ids=["empty", "words", "no DER", "cut", "PEM", "P-384", "RSA", "Ed25519"],
)
def test_another_key_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match="not "):
        SendGridSignature(key)
