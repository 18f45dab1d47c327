"""The list of erasures outside the database: JSON lines, only ever appended, synced before anything is erased.

A line holds a pseudonym in the place of the user id: the list outlives the data, so it must not name whom it protects.
After a restore every user id in the database is put through the same keyed hash and looked up here.
"""

import asyncio
import fcntl
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from notification_engine.domain.errors import ConfigurationError, Unavailable

CHECKED = "the key of this list"  # no user id: its pseudonym tells which key a list was written with


@dataclass(slots=True)
class Entry:
    """`done_at` None: it was begun, and nobody knows how far it came."""

    receipt: str
    subject: str
    key: str
    begun_at: datetime
    done_at: datetime | None = None


class ErasureLog:
    """Implements `services.data_protection.ErasureList`."""

    def __init__(self, path: Path, key: Callable[[], str]) -> None:
        """`key` gives the pseudonym of `CHECKED`."""
        self._path = path
        self._key = key

    async def write(self, receipt: str, subject: str, state: str, at: datetime) -> None:
        """`state`: begun or done. Raises Unavailable when the line is not on the disk."""
        line = {"receipt": receipt, "subject": subject, "key": self._key(), "state": state, "at": at.isoformat()}
        try:
            await asyncio.to_thread(_append, self._path, json.dumps(line).encode() + b"\n")
        except OSError as error:
            raise Unavailable(f"ERASURE_LOG_FILE cannot be written ({type(error).__name__}).") from None


def _append(path: Path, line: bytes) -> None:
    """Under a lock: replicas may share the file, and a line torn by a crash is ended before the next."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        size = os.fstat(descriptor).st_size
        torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
        data = (b"\n" if torn else b"") + line
        if os.write(descriptor, data) != len(data):
            raise OSError("short write")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_erasures(paths: Sequence[Path], key: str) -> list[Entry]:
    """Raises ConfigurationError: a file that cannot be read, or one that was written under another key."""
    entries: dict[str, Entry] = {}
    for path in paths:
        for line in _lines(path):
            if line["key"] != key:
                raise ConfigurationError(f"PSEUDONYM_KEY: {path} was written under another key; give that one.")
            at = datetime.fromisoformat(line["at"])
            entry = entries.setdefault(line["receipt"], Entry(line["receipt"], line["subject"], line["key"], at))
            if line["state"] == "done":
                entry.done_at = at
    for entry in entries.values():
        if entry.done_at is None:  # broken off, and perhaps repeated
            later = [e.done_at for e in entries.values() if e.subject == entry.subject and e.done_at]
            entry.done_at = min((at for at in later if at >= entry.begun_at), default=None)
    return list(entries.values())


def _lines(path: Path) -> Iterator[dict[str, str]]:
    """A torn line is left out: it was never synced, and nothing was erased on its account."""
    try:
        with path.open(encoding="utf-8") as file:
            for text in file:
                try:
                    line = json.loads(text)
                except ValueError:
                    continue
                if {"receipt", "subject", "key", "state", "at"} <= set(line):
                    yield line
    except OSError as error:
        raise ConfigurationError(f"ERASURE_LOG_FILE: {path} cannot be read ({error.strerror}).") from None
