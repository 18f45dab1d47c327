"""Engine processes beside each other on one database: started, killed, asked for their figures.

Invariant: every process that is started here is ended here, by its process id.
"""

import asyncio
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
from aiohttp import ClientError, ClientSession
from prometheus_client.parser import text_string_to_metric_families
from tests.canaries import here, logged, watch
from tests.integration.conftest import API, SECRET, token
from tests.servers.receiver import Receiver

import notification_engine
from notification_engine.cli.server import bind
from notification_engine.storage.connection import Database

SOURCE = Path(notification_engine.__file__).parents[1]
LEASE_SECONDS = 3
SETTINGS = {
    "ENVIRONMENT": "development",
    "JWT_SECRET_KEY": SECRET,
    "WEBHOOK_HTTPS_ONLY": "false",
    "WEBHOOK_ALLOWED_NETWORKS": '["127.0.0.0/8", "10.0.0.0/8"]',
    "DRAIN_DELAY_SECONDS": "0",
    "LEASE_SECONDS": str(LEASE_SECONDS),
    "WEBHOOK_RETRY_DELAY_SECONDS": "0.2",
}
Figures = dict[tuple[str, ...], float]  # a name and the values of its labels


def free_port() -> int:
    with bind("127.0.0.1", 0) as probe:
        return int(probe.getsockname()[1])


@dataclass
class Replica:
    """One `serve`, on a port that stays its own over restarts. `prefix`: the words that start it elsewhere."""

    name: str
    directory: Path
    settings: dict[str, str]
    role: str = "all"
    host: str = "127.0.0.1"
    prefix: Sequence[str] = ()
    port: int = field(default_factory=free_port)
    process: asyncio.subprocess.Process | None = None

    @property
    def address(self) -> str:
        return f"http://{self.host}:{self.port}"

    async def start(self) -> "Replica":
        with (self.directory / f"{self.name}.log").open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *(*self.prefix, sys.executable, "-m", "notification_engine.cli.main", "serve", "--role", self.role),
                *("--host", self.host, "--port", str(self.port)),
                cwd=self.directory,
                env={"PATH": os.environ["PATH"], "HOME": str(self.directory), "PYTHONPATH": str(SOURCE)}
                | SETTINGS
                | self.settings,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        return self

    async def serving(self, session: ClientSession, seconds: float = 60) -> None:
        async with asyncio.timeout(seconds):
            while True:
                assert self.process is not None
                assert self.process.returncode is None, self.log()
                try:
                    async with session.get(f"{self.address}{API}/health/status") as answer:
                        if answer.status == 200:
                            return
                except ClientError:
                    pass  # not listening yet: asked again until the time is over
                await asyncio.sleep(0.02)

    async def figures(self, session: ClientSession) -> Figures:
        async with session.get(f"{self.address}/metrics") as answer:
            families = text_string_to_metric_families(await answer.text())
        return {(s.name, *(v for _, v in sorted(s.labels.items()))): s.value for f in families for s in f.samples}

    async def ended(self, deliveries: str, session: ClientSession) -> float:
        """How many deliveries of that channel this process has brought to their end."""
        found = await self.figures(session)
        return sum(v for k, v in found.items() if k[:2] == ("notification_deliveries_total", deliveries))

    async def terminate(self, seconds: float = 60) -> int:
        """SIGTERM; the exit code after its drain."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(seconds):
            return await self.process.wait()

    async def kill(self) -> None:
        if self.process is not None and self.process.returncode is None:
            self.process.kill()
            await self.process.wait()
        log = self.directory / f"{self.name}.log"
        if log.exists():
            watch.look("log of a replica", here(), logged(log.read_text(errors="replace")))

    def delivered(self) -> list[str]:
        """The notifications that this process delivered, in the order of its log."""
        lines = (self.directory / f"{self.name}.log").read_bytes().splitlines()
        return [
            orjson.loads(one)["notification_id"] for one in lines if b'"Notification delivered successfully"' in one
        ]

    def log(self) -> str:
        return (self.directory / f"{self.name}.log").read_text()[-4000:]


@dataclass
class Fleet:
    """Replicas on one database, and a session to ask them."""

    directory: Path
    settings: dict[str, str]
    session: ClientSession
    replicas: list[Replica] = field(default_factory=list)

    async def start(self, *roles: str, **settings: str) -> list[Replica]:
        """One for each role, all at once; all serve when it returns."""
        begun = [
            Replica(f"{role}-{len(self.replicas) + i}", self.directory, self.settings | settings, role)
            for i, role in enumerate(roles)
        ]
        self.replicas += begun
        for replica in begun:
            await replica.start()
        for replica in begun:
            await replica.serving(self.session)
        return begun

    async def stop(self) -> None:
        for replica in self.replicas:
            await replica.kill()


def bearer() -> dict[str, str]:
    return {"Authorization": f"Bearer {token(minutes=30)}"}


async def accept(session: ClientSession, replica: Replica, body: dict[str, Any]) -> list[str]:
    async with session.post(f"{replica.address}{API}", json=body, headers=bearer()) as answer:
        told = await answer.json()
        assert answer.status == 202, told
        return [n["notification_id"] for n in told["notifications"]]


async def endpoint(fleet: Fleet, api: Replica, receiver: Receiver, *types: str) -> None:
    """Its signatures are verified: the receiver reads no event of a path without a secret."""
    body = {"url": f"{receiver.address}/hook", "notification_types": types or ["*"]}
    async with fleet.session.post(f"{api.address}{API}/webhooks", json=body, headers=bearer()) as answer:
        assert answer.status == 201, await answer.text()
        receiver.secrets["/hook"] = (await answer.json())["secret"]


async def open_ones(fleet: Fleet) -> int:
    """Notifications with anything left to do."""
    database = Database(fleet.settings["MONGODB_URL"], fleet.settings["MONGODB_DATABASE"], pool_size=1)
    try:
        return await database.collection("notifications").count_documents({"due_at": {"$exists": True}})
    finally:
        await database.close()


async def until(holds: Callable[[], Awaitable[bool]], seconds: float, what: str) -> float:
    """How long it took. Fails with the words when the time is over."""
    began = time.monotonic()
    while not await holds():
        assert time.monotonic() - began < seconds, f"not within {seconds} s: {what}"
        await asyncio.sleep(0.02)
    return time.monotonic() - began


def lost_share(figures: Sequence[Figures]) -> float:
    """Of all that the sweeps tried to claim, what another daemon had claimed meanwhile."""
    sums: Counter[str] = Counter()
    for one in figures:
        for outcome in ("claimed", "lost"):
            sums[outcome] += one.get(("notification_claim_candidates_total", outcome), 0.0)
    return sums["lost"] / max(1.0, sums.total())
