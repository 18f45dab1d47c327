"""Sealing under one key: AES-256-GCM, a version byte, a random nonce (NIST SP 800-38D). Unsubscribe tokens, and what
engines before the data keys (`envelope`) stored."""

import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from notification_engine.domain.errors import ConfigurationError

_VERSION = b"\x01"
_NONCE_BYTES = 12


class FieldCipher:
    """`key` has 32 bytes."""

    def __init__(self, key: bytes) -> None:
        self._aead = AESGCM(key)

    @classmethod
    def from_secret(cls, secret: str, purpose: bytes = b"notification-engine field encryption") -> "FieldCipher":
        """A key derived by HKDF-SHA256 (RFC 5869), bound to one use: what is sealed for one opens for no other."""
        return cls(cls.derived(secret, purpose))

    @staticmethod
    def derived(secret: str, purpose: bytes) -> bytes:
        return HKDF(SHA256(), 32, salt=None, info=purpose).derive(secret.encode())

    def encrypt(self, plain: bytes) -> bytes:
        nonce = os.urandom(_NONCE_BYTES)
        return _VERSION + nonce + self._aead.encrypt(nonce, plain, _VERSION)

    def decrypt(self, sealed: bytes) -> bytes:
        """Raises ConfigurationError when the key is not the one it was encrypted with, or what is stored was cut."""
        version, nonce, rest = sealed[:1], sealed[1 : 1 + _NONCE_BYTES], sealed[1 + _NONCE_BYTES :]
        try:
            return self._aead.decrypt(nonce, rest, version)
        except (InvalidTag, ValueError) as error:  # the second: too short to hold a nonce
            raise ConfigurationError(
                "FIELD_ENCRYPTION_KEY (or the JWT_SECRET_KEY it is derived from) is not the one that the stored "
                "webhook secrets were encrypted with."
            ) from error
