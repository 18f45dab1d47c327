"""`python -m tests.supply.secrets`: takes what detect-secrets finds now into the baseline. Look at each first.

The detectors that ask a vendor whether a find is alive are off: nothing leaves the machine.
"""

import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from detect_secrets.core.scan import scan_file
from detect_secrets.settings import transient_settings

ROOT = Path(__file__).parents[2]
BASELINE = ROOT / ".secrets.baseline"
PLUGINS: list[dict[str, Any]] = [
    {"name": "AWSKeyDetector"},
    {"name": "Base64HighEntropyString", "limit": 4.5},
    {"name": "BasicAuthDetector"},
    {"name": "GitHubTokenDetector"},
    {"name": "GitLabTokenDetector"},
    {"name": "HexHighEntropyString", "limit": 3.0},
    {"name": "JwtTokenDetector"},
    {"name": "KeywordDetector"},
    {"name": "OpenAIDetector"},
    {"name": "PrivateKeyDetector"},
    {"name": "PypiTokenDetector"},
    {"name": "SendGridDetector"},
    {"name": "SlackDetector"},
    {"name": "StripeDetector"},
    {"name": "TwilioKeyDetector"},
]
FILTERS = [f"detect_secrets.filters.{name}" for name in ("allowlist.is_line_allowlisted", "heuristic.is_lock_file")] + [
    f"detect_secrets.filters.heuristic.{name}"
    for name in (
        "is_indirect_reference",
        "is_likely_id_string",
        "is_not_alphanumeric_string",
        "is_potential_uuid",
        "is_prefixed_with_dollar_sign",
        "is_sequential_string",
        "is_swagger_file",
        "is_templated_secret",
    )
]


def tracked() -> list[Path]:
    """Every file of the repository that is text; also what is new and not yet committed, but not what is ignored."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    paths = [ROOT / line for line in listed.stdout.splitlines()]
    return [path for path in paths if path.is_file() and b"\x00" not in path.read_bytes()[:1024]]


def scan(paths: Iterable[Path]) -> dict[tuple[str, str], str]:
    """By file and hash: where it is, and what kind. Locked requirements are hashes from end to end, and not scanned."""
    with transient_settings({"plugins_used": PLUGINS, "filters_used": [{"path": path} for path in FILTERS]}):
        return {
            (name, found.secret_hash): f"{name}:{found.line_number} {found.type}"
            for path in paths
            if path != BASELINE and not (path.parent.name == "requirements" and path.suffix == ".txt")
            for name in [str(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path)]
            for found in scan_file(str(path))
        }


def known() -> set[tuple[str, str]]:
    return {(name, digest) for name, digests in json.loads(BASELINE.read_text()).items() for digest in digests}


if __name__ == "__main__":
    by_file: dict[str, list[str]] = {}
    for (name, digest), place in sorted(scan(tracked()).items()):
        if (name, digest) not in (known() if BASELINE.exists() else ()):
            print("new:", place)
        by_file.setdefault(name, []).append(digest)
    BASELINE.write_text(json.dumps(by_file, indent=1, sort_keys=True) + "\n")
    sys.exit(0)
