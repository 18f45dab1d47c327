"""Reads a Dockerfile and a `.dockerignore`: what this project's use of them needs, and refuses the rest."""

import json
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

KNOWN = re.compile("FROM|ARG|ENV|LABEL|WORKDIR|COPY|RUN|USER|EXPOSE|STOPSIGNAL|HEALTHCHECK|CMD")  # as `image.py` does
_FLAG = re.compile(r"--([a-z-]+)(?:=(\S*))?\s+")


@dataclass(frozen=True)
class Instruction:
    name: str
    flags: dict[str, str]
    text: str

    @property
    def words(self) -> list[str]:
        """The exec form as a list, the shell form as the words of a shell."""
        return list(json.loads(self.text)) if self.text.startswith("[") else shlex.split(self.text)

    @property
    def command(self) -> list[str]:
        """What a RUN, CMD or HEALTHCHECK executes."""
        return self.words if self.text.startswith("[") else ["/bin/sh", "-c", self.text]


def parse(path: Path) -> list[Instruction]:
    lines = [line for line in path.read_text().splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\s*\\\n\s*", " ", "\n".join(lines))
    return [_instruction(line.strip()) for line in joined.splitlines() if line.strip()]


def _instruction(line: str) -> Instruction:
    name, _, text = line.partition(" ")
    if not KNOWN.fullmatch(name):
        raise ValueError(f"{name} is no instruction that these tests can follow")
    flags: dict[str, str] = {}
    while match := _FLAG.match(text := text.strip()):
        flags[match[1]] = match[2] or ""
        text = text[match.end() :]
    return Instruction(name, flags, text)


class Ignore:
    """`.dockerignore`: the last pattern that matches a path, or a folder above it, decides."""

    def __init__(self, lines: Sequence[str]) -> None:
        rules = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
        self._rules = [(_expression(rule.removeprefix("!").strip("/")), rule.startswith("!")) for rule in rules]

    def ignores(self, path: str) -> bool:
        parts = PurePosixPath(path).parts
        prefixes = ["/".join(parts[: i + 1]) for i in range(len(parts))]
        ignored = False
        for expression, kept in self._rules:
            if any(expression.fullmatch(prefix) for prefix in prefixes):
                ignored = not kept
        return ignored


def _expression(pattern: str) -> re.Pattern[str]:
    words = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    parts = re.split(r"(\*\*/|\*\*|\*|\?|\[[^]]*\])", pattern)
    return re.compile("".join(words.get(p, p if p.startswith("[") else re.escape(p)) for p in parts))
