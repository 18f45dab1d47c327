"""Pseudonyms: what stands for a user who was erased, and the seal of an erasure. Keyed, so that nobody without the key
can try user ids against them; stable, so that a list of erasures kept elsewhere finds the same user again."""

import hmac
from collections.abc import Callable
from functools import cached_property
from hashlib import sha256

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

PREFIX = "erased_"


class Pseudonyms:
    def __init__(self, secret: str | Callable[[], str]) -> None:
        """The key is derived by HKDF-SHA256 (RFC 5869), bound to this use, when it is first needed: `secret` may give
        it late."""
        self._secret = secret

    @cached_property
    def _key(self) -> bytes:
        secret = self._secret if isinstance(self._secret, str) else self._secret()
        return HKDF(SHA256(), 32, salt=None, info=b"notification-engine pseudonyms").derive(secret.encode())

    def of(self, user_id: str) -> str:
        return PREFIX + self._digest("user", user_id)[:32]

    def seal(self, text: str) -> str:
        """Says that this engine, and nobody else, took a part out of an audit row."""
        return self._digest("seal", text)

    def is_seal(self, seal: str, text: str) -> bool:
        return hmac.compare_digest(seal.encode(), self.seal(text).encode())

    def _digest(self, *texts: str) -> str:
        return hmac.new(self._key, "\0".join(texts).encode("utf-8", "surrogatepass"), sha256).hexdigest()
