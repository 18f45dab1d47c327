"""What the audit says of the service's answers, and that the bill of materials is whole and the same each time."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.supply.audit import CLEAN, FAULTY, UNASKED, judge
from tests.supply.secrets import ROOT
from tests.supply.test_requirements import names

GOOD = {"name": "a", "version": "1", "vulns": []}
BAD = {"name": "b", "version": "1", "vulns": [{"id": "CVE-2026-1", "fix_versions": ["2"]}]}
SKIPPED = {"name": "c", "skip_reason": "not found"}


@pytest.mark.parametrize(
    ("report", "code"),
    [
        ({"dependencies": [GOOD]}, CLEAN),
        ({"dependencies": [GOOD, BAD]}, FAULTY),
        ({"dependencies": [BAD, SKIPPED]}, FAULTY),
        ({"dependencies": [GOOD, SKIPPED]}, UNASKED),
        ({"dependencies": []}, UNASKED),
        (None, UNASKED),
    ],
)
def test_what_was_not_asked_is_neither_clean_nor_faulty(report: dict[str, Any] | None, code: int) -> None:
    found, said = judge(report)
    assert found == code
    assert said


def test_a_known_fault_is_named_with_its_mend() -> None:
    assert judge({"dependencies": [BAD]})[1][0] == "b 1: CVE-2026-1, mended in 2"


def sbom(path: Path) -> bytes:
    recipe = next(line for line in (ROOT / "Makefile").read_text().splitlines() if "cyclonedx-py" in line)
    arguments = recipe.strip().removeprefix("$(BIN)/cyclonedx-py ").replace("var/sbom.json", str(path)).split()
    command = [str(Path(sys.executable).parent / "cyclonedx-py"), *arguments]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=100)
    return path.read_bytes()


def test_the_bill_of_materials_names_every_shipped_package_and_is_the_same_each_time(tmp_path: Path) -> None:
    one, two = sbom(tmp_path / "one.json"), sbom(tmp_path / "two.json")
    assert one == two
    bill = json.loads(one)
    assert {part["name"].lower() for part in bill["components"]} == set(names(ROOT / "requirements/run.txt"))
    assert all(part["version"] for part in bill["components"])
    assert bill["metadata"]["component"]["name"] == "notification-engine"
