"""API keys: how they look, and what is stored of them. A key is `ne_live_<id>_<secret>`; only a keyed hash is kept, so
that neither a reader of the database nor a backup can use or guess one."""

import hashlib
import hmac
import re
import secrets
import string
from collections.abc import Callable
from functools import cached_property

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from notification_engine.domain.api_key import PREFIX
from notification_engine.kit.ids import new_ulid

LETTERS = string.ascii_letters + string.digits
SECRET_LENGTH = 43  # of 62 letters: 256 bits
_FORM = re.compile(rf"{PREFIX}([0-9a-z]{{26}})_([A-Za-z0-9]{{{SECRET_LENGTH}}})")


class ApiKeyHash:
    """Implements `services.ports.ApiKeyHash`."""

    def __init__(self, secret: str | Callable[[], str]) -> None:
        """`secret` may give it late, when it is first needed."""
        self._secret = secret

    @cached_property
    def _key(self) -> bytes:
        secret = self._secret if isinstance(self._secret, str) else self._secret()
        return HKDF(SHA256(), 32, salt=None, info=b"notification-engine api keys").derive(secret.encode())

    def make(self) -> tuple[str, str, bytes]:
        """The id, the key, which is shown once, and its hash."""
        ulid = new_ulid()
        secret = "".join(secrets.choice(LETTERS) for _ in range(SECRET_LENGTH))
        return f"key_{ulid}", f"{PREFIX}{ulid}_{secret}", self._digest(ulid, secret)

    def read(self, credential: str) -> tuple[str, bytes] | None:
        """The id that it names and its hash; None for what has not the form of a key."""
        found = _FORM.fullmatch(credential)
        return (f"key_{found[1]}", self._digest(found[1], found[2])) if found else None

    @staticmethod
    def same(given: bytes, stored: bytes) -> bool:
        """In constant time."""
        return hmac.compare_digest(given, stored)

    def _digest(self, ulid: str, secret: str) -> bytes:
        return hmac.digest(self._key, f"{ulid}.{secret}".encode(), hashlib.sha256)
