"""What a server says of itself to who may connect: its version, its replica set, whether zlib is on."""

from dataclasses import dataclass
from typing import Any

from pymongo.errors import OperationFailure

from notification_engine.storage.connection import Database, translated

# Of each series the first version without CVE-2025-14847: a message compressed by zlib reads the server's memory,
# before any log-in. Older series have none.
_MENDED = {(4, 4): 30, (5, 0): 32, (6, 0): 27, (7, 0): 28, (8, 0): 17, (8, 2): 3}


@dataclass(frozen=True, slots=True)
class ServerState:
    """`members`: each member's state by its name; empty where we may not ask. `hosts`: how many there are."""

    version: str
    zlib: bool
    replica_set: str | None
    hosts: int
    members: dict[str, str]

    @property
    def leaks_by_zlib(self) -> bool:
        return self.zlib and not _mended(self.version)


def _mended(version: str) -> bool:
    major, minor, patch = (
        int("".join(c for c in part if c.isdigit()) or 0) for part in f"{version}.0.0".split(".")[:3]
    )
    if (major, minor) in _MENDED:
        return patch >= _MENDED[major, minor]
    return (major, minor) > max(_MENDED)


async def inspect_server(database: Database) -> ServerState:
    """Raises Unavailable."""
    with translated():
        build = await database.ask_server("buildInfo")
        # Asked with this list, the server answers those of it that it takes.
        hello = await database.ask_server("hello", compression=["zlib"])
        members = await _members(database) if hello.get("setName") else {}
    hosts = [*hello.get("hosts", []), *hello.get("passives", []), *hello.get("arbiters", [])]
    return ServerState(
        build["version"], "zlib" in hello.get("compression", []), hello.get("setName"), len(hosts), members
    )


async def _members(database: Database) -> dict[str, str]:
    try:
        status: dict[str, Any] = await database.ask_server("replSetGetStatus")
    except OperationFailure:  # it needs the role clusterMonitor, which the engine does not
        return {}
    return {member["name"]: member["stateStr"] for member in status["members"]}
