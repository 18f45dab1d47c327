"""The database stops answering, or dies, and comes back: health still answers, nothing is promised, all recovers."""

import asyncio
import json
import os
import signal
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.integration.conftest import API, FAST, Running, message, serving, token
from tests.integration.health.test_health import PATHS, get, shown, until

from notification_engine.health import probe
from notification_engine.settings import Settings
from notification_engine.storage.embedded import EmbeddedMongod, find_binary


@pytest.fixture
async def own(tmp_path: Path) -> AsyncIterator[EmbeddedMongod]:
    """A database that the test may hurt."""
    server = EmbeddedMongod(tmp_path, find_binary(None))
    yield server
    if server.pid is not None:
        os.kill(server.pid, signal.SIGCONT)
    await server.stop()


@pytest.fixture
async def hurt(own: EmbeddedMongod) -> AsyncIterator[Running]:
    url = await own.start()
    settings = Settings(**(FAST | {"MONGODB_DATABASE": f"away_{uuid.uuid4().hex[:12]}", "EMAIL_PROVIDER": "console"}))
    async with serving(settings, url) as running:
        yield running


def stop(server: EmbeddedMongod, number: signal.Signals) -> None:
    assert server.pid is not None
    os.kill(server.pid, number)


async def revive(server: EmbeddedMongod, number: signal.Signals) -> None:
    if number is signal.SIGSTOP:
        stop(server, signal.SIGCONT)
        return
    await server.stop()
    await server.start()


@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGKILL], ids=["stopped", "killed"])
async def test_health_answers_without_a_database_and_recovers(
    hurt: Running, own: EmbeddedMongod, number: signal.Signals
) -> None:
    assert (await shown(hurt, "status"))["status"] == "healthy"
    stop(own, number)
    body = await until(hurt, "status", lambda s: s["database"]["status"] == "down")
    assert (body["status"], body["database"]["ping_ms"], body["ready"]) == ("degraded", None, True)
    for path in PATHS:
        status, _, text = await get(hurt, path)
        assert (status, bool(text)) == (200, True), path
    await revive(own, number)
    body = await until(hurt, "status", lambda s: s["status"] == "healthy")
    assert body["database"]["ping_ms"] > 0
    await hurt.accept(message())


async def test_readiness_waits_out_an_election(
    hurt: Running, own: EmbeddedMongod, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop(own, signal.SIGSTOP)
    body = await until(hurt, "status", lambda s: s["database"]["seconds_since_primary"] > 3)
    assert body["ready"] is True
    assert (await get(hurt, f"{API}/health/status"))[0] == 200
    monkeypatch.setattr(probe, "NOT_READY_AFTER_SECONDS", 3.0)
    status, _, text = await get(hurt, f"{API}/health/status")
    assert (status, json.loads(text)["ready"]) == (503, False)
    assert (await get(hurt, "/health"))[0] == 200, "a restart would not bring the database back"
    stop(own, signal.SIGCONT)
    await until(hurt, "status", lambda s: s["ready"])


def test_readiness_is_given_up_after_thirty_seconds() -> None:
    assert probe.NOT_READY_AFTER_SECONDS == 30


@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGKILL], ids=["stopped", "killed"])
async def test_nothing_is_promised_without_a_database(
    hurt: Running, own: EmbeddedMongod, number: signal.Signals
) -> None:
    """503 with Retry-After for everything that needs the store; the same key later counts once."""
    stop(own, number)
    headers = {"Authorization": f"Bearer {token()}", "Idempotency-Key": "once"}

    async def refused(method: str, path: str, body: object = None) -> None:
        address = f"{hurt.address}{API}{path}"
        async with hurt.session.request(method, address, json=body, headers=headers) as answer:
            assert answer.status == 503, path
            assert answer.content_type == "application/problem+json"
            assert int(answer.headers["Retry-After"]) >= 1
            problem = await answer.json(content_type=None)
        assert (problem["status"], problem["type"].rpartition(":")[2]) == (503, "unavailable")
        assert "mongodb://" not in problem["detail"]

    async with asyncio.timeout(60):
        await asyncio.gather(
            refused("POST", "", message("once")),
            refused("GET", ""),
            refused("GET", "/unread-count"),
            refused("GET", "/preferences"),
            refused("GET", "/history"),
            refused("GET", "/webhooks"),
            refused("POST", "/ws/ticket"),
            refused("GET", "/ntfy_01kb0c5s2m8v7k3r9x4w6y1z0a"),
        )
    await revive(own, number)
    await until(hurt, "status", lambda s: s["status"] == "healthy")
    sent = [await hurt.call("POST", "", message("once"), Idempotency_Key="once") for _ in range(2)]
    assert [status for status, _ in sent] == [202, 202]
    assert sent[0] == sent[1]
    assert await hurt.engine.database.collection("notifications").count_documents({}) == 1


async def test_figures_are_right_again_afterwards(hurt: Running, own: EmbeddedMongod) -> None:
    """What was cut off while the database stood still is not counted as in use or waiting for ever."""
    stop(own, signal.SIGSTOP)
    await asyncio.gather(*(shown(hurt, "status") for _ in range(60)))
    stop(own, signal.SIGCONT)
    await until(hurt, "status", lambda s: s["status"] == "healthy")
    body = await until(hurt, "status", lambda s: s["database"]["pool"]["in_use"] == 0)
    assert body["database"]["pool"]["waiting"] == 0
