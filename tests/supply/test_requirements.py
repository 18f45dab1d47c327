"""Every package is pinned with hashes, comes from nowhere in particular, and has a licence that we may ship."""

import importlib.metadata
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.supply.secrets import ROOT, tracked

REQUIREMENTS = ROOT / "requirements"
LOCKED = sorted(REQUIREMENTS.glob("*.txt"))
SHIPPED = ("engine.txt", "run.txt")
PIN = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)(\[[a-z0-9, -]+\])?==(?P<version>[^ ;]+)(?P<marker> ;.*)?$")
OPTION = re.compile(r"^-|^\S*(://|@ )")
INDEX = re.compile(
    r"--(extra-)?index-url|--find-links|--trusted-host|PIP_(EXTRA_)?INDEX_URL|UV_(EXTRA_)?(DEFAULT_)?INDEX\b"
    r"|files\.pythonhosted\.org|(?:\bpypi|\bregistry)\.[a-z0-9.-]+/(simple|packages|-/)|/simple/?[\"'\s]"
)
FREE = {
    "0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "MIT", "MIT-0", "MPL-2.0", "PSF-2.0", "Unlicense",
    "Zlib",
}  # fmt: skip
SPELLED = {  # how older metadata writes the same
    "apache 2": "Apache-2.0", "apache 2.0": "Apache-2.0", "apache": "Apache-2.0",
    "apache software license": "Apache-2.0",
    "mit license": "MIT", "isc license": "ISC", "isc license (iscl)": "ISC", "the unlicense (unlicense)": "Unlicense",
    "bsd license": "BSD-3-Clause", "3-clause bsd license": "BSD-3-Clause",
    "mozilla public license 2.0 (mpl 2.0)": "MPL-2.0",
    "python software foundation license": "PSF-2.0",
}  # fmt: skip
UNTOLD = {
    "mrml": "MIT",  # its metadata is silent; packages/mrml-python/Cargo.toml of its repository says so
    "python-dateutil": "Apache-2.0 OR BSD-3-Clause",  # "Dual License"
}


def pins(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Each requirement with its hashes."""
    for block in re.split(r"\n(?=\S)", path.read_text()):
        lines = [line.strip().removesuffix("\\").strip() for line in block.splitlines()]
        if lines and lines[0] and not lines[0].startswith("#"):
            yield lines[0], [line for line in lines[1:] if line and not line.startswith("#")]


def names(path: Path) -> list[str]:
    return [found["name"].lower() for line, _ in pins(path) if (found := PIN.match(line))]


@pytest.mark.parametrize("path", LOCKED, ids=lambda p: p.name)
def test_every_locked_requirement_has_a_version_and_hashes(path: Path) -> None:
    found = list(pins(path))
    assert len(found) > 5
    for line, hashes in found:
        assert PIN.match(line), f"{path.name}: {line}"
        assert not OPTION.search(line), f"{path.name}: {line}"
        assert hashes, f"{path.name}: {line} has no hash"
        assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", one) for one in hashes), f"{path.name}: {line}"


def test_the_package_needs_nothing_that_is_not_locked() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = {re.split(r"[\[ ;=]", one)[0].lower() for one in project["dependencies"]}
    assert needed <= set(names(REQUIREMENTS / "engine.txt"))
    assert needed <= set(names(REQUIREMENTS / "run.txt"))


def test_every_install_asks_for_the_hashes() -> None:
    lines = [line for line in (ROOT / "Makefile").read_text().splitlines() if re.search(r"INSTALL\) .*-r ", line)]
    assert len(lines) >= 2
    assert all("--require-hashes" in line for line in lines)


def test_no_file_names_where_packages_come_from() -> None:
    """A registry is the machine's business, and one in a file is how another is put in its place."""
    here = Path(__file__)
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in tracked()
        if path != here
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1)
        if INDEX.search(line)
    ]
    assert found == []


@pytest.mark.parametrize("text", ["--index-url x", "PIP_INDEX_URL=x", "from https://files.pythonhosted.org/packages/a"])
def test_a_registry_would_be_found(text: str) -> None:
    assert INDEX.search(text)


@pytest.mark.parametrize("name", sorted({name for file in SHIPPED for name in names(REQUIREMENTS / file)}))
def test_the_licence_of_every_shipped_package_is_free(name: str) -> None:
    try:
        told = licence(name)
    except importlib.metadata.PackageNotFoundError:
        assert ";" in next(line for line, _ in pins(REQUIREMENTS / "run.txt") if line.startswith(f"{name}=="))
        return  # of another platform
    assert told, f"{name} names no licence: look it up, and put it into UNTOLD"
    assert free(told), f"{name}: {told}"


def licence(name: str) -> str:
    """As an SPDX expression."""
    told = importlib.metadata.metadata(name)
    if name in UNTOLD:
        return UNTOLD[name]
    if expression := told.get("License-Expression"):
        return str(expression)
    text = str(told.get("License") or "").strip()
    if text and len(text) < 40:
        return SPELLED.get(text.lower(), text)
    rows = [c.rpartition("::")[2].strip() for c in told.get_all("Classifier") or [] if c.startswith("License ::")]
    return " AND ".join(SPELLED.get(row.lower(), row) for row in rows if row != "OSI Approved")


def free(expression: str) -> bool:
    """Every part of an AND, one part of an OR."""
    inner = re.sub(r"\(([^()]*)\)", lambda m: "MIT" if free(m[1]) else "none", expression)
    return all(any(one.strip() in FREE for one in part.split(" OR ")) for part in inner.split(" AND "))


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("MIT", True), ("MPL-2.0 AND (Apache-2.0 OR MIT)", True), ("GPL-3.0-only", False), ("AGPL-3.0-or-later", False),
        ("MIT OR GPL-2.0-only", True), ("MIT AND GPL-2.0-only", False), ("MIT AND (SSPL-1.0 OR GPL-2.0-only)", False),
    ],
)  # fmt: skip
def test_an_expression_is_free_when_every_needed_part_is(expression: str, expected: bool) -> None:
    assert free(expression) is expected
