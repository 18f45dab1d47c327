"""A real three-member replica set on loopback whose members can be killed, stopped and told to fail.

Invariant: every mongod that is started here is ended here, by its process id; its directory goes with the cluster.
"""

import asyncio
import ctypes
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pymongo import AsyncMongoClient
from pymongo.errors import OperationFailure, PyMongoError
from tests.chaos.wait import until

from notification_engine.storage.embedded import find_binary

Client = AsyncMongoClient[dict[str, Any]]
START_SECONDS = 60
ELECTION_MILLIS = 2000
_PARAMETERS = (
    "enableTestCommands=1",
    "diagnosticDataCollectionEnabled=false",
    "shutdownTimeoutMillisForSignaledShutdown=100",
)
_PR_SET_PDEATHSIG = 1


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def die_with_parent() -> None:
    """For `preexec_fn`: a suite that is killed leaves no server behind."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


@dataclass
class Member:
    index: int
    directory: Path
    port: int = field(default_factory=free_port)
    child: asyncio.subprocess.Process | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def alive(self) -> bool:
        return self.child is not None and self.child.returncode is None

    async def start(self) -> None:
        parameters = [word for parameter in _PARAMETERS for word in ("--setParameter", parameter)]
        self.child = await asyncio.create_subprocess_exec(
            *(str(find_binary(None)), "--dbpath", str(self.directory), "--bind_ip", "127.0.0.1"),
            *("--port", str(self.port), "--replSet", "chaos", "--oplogSize", "64", "--wiredTigerCacheSizeGB", "0.25"),
            *("--nounixsocket", "--networkMessageCompressors", "disabled"),
            *("--logpath", str(self.directory.parent / f"mongod-{self.index}.log"), "--logappend", *parameters),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=die_with_parent,
        )

    def signal(self, number: signal.Signals) -> None:
        assert self.child is not None
        self.child.send_signal(number)

    async def kill(self) -> None:
        if self.child is not None and self.child.returncode is None:
            self.child.kill()
            await self.child.wait()

    def client(self, **options: Any) -> Client:
        return AsyncMongoClient(self.address, directConnection=True, serverSelectionTimeoutMS=1000, **options)


class Cluster:
    """`limited_bytes`: the directory of the first member, which then has the highest priority, is a tmpfs so large."""

    def __init__(self, members: int = 3, *, limited_bytes: int | None = None) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="chaos-cluster-"))
        self.members = [Member(i, self.directory / f"member-{i}") for i in range(members)]
        self._limited_bytes = limited_bytes
        self._mounted: Path | None = None
        self._client: Client | None = None

    @property
    def url(self) -> str:
        return f"mongodb://{','.join(m.address for m in self.members)}/?replicaSet=chaos"

    @property
    def client(self) -> Client:
        assert self._client is not None, "the cluster is not started"
        return self._client

    async def start(self) -> None:
        for member in self.members:
            member.directory.mkdir()
        if self._limited_bytes is not None:
            self._mounted = self.members[0].directory
            await _run("mount", "-t", "tmpfs", "-o", f"size={self._limited_bytes}", "tmpfs", str(self._mounted))
        await asyncio.gather(*(member.start() for member in self.members))
        await asyncio.gather(*(self._answers(member) for member in self.members))
        configuration = {
            "_id": "chaos",
            "members": [
                {"_id": m.index, "host": m.address, "priority": 5 if self._limited_bytes and m.index == 0 else 1}
                for m in self.members
            ],
            "settings": {
                "electionTimeoutMillis": ELECTION_MILLIS,
                "heartbeatIntervalMillis": 500,
                "heartbeatTimeoutSecs": 2,
                "catchUpTimeoutMillis": 2000,
            },
        }
        async with self.members[0].client() as client:
            await client.admin.command("replSetInitiate", configuration)
        self._client = AsyncMongoClient(self.url, serverSelectionTimeoutMS=START_SECONDS * 1000, tz_aware=True)
        await self.whole()

    async def stop(self) -> None:
        if self._client is not None:
            await self._client.close()
        await asyncio.gather(*(member.kill() for member in self.members))
        if self._mounted is not None:
            await _run("umount", str(self._mounted))
        shutil.rmtree(self.directory)

    async def primary(self, seconds: float = START_SECONDS) -> Member:
        """The member that takes writes now; waits for one."""
        async with asyncio.timeout(seconds):
            while True:
                for member in self.members:
                    if member.alive and (await self._hello(member)).get("isWritablePrimary"):
                        return member
                await asyncio.sleep(0.05)

    async def whole(self, seconds: float = START_SECONDS) -> None:
        """Waits until every member is alive, one is primary and the others follow it without lag."""
        await until(self._is_whole, seconds, "a whole replica set")

    async def step_down(self) -> Member:
        """Makes the primary give way for ten seconds; answers who it was."""
        member = await self.primary()
        async with member.client() as client:
            try:
                await client.admin.command({"replSetStepDown": 10, "secondaryCatchUpPeriodSecs": 5, "force": True})
            except PyMongoError as error:
                if isinstance(error, OperationFailure):
                    raise
        return member

    async def kill_primary(self) -> Member:
        member = await self.primary()
        await member.kill()
        return member

    async def secondaries(self) -> list[Member]:
        primary = await self.primary()
        return [m for m in self.members if m.alive and m is not primary]

    async def restart(self, *members: Member) -> None:
        """Starts these again, and waits until the set is whole."""
        await asyncio.gather(*(member.start() for member in members))
        await asyncio.gather(*(self._answers(member) for member in members))
        await self.whole()

    @asynccontextmanager
    async def failing(
        self, commands: Sequence[str], mode: Any = "alwaysOn", *, member: Member | None = None, **data: Any
    ) -> AsyncIterator["Failing"]:
        """The `failCommand` fail point on the primary, for the engines alone (`appName`); off afterwards.

        `data`: closeConnection, errorCode, writeConcernError, blockConnection, blockTimeMS, namespace.
        """
        member = member or await self.primary()
        values = {"failCommands": list(commands), "appName": "notification-engine", **data}
        async with member.client() as client:
            failing = Failing()
            await client.admin.command({"configureFailPoint": "failCommand", "mode": mode, "data": values})
            try:
                yield failing
            finally:
                answer = await client.admin.command({"configureFailPoint": "failCommand", "mode": "off"})
                failing.met = int(answer["count"])

    async def _answers(self, member: Member) -> None:
        await until(lambda: self._hello(member), START_SECONDS, f"an answer of member {member.index}")

    async def _hello(self, member: Member) -> dict[str, Any]:
        async with member.client() as client:
            try:
                return dict(await client.admin.command("hello"))
            except PyMongoError:  # asked again by who waits
                return {}

    async def _is_whole(self) -> bool:
        try:
            status = await self.client.admin.command("replSetGetStatus")
        except PyMongoError:  # asked again until the time is over
            return False
        states = sorted(m["stateStr"] for m in status["members"])
        times = {m["optime"]["ts"].time for m in status["members"] if "optime" in m}
        expected = ["PRIMARY"] + ["SECONDARY"] * (len(self.members) - 1)
        return states == expected and max(times) - min(times) <= 2


async def _run(*words: str) -> None:
    child = await asyncio.create_subprocess_exec(*words)
    assert await child.wait() == 0, " ".join(words)


@dataclass
class Failing:
    """`met`: how often the fail point was met; known once it is off."""

    met: int = 0


@asynccontextmanager
async def cluster(members: int = 3, **options: Any) -> AsyncIterator[Cluster]:
    started = time.monotonic()
    made = Cluster(members, **options)
    try:
        await made.start()
        print(f"replica set of {members} after {time.monotonic() - started:.1f} s")
        yield made
    finally:
        await made.stop()
