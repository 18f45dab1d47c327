"""Unsubscribe tokens: who switches off what, sealed, so that nobody can read or make one. All are of one length for
users and types of a usual length, and none is stored."""

import base64
import binascii
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import orjson

from notification_engine.domain.delivery import Channel
from notification_engine.domain.errors import ConfigurationError
from notification_engine.security.field_encryption import FieldCipher

BLOCK = 96  # bytes; the plain text is padded to a multiple
MAX_TOKEN = 2048
PURPOSE = b"notification-engine unsubscribe"


@dataclass(frozen=True, slots=True)
class Subscription:
    user_id: str
    notification_type: str
    channel: Channel


class UnsubscribeTokens:
    def __init__(self, *secrets: str, late: Callable[[], Sequence[str]] | None = None) -> None:
        """The first seals, all open: links outlive a secret by years. `late` gives them once they are known."""
        self._secrets = late or (lambda: secrets)
        self._ciphers: dict[str, FieldCipher] = {}

    def seal(self, user_id: str, notification_type: str, channel: Channel) -> str:
        plain = orjson.dumps([user_id, notification_type, channel])
        plain += b" " * (-len(plain) % BLOCK)
        return _encoded(self._cipher(self._secrets()[0]).encrypt(plain))

    def open(self, token: str) -> Subscription | None:
        """None for what `seal` did not make with this key, in exactly these letters."""
        try:
            sealed = base64.urlsafe_b64decode(token.encode("ascii") + b"=" * (-len(token) % 4))
            if len(token) > MAX_TOKEN or _encoded(sealed) != token:
                return None
        except (UnicodeEncodeError, binascii.Error):
            return None
        for secret in self._secrets():
            try:
                user_id, notification_type, channel = orjson.loads(self._cipher(secret).decrypt(sealed))
            except ConfigurationError:
                continue
            return Subscription(user_id, notification_type, Channel(channel))
        return None

    def _cipher(self, secret: str) -> FieldCipher:
        if secret not in self._ciphers:
            self._ciphers[secret] = FieldCipher.from_secret(secret, PURPOSE)
        return self._ciphers[secret]


def _encoded(sealed: bytes) -> str:
    return base64.urlsafe_b64encode(sealed).decode().rstrip("=")
