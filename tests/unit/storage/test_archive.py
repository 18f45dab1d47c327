"""The file of a backup: what was written is read back; what was not written so is refused, with what is wrong."""

import hashlib
import io
import json
import struct
from collections.abc import Callable
from typing import Any

import bson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from notification_engine.domain.errors import ConfigurationError
from notification_engine.storage import archive
from notification_engine.storage.archive import MAGIC, TRAILER_BYTES, Archive, Header, Writer

HEADER = Header("intellibrowse", (1_700_000_000, 7), "2026-11-24T12:00:00+00:00", "0.1.0", ("0001_a",), {"n": 3})
Collections = dict[str, list[dict[str, Any]]]


def written(collections: Collections, header: Header = HEADER, *, batch: int = 2) -> bytes:
    file = io.BytesIO()
    writer = Writer(file, header)
    for name, documents in collections.items():
        writer.begin(name)
        encoded = [bson.encode(d) for d in documents]
        for start in range(0, len(encoded), batch):
            writer.add(b"".join(encoded[start : start + batch]))
        writer.end()
    assert writer.finish() == {name: len(documents) for name, documents in collections.items()}
    return file.getvalue()


def read(content: bytes) -> Collections:
    opened = Archive(io.BytesIO(content), "FILE")
    assert sum(opened.check()) == opened.size
    found: Collections = {}
    for name, document in opened.documents():
        found.setdefault(name, []).append(bson.decode(document))
    return found


def resigned(content: bytes) -> bytes:
    """With a trailer that fits: what only a program that means it can produce."""
    return content + b"\nsha256:" + hashlib.sha256(content).hexdigest().encode() + b"\n"


SAMPLE = written({"notifications": [{"_id": i, "text": "x" * i} for i in range(50)], "notification_history": []})


def test_what_was_written_is_read_back() -> None:
    found = read(SAMPLE)
    assert [d["_id"] for d in found["notifications"]] == list(range(50))
    assert found["notifications"][7] == {"_id": 7, "text": "xxxxxxx"}
    header = Archive(io.BytesIO(SAMPLE), "FILE").header
    assert (header.database, list(header.cluster_time), header.expected) == (
        "intellibrowse",
        [1_700_000_000, 7],
        {"n": 3},
    )


@given(st.dictionaries(st.text(max_size=5), st.lists(st.binary(max_size=300), min_size=1, max_size=20), max_size=4))
def test_any_documents_in_any_pieces(values: dict[str, list[bytes]]) -> None:
    collections: Collections = {f"c{i}": [{"v": v} for v in vs] for i, vs in enumerate(values.values())}
    plain = archive.CHUNK_BYTES
    try:
        archive.CHUNK_BYTES = 7  # each document is cut by chunks, as in a large file
        assert read(written(collections)) == collections
    finally:
        archive.CHUNK_BYTES = plain


def test_documents_larger_than_a_chunk() -> None:
    large: Collections = {"c": [{"v": bytes([i]) * 5_000_000} for i in range(3)]}
    assert read(written(large)) == large


@pytest.mark.parametrize("length", [0, 5, len(MAGIC) - 1])
def test_a_file_without_the_mark_is_foreign(length: int) -> None:
    with pytest.raises(ConfigurationError, match="FILE is not a backup of the notification engine"):
        Archive(io.BytesIO(SAMPLE[:length]), "FILE")
    with pytest.raises(ConfigurationError, match="is not a backup"):
        Archive(io.BytesIO(b"PK\x03\x04" + SAMPLE), "FILE")


def test_every_truncation_is_refused() -> None:
    for length in range(len(MAGIC), len(SAMPLE)):
        with pytest.raises(ConfigurationError, match=r"FILE is (cut short|damaged: its header)"):
            read(SAMPLE[:length])


def test_what_follows_the_end_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="something follows its end"):
        read(SAMPLE + b"x")


def test_every_altered_byte_is_refused() -> None:
    for at in range(len(SAMPLE)):
        altered = bytearray(SAMPLE)
        altered[at] ^= 0x01
        with pytest.raises(ConfigurationError, match="FILE "):
            read(bytes(altered))


def test_an_altered_content_is_named_so() -> None:
    altered = bytearray(SAMPLE)
    altered[-TRAILER_BYTES - 10] ^= 0xFF
    with pytest.raises(ConfigurationError, match="does not match its checksum"):
        list(Archive(io.BytesIO(bytes(altered)), "FILE").check())


def test_a_newer_format_is_named_whatever_follows_it() -> None:
    text = json.dumps({"format": 2, "unknown": True}).encode()
    newer = MAGIC + struct.pack("<i", len(text)) + text + b"something new"
    with pytest.raises(ConfigurationError, match=r"has format 2, made by a newer engine; this one reads up to 1"):
        Archive(io.BytesIO(newer), "FILE")


@pytest.mark.parametrize(
    "header", [b"[]", b"{}", b"not json", b'{"format": 1}', b'{"format": "x"}', b'{"format": null}', b"\xff\xfe"]
)
def test_a_header_that_is_none_is_refused(header: bytes) -> None:
    with pytest.raises(ConfigurationError, match="its header cannot be read"):
        Archive(io.BytesIO(MAGIC + struct.pack("<i", len(header)) + header), "FILE")


def _content(change: Callable[[list[bytes]], list[bytes]]) -> bytes:
    """A file with a right checksum around a content that was put together wrongly."""
    file = io.BytesIO()
    writer = Writer(file, HEADER)
    head = file.getvalue()
    del writer
    parts = [
        bson.encode({"collection": "c"}),
        bson.encode({"_id": 1}),
        bytes(4),
        bson.encode({"counts": {"c": 1}}),
    ]
    return resigned(head + archive.zstd.compress(b"".join(change(parts))))


def test_the_same_content_put_together_rightly_is_read() -> None:
    assert read(_content(lambda parts: parts)) == {"c": [{"_id": 1}]}


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        (lambda p: p[:3], "ends too early"),
        (lambda p: p[:2], "ends too early"),
        (lambda p: [], "ends too early"),
        (lambda p: [p[0], p[1], p[1], *p[2:]], "its counts differ"),
        (lambda p: [p[0], p[2], p[3]], "its counts differ"),
        (lambda p: [p[0], struct.pack("<i", -1), *p[2:]], "there is no document where one belongs"),
        (lambda p: [p[0], struct.pack("<i", 2**31 - 1), *p[2:]], "there is no document where one belongs"),
        (lambda p: [struct.pack("<i", 9) + b"\x99abcd", *p[1:]], "there is no collection where one belongs"),
    ],
)
def test_a_content_put_together_wrongly_is_refused(change: Callable[[list[bytes]], list[bytes]], wrong: str) -> None:
    with pytest.raises(ConfigurationError, match=wrong):
        read(_content(change))


def test_a_content_that_is_not_compressed_is_refused() -> None:
    file = io.BytesIO()
    Writer(file, HEADER)
    with pytest.raises(ConfigurationError, match="cannot be decompressed"):
        read(resigned(file.getvalue() + b"plain text"))
