"""The commands that operators are told to give exist: the engine's, with their options, and the targets of make."""

import os
import re
import shlex
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest
import typer.main

from notification_engine.cli.main import app

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "docs" / name for name in ("maintenance.md", "upgrades.md", "backup.md", "secrets.md")]
ENGINE = re.compile(r"notification-engine ((?:[a-z]+-?)+[^`\n|]*)")
MAKE = re.compile(r"`make ([a-z]+)")


def commands(text: str) -> list[list[str]]:
    """The words behind each `notification-engine`, up to a comment or the end of the command."""
    found = []
    for given in ENGINE.findall(text):
        plain = re.sub(r"\$\([^()]*(\([^()]*\))?[^()]*\)", "X", given).replace('"', " ").replace("'", " ")
        words = shlex.split(re.split(r"\s#|\s>|;|,|\)|  ", plain)[0], comments=False)
        found.append(words)
    return found


def check(words: list[str]) -> None:
    """Raises AssertionError for a command or an option that is not there."""
    command: Any = typer.main.get_command(app)
    rest = list(words)
    while hasattr(command, "commands"):
        name = rest.pop(0)
        assert name in command.commands, f"{' '.join(words)}: no command {name}"
        command = command.commands[name]
    known = {option for parameter in command.params for option in parameter.opts}
    for word in rest:
        assert not word.startswith("--") or word.partition("=")[0] in known, f"{' '.join(words)}: no option {word}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_of_the_page_exists(page: Path) -> None:
    found = commands(page.read_text())
    assert found
    for words in found:
        check(words)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_target_of_make_exists(page: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(MAKE.findall(page.read_text())) <= targets


@pytest.mark.parametrize("wrong", [["heal"], ["doctor", "--cure"], ["keys", "forge"], ["init-db", "--dry"]])
def test_a_command_that_does_not_exist_is_found(wrong: list[str]) -> None:
    with pytest.raises(AssertionError, match=wrong[-1]):
        check(wrong)


def test_the_archives_are_made_and_the_old_ones_removed(tmp_path: Path) -> None:
    """The lines as they stand, with the folders of the page below the test's own."""
    section = (ROOT / "docs" / "maintenance.md").read_text().partition("## Archives")[2].partition("\n## ")[0]
    script = section.partition("```bash\n")[2].partition("```")[0]
    for folder in ("/backups", "/var/log/intellibrowse"):
        assert folder in script
        script = script.replace(folder, f"{tmp_path}{folder}")
        (tmp_path / folder[1:]).mkdir(parents=True)
    for name in ("deploy/compose/engine.env", "ssl/tls.crt", ".env", "compose.yaml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    old, other = tmp_path / "backups/logs_20200101.tar.gz", tmp_path / "backups/notifications_20200101.backup"
    for path in (old, other):
        path.write_text("old")
        os.utime(path, (0, 0))
    subprocess.run(["bash", "-euc", script], cwd=tmp_path, check=True, capture_output=True, timeout=30)
    made = {path.name.partition("_")[0]: path for path in (tmp_path / "backups").glob("*.tar.gz")}
    assert made.keys() == {"config", "tls", "logs"}
    assert not old.exists()
    assert other.exists()
    with tarfile.open(made["config"]) as archive:
        assert {".env", "deploy/compose/engine.env", "compose.yaml"} <= set(archive.getnames())


def test_the_lists_of_the_guide_are_there() -> None:
    text = (ROOT / "docs" / "maintenance.md").read_text()
    guide = (
        (ROOT / "docs" / "deployment-guide.md").read_text().partition("### Regular Maintenance")[2].partition("###")[0]
    )
    periods = {"Weekly": "week", "Monthly": "month", "Quarterly": "quarter", "Annual": "year"}
    asked = re.findall(r"^- (\w+) ", guide, re.MULTILINE)
    assert asked == list(periods)
    for period in asked:
        section = text.partition(f"## Every {periods[period]}")[2].partition("\n## ")[0]
        assert section.count("| `") + section.count("`notification-engine") > 3, period
