"""`python -m tests.supply.audit`: known faults of the packages that are shipped, as the vulnerability service tells.

It ends with 0 where all were looked up and none has a fault, 1 where one has, and 3 where the service did not answer
for every package: that is no finding, and says nothing of the packages.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

LOCKED = Path("requirements/run.txt")
CLEAN, FAULTY, UNASKED = 0, 1, 3
SECONDS = 60


def ask(path: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pip_audit", "-r", str(path), "--require-hashes", "--disable-pip"]
    command += ["--format", "json", "--progress-spinner", "off", "--timeout", "10"]
    return subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)


def judge(report: dict[str, Any] | None) -> tuple[int, list[str]]:
    """The exit status, and what to say."""
    if report is None:
        return UNASKED, ["The vulnerability service could not be reached: nothing was audited."]
    packages = report["dependencies"]
    faulty = [
        f"{p['name']} {p['version']}: {v['id']}, mended in {', '.join(v['fix_versions']) or 'no version yet'}"
        for p in packages
        for v in p.get("vulns", [])
    ]
    skipped = sorted(p["name"] for p in packages if "skip_reason" in p)
    asked = len(packages) - len(skipped)
    said = [*faulty, f"{asked} of {len(packages)} packages were looked up, {len(faulty)} faults are known."]
    if skipped:
        said.append(f"The vulnerability service did not answer for {len(skipped)}: {', '.join(skipped)}")
    return (FAULTY if faulty else UNASKED if skipped or not packages else CLEAN), said


def main() -> int:
    try:
        text = ask(LOCKED).stdout
        report = json.loads(text) if text.strip() else None
    except (subprocess.TimeoutExpired, json.JSONDecodeError):
        report = None
    code, said = judge(report)
    print(*said, sep="\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
