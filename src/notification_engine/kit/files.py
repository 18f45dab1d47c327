"""Files that are either whole or not there."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

OWNER_ONLY = 0o600


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Writes to `path`.partial, readable by its owner only; synced and renamed at the end, removed on an error.

    Raises OSError; BlockingIOError when another process writes the same file.
    """
    partial = path.with_name(path.name + ".partial")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, OWNER_ONLY)
    with os.fdopen(descriptor, "wb") as file:
        _take(descriptor, partial)
        try:
            yield file
            file.flush()
            os.fsync(descriptor)
            partial.rename(path)
        except BaseException:
            with suppress(FileNotFoundError):
                partial.unlink()
            raise
    _sync_directory(path.parent)


def _take(descriptor: int, partial: Path) -> None:
    """A name that is left over is taken; one that another writer holds, or has just renamed, is not."""
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    if not partial.exists() or partial.stat().st_ino != os.fstat(descriptor).st_ino:
        raise BlockingIOError
    os.fchmod(descriptor, OWNER_ONLY)
    os.ftruncate(descriptor, 0)


def _sync_directory(directory: Path) -> None:
    """So that the new name outlives a loss of power."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
