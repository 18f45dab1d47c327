"""Ids: a prefix and a lower-case ULID, so that they sort by the time of acceptance (Crockford base 32)."""

import hashlib
import os
import time

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_PAIRS = [a + b for a in _ALPHABET for b in _ALPHABET]
_SHIFTS = tuple(range(120, -1, -10))


def _encode(value: int) -> str:
    """26 characters of a 128-bit number."""
    return "".join([_PAIRS[(value >> shift) & 1023] for shift in _SHIFTS])


def new_ulid(at_ms: int | None = None) -> str:
    milliseconds = time.time_ns() // 1_000_000 if at_ms is None else at_ms
    return _encode((milliseconds << 80) | int.from_bytes(os.urandom(10)))


def new_id(prefix: str, at_ms: int | None = None) -> str:
    return f"{prefix}_{new_ulid(at_ms)}"


def ulid_milliseconds(ulid: str) -> int:
    """The moment that a ULID begins with, since the epoch. Raises ValueError for what is no ULID."""
    value = 0
    for character in ulid[:10]:
        value = value * 32 + _ALPHABET.index(character)
    return value


def first_ulid(at_ms: int) -> str:
    """The smallest ULID of that millisecond: the bound of a range."""
    return _encode(at_ms << 80)


def derived_ulid(ulid: str, index: int) -> str:
    """The index-th follower of a ULID: same millisecond, the rest by hash; a repeated request finds the same ids."""
    digest = hashlib.blake2b(f"{ulid}:{index}".encode(), digest_size=10).digest()
    return ulid[:10] + _encode(int.from_bytes(digest))[10:]
