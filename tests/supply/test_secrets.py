"""No secret in any file of the repository, but for the made-up ones that the baseline knows by their hashes."""

from pathlib import Path

from tests.supply.secrets import known, scan, tracked


def test_no_file_holds_a_secret_that_was_not_looked_at() -> None:
    found = scan(tracked())
    new = sorted(place for key, place in found.items() if key not in known())
    assert new == [], "made up? then: make secrets"


def test_a_planted_secret_is_found(tmp_path: Path) -> None:
    planted = tmp_path / "settings.py"
    key = "AKIA" + "QYLPMN5HHHFPZAM2"
    planted.write_text(f'ACCESS = "{key}"\npassword = "{"tr0ub4dor" + "-and-3"}"\n')
    assert {place.rpartition(" ")[2] for place in scan([planted]).values()} >= {"Key", "Keyword"}
