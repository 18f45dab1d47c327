"""`serve --processes`: one port, one supervisor, figures of all, and an end that leaves nothing behind."""

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientError, ClientSession, TCPConnector
from prometheus_client.parser import text_string_to_metric_families
from tests.integration.cli.conftest import SECRET, SOURCE, Command, Run, alive, gone, mongod_of
from tests.integration.conftest import API, message, token
from tests.servers.receiver import Answer, Receiver

from notification_engine.storage.connection import Database

EMBEDDED = {
    "ENVIRONMENT": "development",
    "JWT_SECRET_KEY": SECRET,
    "WEBHOOK_HTTPS_ONLY": "false",
    "WEBHOOK_ALLOWED_NETWORKS": '["127.0.0.0/8"]',
    "DRAIN_DELAY_SECONDS": "0",
    "LOG_FORMAT": "console",
}


@dataclass
class Several:
    """`serve --processes`; every request opens a connection of its own, so that the kernel chooses anew."""

    command: Command
    api: ClientSession

    async def get(self, path: str) -> Any:
        async with self.api.get(f"{API}{path}", headers={"Accept": "application/json"}) as answer:
            assert answer.status == 200
            return await answer.json()

    async def accept(self, **fields: object) -> str:
        async with self.api.post(API, json=message("u1", **fields)) as answer:
            assert answer.status == 202
            return str((await answer.json())["notifications"][0]["notification_id"])

    async def metrics(self) -> dict[str, float]:
        """The sum over the labels, by name."""
        sums: Counter[str] = Counter()
        async with self.api.get("/metrics") as answer:
            for family in text_string_to_metric_families(await answer.text()):
                for sample in family.samples:
                    sums[sample.name] += sample.value
        return dict(sums)

    async def processes(self) -> list[dict[str, Any]]:
        return list((await self.get("/health/daemon"))["processes"])

    async def pids(self) -> list[int]:
        return [process["pid"] for process in await self.processes()]

    async def until(self, holds: Callable[[list[dict[str, Any]]], bool], seconds: float = 60) -> None:
        async with asyncio.timeout(seconds):
            while True:
                try:
                    if holds(await self.processes()):
                        return
                except ClientError:
                    pass  # met a process at its death: asked again
                await asyncio.sleep(0.05)


@asynccontextmanager
async def several(command: Run, *arguments: str, **environment: str) -> Any:
    running = await command("serve", "--port", "0", *arguments, **environment)
    address = (await running.until("The engine serves", 90)).partition("address=")[2].split()[0]
    headers = {"Authorization": f"Bearer {token()}"}
    async with ClientSession(address, headers=headers, connector=TCPConnector(force_close=True)) as session:
        yield Several(running, session)


async def at_least(count: int, figure: Callable[[], Awaitable[float]]) -> None:
    async with asyncio.timeout(30):
        while await figure() < count:  # noqa: ASYNC110 - it is counted in other processes
            await asyncio.sleep(0.05)


async def test_figures_are_the_sum_over_all_processes_and_outlive_them(command: Run) -> None:
    async with several(command, "--processes", "3", **EMBEDDED) as running:
        for _ in range(40):
            await running.accept()

        async def delivered() -> float:
            return (await running.metrics())["notification_deliveries_total"]

        await at_least(40, delivered)
        pids = await running.pids()
        assert len(set(pids)) == 3
        for _ in range(9):
            figures = await running.metrics()
            assert figures["notification_accepted_total"] == 40
            assert figures["notification_deliveries_total"] == 40
            kpis = (await running.get("/health/metrics"))["kpis"]
            assert (kpis["accepted"], kpis["ended"], kpis["success_rate"]) == (40, 40, 1.0)
        shown = await running.get("/health/metrics")
        assert shown["connections"]["max"] == 3000
        os.kill(pids[1], signal.SIGKILL)
        await running.until(lambda shown: shown[1]["pid"] != pids[1])
        assert (await running.metrics())["notification_accepted_total"] == 40
        await running.until(lambda shown: shown[1]["state"] == "serving")
        assert (await running.pids())[::2] == pids[::2], "the others went on"
        for _ in range(10):
            await running.accept()
        for _ in range(6):
            assert (await running.metrics())["notification_accepted_total"] == 50
            assert (await running.get("/health/metrics"))["kpis"]["accepted"] == 50


async def test_every_process_answers_on_the_one_port(command: Run, mongod: str) -> None:
    given = EMBEDDED | {"MONGODB_URL": mongod, "MONGODB_DATABASE": "several_port"}
    async with several(command, "--processes", "2", "--role", "api", **given) as running:
        own: set[int] = set()
        async with asyncio.timeout(30):
            while len(own) < 2:
                own.add((await running.get("/health/daemon"))["pid"])
        assert own == set(await running.pids())
        assert (await running.get("/health/daemon"))["status"] == "disabled"
        second = await command("serve", "--processes", "2", "--port", str(running.api._base_url.port), **given)
        refused = await second.ended(60)
        assert (refused.code, "--port" in refused.err) == (2, True), "an engine's port is not shared with another's"


async def test_sigterm_to_everybody_drains_all_and_leaves_nothing(
    command: Run, receiver: Receiver, tmp_path: Path
) -> None:
    """A service manager signals every process of the service; the supervisor's own signal is then a second one."""
    async with several(command, "--processes", "2", **EMBEDDED) as running:
        async with running.api.post(
            f"{API}/webhooks", json={"url": f"{receiver.address}/a", "notification_types": ["*"]}
        ) as answer:
            receiver.secrets["/a"] = (await answer.json())["secret"]
        receiver.answers.append(Answer(delay_seconds=2))
        in_flight = await running.accept(channels=["webhook"])
        await receiver.received(1)
        pids, mongod = await running.pids(), mongod_of(tmp_path)
        for pid in pids:
            os.kill(pid, signal.SIGTERM)
        ended = await running.command.signalled(signal.SIGTERM, 60)
    assert (ended.code, ended.err) == (0, ""), ended.out
    assert "Traceback" not in ended.out
    assert not any(alive(pid) for pid in [*pids, mongod])
    async with several(command, "--processes", "2", **EMBEDDED) as again:
        assert (await again.get(f"/{in_flight}"))["status"] == "delivered"
        assert len(receiver.calls) == 1


async def test_a_second_signal_ends_all_at_once(command: Run, receiver: Receiver, tmp_path: Path) -> None:
    async with several(command, "--processes", "2", **EMBEDDED | {"DRAIN_DELAY_SECONDS": "600"}) as running:
        pids, mongod = await running.pids(), mongod_of(tmp_path)
        running.command.process.send_signal(signal.SIGINT)
        await running.until(lambda shown: all(p["state"] == "draining" for p in shown))
        ended = await running.command.signalled(signal.SIGINT)
    assert ended.code == 130
    assert not any(alive(pid) for pid in [*pids, mongod])


async def test_children_and_database_end_with_their_supervisor(command: Run, tmp_path: Path) -> None:
    async with several(command, "--processes", "2", **EMBEDDED) as running:
        pids, mongod = await running.pids(), mongod_of(tmp_path)
        running.command.process.kill()
        for pid in [*pids, mongod]:
            await gone(pid)


async def test_a_dead_child_frees_nobody_elses_lease(command: Run, receiver: Receiver, tmp_path: Path) -> None:
    async with several(command, "--processes", "2", **EMBEDDED) as running:
        async with running.api.post(
            f"{API}/webhooks", json={"url": f"{receiver.address}/a", "notification_types": ["*"]}
        ) as answer:
            receiver.secrets["/a"] = (await answer.json())["secret"]
        receiver.answers.append(Answer(delay_seconds=20))
        in_flight = await running.accept(channels=["webhook"])
        await receiver.received(1)
        port = (tmp_path / "var/mongodb/port").read_text()
        database = Database(f"mongodb://127.0.0.1:{port}/?replicaSet=rs0", "intellibrowse", pool_size=1)
        before = await database.collection("notifications").find_one({"_id": in_flight})
        assert before is not None
        owner = int(before["lease"]["owner"].split("-")[-2])
        pids = await running.pids()
        other = pids.index(next(pid for pid in pids if pid != owner))
        os.kill(pids[other], signal.SIGKILL)
        await running.until(lambda shown: shown[other]["pid"] not in {None, pids[other]})
        after = await database.collection("notifications").find_one({"_id": in_flight})
        assert after is not None
        assert (after["lease"]["fence"], after["lease"]["owner"]) == (1, before["lease"]["owner"])
        await database.close()


@pytest.fixture
def dying(tmp_path: Path) -> Callable[[str], dict[str, str]]:
    """An environment in which the interpreter of a child ends before it runs anything."""

    def make(condition: str) -> dict[str, str]:
        library = tmp_path / "library"
        library.mkdir()
        line = f"import os, sys\nif 'child' in sys.orig_argv and {condition}:\n    os._exit(7)\n"
        (library / "sitecustomize.py").write_text(line)
        return {"PYTHONPATH": f"{library}{os.pathsep}{SOURCE}"}

    return make


async def test_children_that_die_at_their_start_end_the_whole(
    command: Run, mongod: str, dying: Callable[[str], dict[str, str]]
) -> None:
    given = EMBEDDED | {"MONGODB_URL": mongod, "MONGODB_DATABASE": "several_dying"}
    ended = await (await command("serve", "--port", "0", "--processes", "3", **given, **dying("True"))).ended(60)
    assert ended.code == 1
    assert "Processes die at their start and none serves" in ended.out
    assert ended.out.count("A process died") == 3


async def test_one_that_cannot_start_again_leaves_the_others_serving(
    command: Run, mongod: str, dying: Callable[[str], dict[str, str]], tmp_path: Path
) -> None:
    given = EMBEDDED | {"MONGODB_URL": mongod, "MONGODB_DATABASE": "several_one"}
    mark = tmp_path / "no-more"
    async with several(command, "--processes", "2", **given, **dying(f"os.path.exists({str(mark)!r})")) as running:
        pids = await running.pids()
        mark.touch()
        os.kill(pids[0], signal.SIGKILL)
        for _ in range(4):
            await running.command.until("A process died", 60)
        shown = await running.processes()
        assert [(p["state"], p["pid"]) for p in shown] == [("down", None), ("serving", pids[1])]
        mark.unlink()
        await running.until(lambda shown: all(p["state"] == "serving" for p in shown))
        ended = await running.command.signalled(signal.SIGTERM, 60)
        assert ended.code == 0


async def test_what_is_wrong_is_said_once(command: Run) -> None:
    nowhere = "mongodb://127.0.0.1:1/?replicaSet=rs0&serverSelectionTimeoutMS=200"
    given = EMBEDDED | {"MONGODB_URL": nowhere}
    ended = await (await command("serve", "--port", "0", "--processes", "3", **given)).ended(90)
    assert ended.code == 2
    assert ended.err.count("MONGODB_URL") == 1
