import csv
import io
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notification_engine.api.models.suppressions import COLUMNS, csv_line, export_row, parse_csv
from notification_engine.domain.errors import InvalidRequest
from notification_engine.domain.suppression import Suppression, SuppressionReason

notes = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), max_size=40).filter(str.isprintable)
locals_ = st.from_regex(r"['+=-]{0,3}[a-z0-9]{1,10}", fullmatch=True)


@given(st.lists(st.tuples(locals_, notes, st.sampled_from(list(SuppressionReason))), max_size=5))
def test_what_is_exported_is_read_again(rows: list[tuple[str, str, SuppressionReason]]) -> None:
    given_ = [Suppression(f"{name}@example.org", reason, "import", "op", note=note) for name, note, reason in rows]
    text = csv_line(COLUMNS) + "".join(export_row(s) for s in given_)
    for row in csv.reader(io.StringIO(text, newline="")):
        assert not [cell for cell in row if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]
    parsed = parse_csv(text.encode())
    assert parsed.errors == {}
    assert [(r.address, r.reason, r.note) for r in parsed.rows] == [
        (s.address, s.reason, s.note if s.note.strip() else "") for s in given_
    ]


@given(st.binary(max_size=80))
def test_no_file_raises_anything_but_a_refusal(body: bytes) -> None:
    with suppress(InvalidRequest):
        parsed = parse_csv(b"address,note\n" + body)
        assert all(row.address for row in parsed.rows)
        assert all(number > 1 for number in parsed.errors)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_are_counted_as_an_editor_counts_them(end: str) -> None:
    text = end.join(["address,note", "a@b.example,", "", '"bad","two', 'lines"', "worse,", "c@d.example,"])
    parsed = parse_csv(text.encode())
    assert sorted(parsed.errors) == [4, 6]
    assert [r.address for r in parsed.rows] == ["a@b.example", "c@d.example"]


def test_a_byte_order_mark_and_capitals_in_the_header_are_fine() -> None:
    assert [r.address for r in parse_csv("\ufeffAddress, Note\na@b.example,x\n".encode()).rows] == ["a@b.example"]
