"""Programs of Debian that the operator's files are for: installed when missing and this is root."""

import os
import shutil
import subprocess

import pytest

PATH = f"{os.environ['PATH']}:/usr/sbin"


def program(name: str, package: str) -> str:
    """Where it is. Without it the test cannot run, and fails saying so."""
    if found := shutil.which(name, path=PATH):
        return found
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        pytest.fail(f"{name} is not installed, and only root can install it: apt-get install {package}")
    quiet = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for words in (["update"], ["install", "-y", "--no-install-recommends", package]):
        if subprocess.run(["apt-get", *words], env=quiet, stdout=subprocess.DEVNULL, check=False).returncode != 0:
            pytest.fail(f"{name} is not installed, and apt-get {' '.join(words)} failed")
    return shutil.which(name, path=PATH) or pytest.fail(f"{package} brought no {name}")
