"""The documents point at each other: every relative link leads to a file, and to a heading of it."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "bench").rglob("*.md")]
LINK = re.compile(r"\]\((?!https?:|mailto:)([^)#\s]*)(?:#([^)\s]*))?\)")
FENCE = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)


def anchors(document: Path) -> set[str]:
    """As GitHub makes them from headings: lower case, no punctuation, hyphens for spaces."""
    headings = re.findall(r"^#{1,6} (.+)$", FENCE.sub("", document.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_somewhere(document: Path) -> None:
    for path, anchor in LINK.findall(FENCE.sub("", document.read_text())):
        target = (document.parent / path).resolve() if path else document
        assert target.exists(), f"{path} is not there"
        assert not anchor or anchor in anchors(target), f"{path} has no heading {anchor}"


PROOF = re.compile(r"`((?:[\w/]+)/test_\w+\.py)(?:::(test_\w+))?`")


def test_every_proof_of_the_security_table_is_there() -> None:
    proofs = PROOF.findall((ROOT / "docs" / "security.md").read_text())
    assert len(proofs) > 60
    for path, name in proofs:
        module = ROOT / "tests" / path
        assert module.exists(), f"{path} is not there"
        assert not name or f"def {name}(" in module.read_text(), f"{path} has no {name}"
