"""The search for canaries finds what is planted, in the way that the whole run is searched, and names no value."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.canaries import Watch, canary, found_in, logged

ROOT = Path(__file__).parents[2]
TOKEN = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhZGEifQ." + "c2lnbmF0dXJlLW9mLW5vYm9keQ"
PLANTED = {
    "token": f'{{"event": "bad token {TOKEN}"}}',
    "address": "550 5.1.1 <ada@example.org> unknown",
    "webhook secret": "whsec_" + "A" * 43 + "=",
    "ticket": "GET /ws?ticket=abcdefghijklmnopqrstuvwxyz",
    "private key": "-----BEGIN EC PRIVATE KEY-----",
    "password in an address": "mongodb://engine:hunter2@db:27017/?replicaSet=rs0",
    "signing-key": f"key {canary('signing-key')} refused",
}


@pytest.mark.parametrize(("name", "text"), PLANTED.items())
def test_what_is_planted_is_found_by_its_name(name: str, text: str) -> None:
    assert found_in(text) == {name}


@pytest.mark.parametrize(
    "text",
    [
        "user u1 at 127.0.0.1:8000", "mongodb://127.0.0.1:27017/?replicaSet=rs0", "from engine@example.org",
        "\n  ---- e-mail ----\n  To: ada@example.org\n\n  words\n  ----------------\n\n", "mongodb://********@db/x",
    ],
)  # fmt: skip
def test_what_is_no_secret_is_not_found(text: str) -> None:
    assert found_in(text) == set()


def test_an_address_with_escaped_signs_is_found() -> None:
    assert found_in("ada\\u0040example.org") == {"address"}


def test_only_log_lines_of_a_command_are_searched() -> None:
    lines = f'{TOKEN}\n{{"timestamp":"x","message":"{TOKEN}"}}\n2026-11-25T00:00:00Z [info   ] ada@example.org'
    assert found_in(logged(lines)) == {"token", "address"}
    assert found_in(logged(TOKEN)) == set()


def test_a_find_is_told_once_by_name_and_place_and_never_by_value() -> None:
    watch = Watch()
    for _ in range(2):
        watch.look("metrics", "test_x", f'a{{b="{canary("body")}"}} 1')
    assert list(watch.report()) == ["canary 'body' was seen in metrics of test_x"]


@pytest.mark.parametrize(
    ("body", "code", "workers"),
    [
        ("print(canary('planted'))", 1, 0),
        ("import logging; logging.getLogger('x').warning(canary('planted'))", 1, 0),
        ("import structlog; structlog.get_logger().info('x', key=canary('planted'))", 1, 0),
        ("import os; os.write(2, canary('planted').encode())", 1, 0),
        ("print(canary('planted'))", 1, 1),
        ("print('nothing')", 0, 1),
    ],
)
def test_a_run_that_shows_a_canary_fails_although_every_test_passed(
    tmp_path: Path, body: str, code: int, workers: int
) -> None:
    """Through pytest's own hooks, in a run of its own, with and without workers."""
    (tmp_path / "test_inner.py").write_text(f"from tests.canaries import canary\ndef test_inner():\n    {body}\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.canaries", "-p", "no:cacheprovider"]
    command += ["-n", str(workers)]
    command += ["--rootdir", str(tmp_path), "-c", os.devnull, str(tmp_path / "test_inner.py")]
    env = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST")} | {"PYTHONPATH": str(ROOT)}
    ended = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=100, check=False)
    assert (ended.returncode, "1 passed" in ended.stdout) == (code, True), ended.stdout + ended.stderr
    assert ("canary 'planted' was seen in captured" in ended.stdout) is (code == 1)
    assert canary("planted") not in ended.stdout
