"""One finding of the doctor: what was looked at, how it is, what was seen and what to do. Never holds a secret."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    name: str
    level: Level
    seen: str
    todo: str = ""

    def shown(self) -> dict[str, str]:
        return {"check": self.name, "level": self.level, "seen": self.seen, "todo": self.todo}


def ok(name: str, seen: str) -> Finding:
    return Finding(name, Level.OK, seen)


def warn(name: str, seen: str, todo: str) -> Finding:
    return Finding(name, Level.WARN, seen, todo)


def fail(name: str, seen: str, todo: str) -> Finding:
    return Finding(name, Level.FAIL, seen, todo)


def table(findings: Sequence[Finding]) -> str:
    """A line each; what to do stands below."""
    width = max(len(finding.name) for finding in findings)
    lines = []
    for finding in findings:
        lines.append(f"{finding.level:<4}  {finding.name:<{width}}  {finding.seen}")
        if finding.todo:
            lines.append(f"{'':<4}  {'':<{width}}  -> {finding.todo}")
    counts = {level: sum(finding.level is level for finding in findings) for level in Level}
    return "\n".join([*lines, "", ", ".join(f"{level} {count}" for level, count in counts.items())])
