"""The processes of one machine under one supervisor: what each tells the others, in a directory of theirs.

Invariant: files are named by slot, not by pid. A process that takes a dead one's place goes on counting where that one
stopped, and the directory never grows.
"""

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from prometheus_client.multiprocess import mark_process_dead

SILENT_SECONDS = 10.0  # told every two: past this the process hangs, or its event loop does
Told = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Group:
    """`slot` is this process's place among `count`; `began` is the machine's monotonic clock when all of it started."""

    directory: Path
    slot: int
    count: int
    began: float

    def tell(self, state: str, figures: Mapping[str, Any]) -> Told:
        """What the others show of this process until it tells anew."""
        told = {"pid": os.getpid(), "state": state, "at": time.monotonic(), **figures}
        path = _file(self.directory, self.slot)
        fresh = path.with_suffix(".new")
        fresh.write_bytes(orjson.dumps(told, default=str))
        fresh.replace(path)  # at once: a reader sees the old one or the new one
        return told

    def told(self) -> Sequence[Told | None]:
        """By slot; None where no process lives."""
        return [_read(_file(self.directory, slot)) for slot in range(self.count)]


def forget(directory: Path, slot: int) -> None:
    """The process in that slot has died: its state and its gauges go, its counters stay."""
    _file(directory, slot).unlink(missing_ok=True)
    mark_process_dead(slot, str(directory))  # type: ignore[no-untyped-call]


def shown(slot: int, told: Told | None) -> dict[str, Any]:
    """A line of the answers' `processes`."""
    if told is None:
        return {"process": slot, "pid": None, "state": "down", "age_seconds": None}
    silent = time.monotonic() - told["at"] > SILENT_SECONDS
    state = "silent" if silent else told["state"]
    return {"process": slot, "pid": told["pid"], "state": state, "age_seconds": told["age_seconds"]}


def added(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Their sum, name by name: numbers are added, mappings likewise; of the rest true wins, else the first."""
    total: dict[str, Any] = {}
    for part in parts:
        for name, value in part.items():
            total[name] = _sum(total[name], value) if name in total else value
    return total


def _sum(one: Any, other: Any) -> Any:
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return added([one, other])
    if isinstance(one, bool) or isinstance(other, bool):
        return bool(one or other)
    if isinstance(one, int | float) and isinstance(other, int | float):
        return one + other
    return one


def _file(directory: Path, slot: int) -> Path:
    return directory / f"state_{slot}.json"


def _read(path: Path) -> Told | None:
    try:
        told: Told = orjson.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    return told
