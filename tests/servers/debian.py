"""Programs of Debian that tests run: installed when missing and this is root."""

import fcntl
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

PATH = f"{os.environ['PATH']}:/usr/sbin"
ONE_AT_A_TIME = Path(tempfile.gettempdir()) / "apt-get.lock"  # the tests run in several processes


def program(name: str, package: str) -> str:
    """Where it is. Without it the test cannot run, and fails saying so. Blocks for as long as an installation takes."""
    if found := shutil.which(name, path=PATH):
        return found
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        pytest.fail(f"{name} is not installed, and only root can install it: apt-get install {package}")
    with ONE_AT_A_TIME.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if shutil.which(name, path=PATH) is None:
            _install(package)
    return shutil.which(name, path=PATH) or pytest.fail(f"{package} brought no {name}")


def _install(package: str) -> None:
    quiet = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for words in (["update"], ["install", "-y", "--no-install-recommends", package]):
        ended = subprocess.run(["apt-get", *words], env=quiet, capture_output=True, text=True, check=False)
        if ended.returncode != 0:
            pytest.fail(f"{package} is not installed, and apt-get {' '.join(words)} failed:\n{ended.stderr}")
