"""Health: open to probes, free of personal data, measured and not made up."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from aiohttp import ClientSession
from prometheus_client.parser import text_string_to_metric_families
from tests.integration.conftest import API, Running, Start, message, token
from tests.servers.receiver import Answer, Receiver

from notification_engine.domain.caller import Role
from notification_engine.wiring import EngineRole

PATHS = [
    "/health",
    "/metrics",
    f"{API}/health/status",
    f"{API}/health/metrics",
    f"{API}/health/daemon",
    f"{API}/health/channels",
]
PROMETHEUS = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)


async def get(running: Running, path: str, **headers: str) -> tuple[int, str, str]:
    """Without a token: status, content type, text."""
    async with ClientSession() as probe, probe.get(running.address + path, headers=headers) as answer:
        return answer.status, answer.content_type, await answer.text()


async def shown(running: Running, path: str) -> dict[str, Any]:
    return dict(json.loads((await get(running, f"{API}/health/{path}"))[2]))


async def until(running: Running, path: str, met: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """Asked until it is so: figures are measured in the background."""
    body: dict[str, Any] = {}
    try:
        async with asyncio.timeout(15):
            while not met(body := await shown(running, path)):  # noqa: ASYNC110 - it is the answer that changes
                await asyncio.sleep(0.05)
    except TimeoutError:
        pytest.fail(f"never so: {body}")
    return body


def samples(text: str) -> dict[str, float]:
    """By name and labels, as a scraper reads it."""
    return {
        s.name + "".join(f",{v}" for _, v in sorted(s.labels.items())): s.value
        for family in text_string_to_metric_families(text)
        for s in family.samples
    }


@pytest.mark.parametrize("path", PATHS)
async def test_a_probe_needs_no_token_and_sees_nobody(running: Running, path: str) -> None:
    await running.settled(await running.accept(message("someone", channels=["in_app", "email"], title="Private")))
    status, _, text = await get(running, path)
    assert status == 200
    for personal in ("someone", "example.org", "Private", "ntfy_", "127.0.0.1"):
        assert personal not in text


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("*/*", "application/json"),
        ("", "application/json"),
        ("application/json", "application/json"),
        ("text/html,application/xhtml+xml,*/*;q=0.8", "application/json"),
        ("application/json, text/plain, */*", "application/json"),
        (PROMETHEUS, "text/plain"),
        (
            "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1",
            "text/plain",
        ),
        ("text/plain", "text/plain"),
        ("text/plain;version=0.0.4", "text/plain"),
        ("application/json;q=0.2, text/plain;q=0.9", "text/plain"),
    ],
)
async def test_figures_come_as_text_to_a_scraper_and_as_json_to_others(shared: Running, accept: str, kind: str) -> None:
    status, found, text = await get(shared, f"{API}/health/metrics", Accept=accept)
    assert (status, found) == (200, kind)
    if kind == "text/plain":
        assert samples(text)
    else:
        assert json.loads(text)["kpis"]
    status, found, text = await get(shared, "/metrics", Accept=accept)
    assert (status, found) == (200, "text/plain")
    assert samples(text)


async def test_every_metric_has_the_engines_prefix(shared: Running) -> None:
    text = (await get(shared, "/metrics"))[2]
    assert {name for name in samples(text) if not name.startswith("notification_")} == set()


async def test_counters_count_what_was_done(running: Running, receiver: Receiver) -> None:
    await running.register(f"{receiver.address}/a")
    receiver.answers.append(Answer(404))
    for _ in range(2):
        await running.settled(await running.accept(message(channels=["in_app", "webhook", "email"])))
    figures = samples((await get(running, "/metrics"))[2])
    assert figures["notification_accepted_total"] == 2
    assert figures["notification_attempts_total,webhook,webhook,refused,failed"] == 1
    assert figures["notification_attempts_total,webhook,webhook,,delivered"] == 1
    assert figures["notification_deliveries_total,in_app,,delivered"] == 2
    assert figures["notification_deliveries_total,email,,accepted"] == 2
    assert figures["notification_attempt_seconds_count,webhook,webhook"] == 2
    kpis = (await shown(running, "metrics"))["kpis"]
    assert (kpis["accepted"], kpis["ended"]) == (2, 6)
    assert kpis["success_rate"] == pytest.approx(5 / 6)
    assert kpis["error_rate"] == pytest.approx(1 / 6)
    assert kpis["average_delivery_ms"] > 0


async def test_the_queue_is_measured(start: Start) -> None:
    """A process that only serves the API leaves its work due; one that delivers takes it."""
    api = await start(EngineRole.API)
    assert (await shown(api, "status"))["queue"]["waiting"] == 0
    for number in range(7):
        await api.accept(message(f"u{number}", channels=["email"]))
    waiting = await until(api, "status", lambda s: s["queue"]["waiting"] == 7)
    assert waiting["queue"]["due"] == 7
    older = await until(api, "status", lambda s: s["queue"]["oldest_due_ms"] > waiting["queue"]["oldest_due_ms"])
    assert older["queue"]["age_seconds"] < 10
    assert samples((await get(api, "/metrics"))[2])["notification_state,queue_waiting"] == 7
    await start(EngineRole.DAEMON)
    await until(api, "status", lambda s: s["queue"]["waiting"] == 0)


async def test_lanes_and_leases_are_measured(running: Running, receiver: Receiver) -> None:
    await running.register(f"{receiver.address}/a")
    release = asyncio.Event()
    receiver.answers.extend([Answer(held=release)] * 3)
    size = running.engine.settings.NOTIFICATION_QUEUE_SIZE
    idle = await until(running, "daemon", lambda d: d["room"] == size)  # a claim under way keeps room for what it finds
    assert (idle["lanes"]["webhook"]["in_flight"], idle["leases_held"]) == (0, 0)
    ids = [await running.accept(message(channels=["webhook"])) for _ in range(3)]
    await receiver.received(1)
    busy = await until(running, "daemon", lambda d: d["room"] == size - 3)
    lane = busy["lanes"]["webhook"]
    assert lane["in_flight"] >= 1
    assert lane["in_flight"] + lane["queued"] == 3
    assert busy["leases_held"] == 3
    assert (await shown(running, "channels"))["webhook"]["lane"] == lane
    assert samples((await get(running, "/metrics"))[2])["notification_state,lane_webhook_in_flight"] >= 1
    release.set()
    for notification_id in ids:
        await running.settled(notification_id)
    await until(running, "daemon", lambda d: d["leases_held"] == 0 and d["lanes"]["webhook"]["in_flight"] == 0)


async def test_live_connections_are_measured(running: Running) -> None:
    user = token("u1", Role.USER)

    def live(body: dict[str, Any]) -> tuple[int, int]:
        return body["in_app"]["live"]["connections"], body["in_app"]["live"]["users"]

    assert live(await shown(running, "channels")) == (0, 0)
    one = await running.session.ws_connect(f"{running.address}{API}/ws", protocols=("bearer", user))
    two = await running.session.ws_connect(f"{running.address}{API}/ws", protocols=("bearer", user))
    await one.receive_json(timeout=5)
    await two.receive_json(timeout=5)
    assert live(await shown(running, "channels")) == (2, 1)
    assert samples((await get(running, "/metrics"))[2])["notification_state,live_connections"] == 2
    await one.close()
    await two.close()
    await until(running, "channels", lambda body: live(body) == (0, 0))


async def test_the_pool_is_measured(shared: Running) -> None:
    await asyncio.gather(*(shared.call("GET", "/unread-count") for _ in range(50)))
    pool = (await shown(shared, "status"))["database"]["pool"]
    assert pool["max"] == 20
    assert 0 < pool["in_use"] + pool["idle"] <= 20
    assert pool["waiting"] == 0


async def test_roles_show_what_they_do(start: Start) -> None:
    api, daemon = await start(EngineRole.API), await start(EngineRole.DAEMON)
    assert (await shown(api, "daemon"))["status"] == "disabled"
    assert (await shown(api, "status"))["status"] == "healthy"
    loops = (await until(daemon, "daemon", lambda d: d["status"] == "running"))["loops"]
    assert set(loops) == {"sweeper", "leases", "janitor", "breakers", "retention"}
    for path in PATHS:
        assert (await get(daemon, path))[0] == 200, path
    assert (await get(daemon, f"{API}/history"))[0] == 404, "a daemon serves health alone"


async def test_a_loop_that_stops_is_degraded(start: Start) -> None:
    running = await start(NOTIFICATION_DAEMON_HEALTH_CHECK_INTERVAL=0.1, SWEEP_INTERVAL_SECONDS=0.1)
    assert running.engine.sweeper is not None
    await running.engine.sweeper.ran.wait()
    await running.engine.sweeper.stop()
    body = await until(running, "daemon", lambda d: d["loops"]["sweeper"]["late"])
    assert body["status"] == "degraded"
    assert (await shown(running, "status"))["status"] == "degraded"


async def test_background_checks_notice_a_missing_index(start: Start) -> None:
    running = await start(HEALTH_CHECK_INTERVAL=0.1)
    await until(running, "status", lambda s: s["checks"].get("indexes", {}).get("healthy") is True)
    collection = running.engine.database.collection("notification_history")
    name = next(n for n in await collection.index_information() if n != "_id_")
    await collection.drop_index(name)
    body = await until(running, "status", lambda s: not s["checks"]["indexes"]["healthy"])
    assert any(name in missing for missing in body["checks"]["indexes"]["missing"])
    assert 0 < body["checks"]["uptime_share"] < 1


async def test_health_is_exempt_from_trusted_hosts(start: Start) -> None:
    running = await start(TRUSTED_HOSTS=["notify.example.org"])
    assert (await get(running, f"{API}/unread-count"))[0] == 400
    for path in PATHS:
        assert (await get(running, path))[0] == 200, path
