"""Reads the runbooks: their headings, and the command blocks that are run, or carry the reason why they are not.

Invariant: a block is ```bash, and is run, or ```bash title="Not run: <reason>".
"""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
RUNBOOKS = ROOT / "docs/runbooks"
FENCE = re.compile(r"^(?P<indent> *)```(?P<info>[^\n`]*)\n(?P<body>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL)
NOT_RUN = re.compile(r'bash title="Not run: (?P<reason>[^"]+)"')


@dataclass(frozen=True)
class Block:
    page: str
    info: str
    script: str

    @property
    def runs(self) -> bool:
        return self.info == "bash"

    @property
    def reason(self) -> str | None:
        found = NOT_RUN.fullmatch(self.info)
        return found and found["reason"]


def pages() -> list[str]:
    return sorted(path.stem for path in RUNBOOKS.glob("*.md") if path.stem != "README")


def text(page: str) -> str:
    return (RUNBOOKS / f"{page}.md").read_text()


def blocks(page: str) -> list[Block]:
    found = FENCE.finditer(text(page))
    return [Block(page, one["info"].strip(), one["body"].replace(f"\n{one['indent']}", "\n")) for one in found]
