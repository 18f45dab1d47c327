"""`docs/guide-conformance.md` leaves nothing of the deployment guide out, and names only what is there."""

import re
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs/deployment-guide.md").read_text().splitlines()
PAGE = (ROOT / "docs/guide-conformance.md").read_text()
ROW = re.compile(
    r"^\| (?P<first>\d+)(?:-(?P<last>\d+))? \| (?P<asked>.*?) \| (?P<where>.*?) ?\| (?P<proof>.*?) ?\|$", re.M
)
TEST = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+))?`")
FILE = re.compile(r"`((?:src|docs|deploy|tests|bench)/[\w/.\-]+|(?:README|CONTRIBUTING)\.md|compose\.yaml)(?:::\w+)?`")
VARIABLE = re.compile(r"^([A-Z][A-Z0-9_]{3,}) ?=")
STRUCTURE = re.compile(r"^(```.*|---|# [^#].*|#!.*|//.*|[\[\]{}(),]+|\|[-|]+\|)?$")  # says nothing in a block


@dataclass(frozen=True)
class Row:
    first: int
    last: int
    asked: str
    where: str
    proof: str

    @property
    def printed(self) -> str:
        return "\n".join(GUIDE[self.first - 1 : self.last])


ROWS = [
    Row(int(m["first"]), int(m["last"] or m["first"]), m["asked"], m["where"], m["proof"]) for m in ROW.finditer(PAGE)
]


def heading(number: int) -> str | None:
    """Of that line, if it is one outside of a block of code."""
    fences = sum(line.startswith("```") for line in GUIDE[: number - 1])
    found = re.match(r"^#{1,6} (.+)$", GUIDE[number - 1])
    return found[1] if found and fences % 2 == 0 else None


def test_every_line_of_the_guide_has_a_row() -> None:
    covered = {n for row in ROWS for n in range(row.first, row.last + 1)}
    said = {n for n, line in enumerate(GUIDE, 1) if not STRUCTURE.match(line.strip()) or heading(n)}
    assert sorted(said - covered) == []
    assert max(covered) <= len(GUIDE)


def test_every_row_of_the_page_is_read() -> None:
    """A row in another form would prove nothing."""
    assert len(ROWS) == len(re.findall(r"^\| \d", PAGE, re.M))


def test_every_heading_is_named_in_its_row() -> None:
    for number, _ in enumerate(GUIDE, 1):
        if name := heading(number):
            assert any(r.first <= number <= r.last and f"**{name}**" in r.asked for r in ROWS), f"{number}: {name}"


def test_every_variable_is_named_in_its_row() -> None:
    found = [(n, m[1]) for n, line in enumerate(GUIDE, 1) if (m := VARIABLE.match(line.strip()))]
    assert len(found) > 60
    for number, name in found:
        rows = [r for r in ROWS if r.first <= number <= r.last]
        assert any(re.search(rf"\b{name}\b", r.asked) for r in rows) or name == "DATE", f"{number}: {name}"


def test_what_a_row_quotes_stands_in_its_lines() -> None:
    for row in ROWS:
        for quoted in re.findall(r"`([^`]+)`", row.asked):
            assert quoted in row.printed, f"{row.first}: {quoted}"


def test_every_test_that_is_named_is_there() -> None:
    named = TEST.findall(PAGE)
    assert len(named) > 120
    for path, name in named:
        assert (ROOT / path).is_file(), path
        assert not name or f"def {name}(" in (ROOT / path).read_text(), f"{path}::{name}"


@pytest.mark.parametrize("row", ROWS, ids=lambda row: str(row.first))
def test_every_file_that_is_named_is_there(row: Row) -> None:
    """But for those after a "not yet"."""
    there = re.split(r"\*\*not yet\*\*", row.where, flags=re.IGNORECASE)[0]
    for path in FILE.findall(there + row.proof):
        assert (ROOT / path).exists(), path


def test_a_row_is_proven_or_says_why_not() -> None:
    """Headings that gather others need no proof of their own; nothing else goes without."""
    for row in ROWS:
        gathers = row.asked.startswith("**") or not row.where
        assert row.proof or gathers or re.search(r"different|not yet|installation's", row.where, re.I), row.first
