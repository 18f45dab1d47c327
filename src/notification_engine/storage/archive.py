"""The file of a backup: written beside its name and renamed when it is whole, checked whole before it is used.

Layout: MAGIC; the header's length (4 bytes, little endian) and the header (JSON); one zstd frame; the trailer, which is
the SHA-256 of all before it, as text. In the frame, for each collection, stands a BSON document with its name, its
documents, and four zero bytes; at the end a BSON document with the counts.

Invariant: nothing here holds more than a few MiB, whatever the size of the backup.
"""

import hashlib
import json
import struct
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, BinaryIO

import bson
from bson.errors import BSONError

from notification_engine.domain.errors import ConfigurationError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd  # comes with pymongo[zstd]

MAGIC = b"notification-engine backup\n"
FORMAT = 1
LEVEL = 3
CHUNK_BYTES = 1024 * 1024
MAX_HEADER_BYTES = 1024 * 1024
MIN_DOCUMENT_BYTES = 5
MAX_DOCUMENT_BYTES = 16 * 1024 * 1024 + 16 * 1024  # what a server stores, and what it adds
_LENGTH = struct.Struct("<i")
_END_OF_COLLECTION = _LENGTH.pack(0)
_SUM = b"\nsha256:"
TRAILER_BYTES = len(_SUM) + 64 + 1

Counts = dict[str, int]


@dataclass(frozen=True)
class Header:
    """`cluster_time`: seconds and increment of the moment that was read. `expected` are estimates, for the progress;
    the exact counts stand at the end."""

    database: str
    cluster_time: tuple[int, int]
    taken_at: str
    engine: str
    migrations: tuple[str, ...]
    expected: Mapping[str, int]


class Writer:
    """Writes header, collections and trailer to a file, in this order."""

    def __init__(self, file: BinaryIO, header: Header) -> None:
        self._file = file
        self._sum = hashlib.sha256()
        self._zstd = zstd.ZstdCompressor(level=LEVEL)
        self._counts: Counts = {}
        self._current = ""
        text = json.dumps({"format": FORMAT} | asdict(header), sort_keys=True).encode()
        self._out(MAGIC + _LENGTH.pack(len(text)) + text)

    def begin(self, collection: str) -> None:
        self._current = collection
        self._counts[collection] = 0
        self._pack(bson.encode({"collection": collection}))

    def add(self, documents: bytes) -> int:
        """BSON documents, one after the other; answers how many."""
        count = sum(1 for _ in _split(documents))
        self._counts[self._current] += count
        self._pack(documents)
        return count

    def end(self) -> None:
        self._pack(_END_OF_COLLECTION)

    def finish(self) -> Counts:
        self._pack(bson.encode({"counts": self._counts}))
        self._out(self._zstd.flush())
        self._file.write(_SUM + self._sum.hexdigest().encode() + b"\n")
        return self._counts

    def _pack(self, content: bytes) -> None:
        self._out(self._zstd.compress(content))

    def _out(self, content: bytes) -> None:
        self._sum.update(content)
        self._file.write(content)


class Archive:
    """A backup that is read. Every method raises ConfigurationError with what is wrong with the file."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self._file = file
        self._name = name
        self.header, self._content_at = self._read_header()
        self._content_end = self._file.seek(0, 2) - TRAILER_BYTES

    @property
    def size(self) -> int:
        """Bytes that the checksum covers."""
        return max(self._content_end, 0)

    def check(self) -> Iterator[int]:
        """The checksum; answers bytes read, as it goes."""
        self._file.seek(max(self._content_end, 0))
        trailer = self._file.read()
        if self._content_end < self._content_at or not _is_trailer(trailer):
            raise self._wrong("is cut short, or something follows its end: there is no checksum where it belongs")
        digest = hashlib.sha256()
        for chunk in self._chunks(0):
            digest.update(chunk)
            yield len(chunk)
        if digest.hexdigest().encode() != trailer[len(_SUM) : -1]:
            raise self._wrong("was altered or damaged: its content does not match its checksum")

    def documents(self) -> Iterator[tuple[str, bytes]]:
        """Each document as BSON, with its collection. The counts are compared at the end."""
        counts: Counts = {}
        items = self._items()
        for item in items:
            head = self._decoded(item)
            if "counts" in head:
                if head["counts"] != counts:
                    raise self._wrong("does not hold what it says: its counts differ")
                return
            collection = str(head.get("collection", ""))
            counts[collection] = 0
            for document in items:
                if not document:
                    break
                counts[collection] += 1
                yield collection, document
        raise self._wrong("is damaged: its content ends too early")

    def _read_header(self) -> tuple[Header, int]:
        self._file.seek(0)
        if self._file.read(len(MAGIC)) != MAGIC:
            raise self._wrong("is not a backup of the notification engine")
        try:
            (length,) = _LENGTH.unpack(self._file.read(_LENGTH.size))
            fields = json.loads(self._file.read(length if 0 < length <= MAX_HEADER_BYTES else 0))
            form = int(fields.pop("format"))
            if form > FORMAT:
                raise self._wrong(f"has format {form}, made by a newer engine; this one reads up to {FORMAT}")
            header = Header(**fields)
        except (struct.error, ValueError, KeyError, TypeError, AttributeError):
            raise self._wrong("is damaged: its header cannot be read") from None
        return header, self._file.tell()

    def _chunks(self, start: int) -> Iterator[bytes]:
        self._file.seek(start)
        left = self._content_end - start
        while left > 0 and (chunk := self._file.read(min(CHUNK_BYTES, left))):
            left -= len(chunk)
            yield chunk

    def _content(self) -> Iterator[bytes]:
        unpack = zstd.ZstdDecompressor()
        try:
            for chunk in self._chunks(self._content_at):
                yield unpack.decompress(chunk, CHUNK_BYTES)
                while not unpack.needs_input and not unpack.eof:
                    yield unpack.decompress(b"", CHUNK_BYTES)
        except (zstd.ZstdError, EOFError):
            raise self._wrong("is damaged: its content cannot be decompressed") from None

    def _items(self) -> Iterator[bytes]:
        """BSON documents; an empty one ends a collection."""
        rest = b""
        for content in self._content():
            rest += content
            at = 0
            while at + _LENGTH.size <= len(rest):
                (size,) = _LENGTH.unpack_from(rest, at)
                if size and not MIN_DOCUMENT_BYTES <= size <= MAX_DOCUMENT_BYTES:
                    raise self._wrong("is damaged: there is no document where one belongs")
                if at + size > len(rest):
                    break
                yield rest[at : at + size]
                at += size or _LENGTH.size
            rest = rest[at:]

    def _decoded(self, item: bytes) -> dict[str, Any]:
        try:
            return bson.decode(item)
        except BSONError:
            raise self._wrong("is damaged: there is no collection where one belongs") from None

    def _wrong(self, what: str) -> ConfigurationError:
        return ConfigurationError(f"{self._name} {what}.")


def _split(documents: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(documents):
        (size,) = _LENGTH.unpack_from(documents, at)
        yield documents[at : at + size]
        at += size


def _is_trailer(content: bytes) -> bool:
    return len(content) == TRAILER_BYTES and content.startswith(_SUM) and content.endswith(b"\n")
