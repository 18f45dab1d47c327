"""Three hosts on one machine: a network namespace each, joined by a bridge, with a member of one replica set in each.

Invariant: what is made here (namespaces, links, processes) is removed here; names hold this process's id, so that two
runs do not meet.
"""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pymongo import AsyncMongoClient
from pymongo.errors import PyMongoError

from notification_engine.storage.embedded import find_binary

MONGO_PORT = 27017
START_SECONDS = 60
Client = AsyncMongoClient[dict[str, Any]]


class NotPermitted(Exception):
    """This machine does not let the test make network namespaces; the text says why."""


async def run(*words: str) -> str:
    """Its standard output. Raises OSError with its standard error when it fails."""
    child = await asyncio.create_subprocess_exec(*words, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE)
    out, err = await child.communicate()
    if child.returncode:
        raise OSError(f"{' '.join(words)}: {err.decode().strip()}")
    return out.decode()


@dataclass
class Host:
    index: int
    address: str
    namespace: str
    link: str  # its end at the bridge
    mongod: asyncio.subprocess.Process | None = None

    @property
    def prefix(self) -> tuple[str, ...]:
        return ("ip", "netns", "exec", self.namespace)

    @property
    def member(self) -> str:
        return f"{self.address}:{MONGO_PORT}"

    async def cut(self) -> None:
        """As a pulled cable: packets are lost both ways, nobody is told."""
        await run("ip", "link", "set", self.link, "down")

    async def heal(self) -> None:
        await run("ip", "link", "set", self.link, "up")

    async def inside(self, *words: str) -> str:
        return await run(*self.prefix, *words)

    def client(self) -> Client:
        return AsyncMongoClient(
            self.member, directConnection=True, serverSelectionTimeoutMS=1000, connectTimeoutMS=1000
        )

    async def is_primary(self) -> bool:
        async with self.client() as client:
            try:
                return bool((await client.admin.command("hello")).get("isWritablePrimary"))
            except PyMongoError:  # cut off, or not up yet
                return False


@dataclass
class Hosts:
    every: list[Host]
    outside: str  # this process's own address on the bridge

    @property
    def url(self) -> str:
        return f"mongodb://{','.join(h.member for h in self.every)}/?replicaSet=hosts"

    async def primary(self, *, but: Host | None = None) -> Host:
        async with asyncio.timeout(START_SECONDS):
            while True:
                for host in self.every:
                    if host is not but and await host.is_primary():
                        return host
                await asyncio.sleep(0.1)

    async def whole(self) -> None:
        """Until one is primary and the others follow it."""
        expected = ["PRIMARY", "SECONDARY", "SECONDARY"]
        async with asyncio.timeout(START_SECONDS), AsyncMongoClient[Any](self.url) as client:
            while True:
                try:
                    status = await client.admin.command("replSetGetStatus")
                    if sorted(m["stateStr"] for m in status["members"]) == expected:
                        return
                except PyMongoError:
                    pass  # an election is under way: asked again
                await asyncio.sleep(0.2)


@asynccontextmanager
async def three_hosts(directory: Path) -> AsyncIterator[Hosts]:
    """Raises NotPermitted where namespaces cannot be made."""
    if shutil.which("ip") is None:
        raise NotPermitted("the program `ip` (iproute2) is not installed")
    mark = os.getpid() % 10_000
    net = f"10.77.{mark % 250}"
    async with AsyncExitStack() as stack:
        try:
            hosts = [await _namespace(stack, f"ne{mark}x{i}", f"{net}.{i + 1}", i) for i in range(3)]
            await _bridge(stack, f"ne{mark}br", f"{net}.254", hosts)
        except OSError as error:
            raise NotPermitted(str(error)) from None
        for host in hosts:
            await _start_mongod(stack, host, directory)
        made = Hosts(hosts, f"{net}.254")
        await _initiate(made)
        yield made


async def _namespace(stack: AsyncExitStack, name: str, address: str, index: int) -> Host:
    await run("ip", "netns", "add", name)
    stack.push_async_callback(
        run, "ip", "netns", "del", name
    )  # its end of the link goes with it, and so does the other
    await run("ip", "link", "add", f"{name}o", "type", "veth", "peer", "name", f"{name}i")
    await run("ip", "link", "set", f"{name}i", "netns", name)
    await run("ip", "-n", name, "addr", "add", f"{address}/24", "dev", f"{name}i")
    for device in (f"{name}i", "lo"):
        await run("ip", "-n", name, "link", "set", device, "up")
    return Host(index, address, name, f"{name}o")


async def _bridge(stack: AsyncExitStack, name: str, address: str, hosts: list[Host]) -> None:
    await run("ip", "link", "add", name, "type", "bridge")
    stack.push_async_callback(run, "ip", "link", "del", name)
    await run("ip", "addr", "add", f"{address}/24", "dev", name)
    await run("ip", "link", "set", name, "up")
    for host in hosts:
        await run("ip", "link", "set", host.link, "master", name, "up")


async def _start_mongod(stack: AsyncExitStack, host: Host, directory: Path) -> None:
    data = directory / f"member-{host.index}"
    data.mkdir()
    host.mongod = await asyncio.create_subprocess_exec(
        *(*host.prefix, str(find_binary(None)), "--dbpath", str(data), "--bind_ip", f"127.0.0.1,{host.address}"),
        *("--port", str(MONGO_PORT), "--replSet", "hosts", "--oplogSize", "64", "--wiredTigerCacheSizeGB", "0.25"),
        *("--nounixsocket", "--networkMessageCompressors", "disabled", "--logpath", str(data / "mongod.log")),
        *("--setParameter", "diagnosticDataCollectionEnabled=false"),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    stack.push_async_callback(_end, host.mongod)


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.kill()
        await process.wait()


async def _initiate(hosts: Hosts) -> None:
    members = [{"_id": h.index, "host": h.member} for h in hosts.every]
    times = {"electionTimeoutMillis": 2000, "heartbeatIntervalMillis": 500, "heartbeatTimeoutSecs": 2}
    configuration = {"_id": "hosts", "members": members, "settings": times}
    async with asyncio.timeout(START_SECONDS):
        while True:
            async with hosts.every[0].client() as client:
                try:
                    await client.admin.command("replSetInitiate", configuration)
                    break
                except PyMongoError:  # its mongod, or another's, does not listen yet
                    await asyncio.sleep(0.2)
    await hosts.whole()
