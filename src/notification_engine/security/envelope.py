"""Envelope encryption: a data key seals values, a master key wraps data keys.

Invariants: every value is sealed under a key of its own context, derived by HMAC-SHA256 from the data key (NIST SP
800-108), with AES-256-GCM and a random nonce, and the context is authenticated too; so what is moved to another user,
field or document does not open. The bound of random nonces (2^32 values a key, NIST SP 800-38D) counts for one
document's field, which is sealed once or twice in its life.
"""

import hmac
import os
from collections.abc import Callable, Sequence
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from notification_engine.domain.errors import ConfigurationError, Unreadable
from notification_engine.security.field_encryption import FieldCipher

VERSION = b"\x02"
KEY_ID_BYTES, SECRET_BYTES, NONCE_BYTES, TAG_BYTES = 8, 32, 12, 16
_HEAD = len(VERSION) + KEY_ID_BYTES
OVERHEAD = _HEAD + NONCE_BYTES + TAG_BYTES  # bytes that a sealed value is longer than its plain one


class DataKey:
    """`id` stands in front of what it sealed, so that a key that is gone is told from a value that was altered."""

    __slots__ = ("_secret", "id")

    def __init__(self, material: bytes) -> None:
        if len(material) != KEY_ID_BYTES + SECRET_BYTES:
            raise ValueError("not the material of a data key")
        self.id, self._secret = material[:KEY_ID_BYTES], material[KEY_ID_BYTES:]

    @classmethod
    def new(cls) -> "DataKey":
        return cls(os.urandom(KEY_ID_BYTES + SECRET_BYTES))

    @property
    def material(self) -> bytes:
        return self.id + self._secret

    def seal(self, plain: bytes, *context: str) -> bytes:
        bound = _bound(context)
        head, nonce = VERSION + self.id, os.urandom(NONCE_BYTES)
        return head + nonce + AESGCM(self._derived(b"seal", bound)).encrypt(nonce, plain, head + bound)

    def open(self, sealed: bytes, *context: str) -> bytes:
        """Raises Unreadable for what was not sealed by this key in this context, as it is."""
        bound = _bound(context)
        head, nonce, rest = sealed[:_HEAD], sealed[_HEAD : _HEAD + NONCE_BYTES], sealed[_HEAD + NONCE_BYTES :]
        if head != VERSION + self.id:
            raise Unreadable("A stored value was sealed with a key that is gone.", gone=True)
        try:
            return AESGCM(self._derived(b"seal", bound)).decrypt(nonce, rest, head + bound)
        except (InvalidTag, ValueError):
            raise Unreadable("A stored value was altered or moved.") from None

    def digest(self, *context: str) -> str:
        """A keyed hash in hex, to find a value by without keeping it."""
        return self._derived(b"find", _bound(context)).hex()

    def secret(self, purpose: str) -> str:
        """Derived once for all, for what keeps a secret of its own and must outlive each master key."""
        return self._derived(b"secret", _bound((purpose,))).hex()

    def _derived(self, use: bytes, bound: bytes) -> bytes:
        return hmac.digest(self._secret, b"notification-engine 2 " + use + b"\0" + bound, "sha256")


def _bound(context: Sequence[str]) -> bytes:
    """Unambiguous: each part behind its length, so that no two contexts read alike."""
    parts = [part.encode() for part in context]
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


class Sealer:
    """Seals for one purpose with a data key that is known once the engine has started. `legacy` opens what an engine
    before the data keys sealed directly under the master key (version 1)."""

    def __init__(
        self, purpose: str, key: Callable[[], DataKey], legacy: "Callable[[bytes], bytes] | None" = None
    ) -> None:
        self.purpose = purpose
        self._key = key
        self._legacy = legacy

    def seal(self, plain: bytes, *context: str) -> bytes:
        return self._key().seal(plain, self.purpose, *context)

    def open(self, sealed: bytes, *context: str) -> bytes:
        if self._legacy is not None and is_legacy(sealed):
            return self._legacy(sealed)
        return self._key().open(sealed, self.purpose, *context)

    def digest(self, *context: str) -> str:
        return self._key().digest(self.purpose, *context)


def is_legacy(sealed: bytes) -> bool:
    return sealed[:1] == b"\x01"


class KeyWrapper(Protocol):
    """A master key: wraps data keys, and never leaves where it is kept. `master` names the key that wraps now."""

    name: str

    @property
    def master(self) -> str: ...
    async def wrap(self, plain: bytes, context: str) -> bytes: ...
    async def unwrap(self, wrapped: bytes, context: str) -> bytes:
        """Raises ConfigurationError naming the variable for a key that is not the one, Unavailable for no answer."""
        ...

    async def rewrap(self, wrapped: bytes, context: str) -> bytes:
        """What this keeper's former key wrapped, wrapped by its present one."""
        ...

    def renew_token(self, token: str) -> None:
        """Of the keeper, where it is asked with one."""

    async def close(self) -> None: ...


class LocalKeys:
    """The master key of the settings, and those before it, which still open."""

    name = "local"

    def __init__(self, current: str, previous: Sequence[str] = ()) -> None:
        self.replace(current, previous)

    def replace(self, current: str, previous: Sequence[str] = ()) -> None:
        self._secrets = tuple(dict.fromkeys((current, *previous)))
        self._keys = {_fingerprint(secret): DataKey(_material(secret)) for secret in self._secrets}
        self._legacy = [FieldCipher.from_secret(secret) for secret in self._secrets]
        self._current = _fingerprint(current)

    def add(self, current: str, previous: Sequence[str] = ()) -> None:
        """New keys beside those that are known: what they wrapped still opens until this process ends."""
        self.replace(current, (*previous, *self._secrets))

    @property
    def master(self) -> str:
        return f"{self.name}:{self._current}"

    async def wrap(self, plain: bytes, context: str) -> bytes:
        return self._keys[self._current].seal(plain, "data key", context)

    async def unwrap(self, wrapped: bytes, context: str) -> bytes:
        for key in self._keys.values():
            try:
                return key.open(wrapped, "data key", context)
            except Unreadable as error:
                if not error.gone:
                    raise ConfigurationError(f"FIELD_ENCRYPTION_KEY: the data key {context} was altered.") from None
        raise ConfigurationError(
            "FIELD_ENCRYPTION_KEY: neither it (or the JWT_SECRET_KEY that stands in for it) nor one of "
            f"FIELD_ENCRYPTION_KEY_PREVIOUS is the key that wrapped the data key {context}."
        )

    async def rewrap(self, wrapped: bytes, context: str) -> bytes:
        return await self.wrap(await self.unwrap(wrapped, context), context)

    def open_legacy(self, sealed: bytes) -> bytes:
        """What was sealed directly. Raises ConfigurationError when it was none of these keys."""
        for cipher in self._legacy[:-1]:
            try:
                return cipher.decrypt(sealed)
            except ConfigurationError:
                continue
        return self._legacy[-1].decrypt(sealed)

    def renew_token(self, token: str) -> None: ...
    async def close(self) -> None: ...


def _fingerprint(secret: str) -> str:
    """Names a master key; nobody finds the key by it."""
    return DataKey(_material(secret)).id.hex()


def _material(secret: str) -> bytes:
    """The key and its name, by two derivations that tell nothing of each other."""
    name = FieldCipher.derived(secret, b"notification-engine master key name")[:KEY_ID_BYTES]
    return name + FieldCipher.derived(secret, b"notification-engine master key")
