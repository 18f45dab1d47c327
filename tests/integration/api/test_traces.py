"""Traces of one process: what is continued, what is told and what is not, and a collector that does not answer."""

import asyncio
import logging
import os
import ssl
import subprocess
import sys
from collections.abc import MutableMapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs
from tests.canaries import canary
from tests.integration.conftest import BODY, Running, Start, message, token
from tests.servers.collector import Collector
from tests.servers.receiver import Answer, Receiver
from tests.servers.tls import certificate

import notification_engine
from notification_engine.cli.server import address, bind
from notification_engine.domain.caller import Role
from notification_engine.domain.errors import ConfigurationError
from notification_engine.settings import Settings
from notification_engine.wiring.life import open_traces

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
HEADER = f"00-{TRACE}-{SPAN}-01"
MARKED = "what-no-span-may-hold"
POST = "POST /api/v1/notifications"
AWAY = "The collector takes no traces"


@pytest.fixture
async def traced(start: Start, collector: Collector) -> Running:
    return await start(OTEL_EXPORTER_OTLP_ENDPOINT=collector.address)


async def stored(running: Running, notification_id: str) -> dict[str, object]:
    return dict(await running.engine.database.collection("notifications").find_one({"_id": notification_id}) or {})


def traceparent(number: int) -> str:
    return f"00-{TRACE[:-1]}{number}-{SPAN}-01"


def of_the_collector(logged: Sequence[MutableMapping[str, Any]]) -> list[str]:
    return [entry["event"] for entry in logged if entry["event"].startswith("The collector")]


async def test_the_callers_trace_is_continued(traced: Running, collector: Collector) -> None:
    status, answer = await traced.call("POST", "", message(), traceparent=HEADER, tracestate="vendor=1")
    assert status == 202
    request, write = await collector.named(POST, "write", trace_id=TRACE)
    assert (request.kind, request.parent_id, request.state) == ("server", SPAN, "vendor=1")
    assert request.attributes == {
        "http.request.method": "POST",
        "http.route": "/api/v1/notifications",
        "http.response.status_code": 202,
    }
    assert (write.kind, write.parent_id, write.attributes) == ("client", request.span_id, {"notification.count": 1})
    assert request.resource["service.name"] == "notification-engine"
    assert request.resource["service.instance.id"] == traced.engine.replica
    document = await stored(traced, answer["notifications"][0]["notification_id"])
    assert document["traceparent"] == f"00-{TRACE}-{request.span_id}-01"


@pytest.mark.parametrize("header", ["junk", f"00-{'0' * 32}-{SPAN}-01", f"00-{TRACE}-{SPAN}-01-x"])
async def test_a_malformed_header_begins_a_new_trace(traced: Running, collector: Collector, header: str) -> None:
    assert (await traced.call("POST", "", message(), traceparent=header))[0] == 202
    [request] = await collector.named(POST)
    assert (request.parent_id, request.trace_id != TRACE) == ("", True)


async def test_what_the_caller_does_not_sample_is_not_recorded(traced: Running, collector: Collector) -> None:
    status, answer = await traced.call("POST", "", message(), traceparent=HEADER[:-1] + "0")
    assert status == 202
    assert "traceparent" not in await stored(traced, answer["notifications"][0]["notification_id"])
    await traced.call("POST", "", message())
    await collector.named(POST)
    assert [s for s in collector.spans if s.trace_id == TRACE] == []


async def test_a_webhook_is_called_within_the_trace(traced: Running, collector: Collector, receiver: Receiver) -> None:
    """Accepted and delivered by one process; each attempt is a step of its own, and the failed one says so."""
    await traced.register(f"{receiver.address}/hook", "test.hook")
    receiver.answers.append(Answer(status=503))
    notification_id = await traced.accept(message(notification_type="test.hook", channels=["webhook"]))
    first, second = await receiver.received(2)
    spans = await collector.until(lambda spans: [s.name for s in spans].count("lane") == 2)
    lanes = sorted((s for s in spans if s.name == "lane"), key=lambda s: s.attributes["notification.attempt"])
    calls = {s.parent_id: s for s in spans if s.name == "provider call"}
    for lane, call in zip(lanes, (first, second), strict=True):
        inner = calls[lane.span_id]
        assert call.headers["traceparent"] == f"00-{inner.trace_id}-{inner.span_id}-01"
        assert inner.seconds <= lane.seconds
    assert [s.attributes["notification.status"] for s in lanes] == ["pending", "delivered"]
    assert [calls[s.span_id].failed for s in lanes] == [True, False]
    assert calls[lanes[0].span_id].attributes == {
        "notification.provider": "webhook",
        "notification.outcome": "retry",
        "notification.reason": "server_error",
    }
    assert {s.attributes["notification.id"] for s in lanes} == {notification_id}
    assert not any(s.failed for s in lanes), "what is tried again has not failed yet"
    [request] = [s for s in spans if s.name == POST]
    assert {(s.trace_id, s.parent_id) for s in lanes} == {(request.trace_id, request.span_id)}


async def test_spans_hold_no_address_token_secret_or_body(
    traced: Running, collector: Collector, receiver: Receiver
) -> None:
    """The collector looks for canaries; this one names what they could miss."""
    secret = (await traced.register(f"{receiver.address}/{MARKED}", "test.hook"))["secret"]
    await traced.call("GET", f"/preferences?user_id={MARKED}", as_=token("u1", Role.OPERATOR))
    await traced.call("GET", f"/users/{MARKED}/data", as_=token("admin", Role.ADMIN))
    async with traced.session.get(f"{traced.address}/api/v1/notifications/unsubscribe/{MARKED}") as page:
        assert page.status == 404
    await traced.call("GET", f"/no/such/{MARKED}")
    fields = {"notification_type": "test.hook", "channels": ["in_app", "email", "webhook"], "data": {"k": BODY}}
    await traced.settled(await traced.accept(message(MARKED, **fields)))
    await receiver.received(1)
    spans = await collector.until(lambda spans: [s.name for s in spans].count("provider call") == 2)
    text = repr(spans)
    for held in (MARKED, "cnry-", "@", secret, BODY, "Hello", "Bearer", receiver.address):
        assert held not in text, held
    assert {s.name for s in spans} >= {"GET", "GET /api/v1/notifications/users/{user_id}/data", POST, "lane"}


async def test_probes_have_no_span(traced: Running, collector: Collector) -> None:
    for path in ("/health/status", "/health/metrics"):
        await traced.call("GET", path)
    await traced.call("POST", "", message())
    await collector.named(POST)
    assert [s.name for s in collector.spans if "health" in s.name] == []


async def test_what_the_collector_asks_for_is_sent(start: Start, collector: Collector) -> None:
    key = canary("key-of-the-collector")
    traced = await start(
        OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=f"{collector.address}/v1/traces",
        OTEL_EXPORTER_OTLP_HEADERS=f"x-api-key={key},x-other=a%20b",
        OTEL_SERVICE_NAME="elsewhere",
    )
    await traced.call("POST", "", message())
    [request] = await collector.named(POST)
    assert (collector.requests[0]["x-api-key"], collector.requests[0]["x-other"]) == (key, "a b")
    assert request.resource["service.name"] == "elsewhere"


async def test_a_sampler_of_the_standard_variables_is_followed(
    start: Start, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_always_off")
    traced = await start(OTEL_EXPORTER_OTLP_ENDPOINT=collector.address)
    await traced.call("POST", "", message())
    await traced.call("POST", "", message(), traceparent=HEADER)
    await collector.named(POST, trace_id=TRACE)
    assert {s.trace_id for s in collector.spans} == {TRACE}


async def test_a_collector_that_refuses_fails_nothing_and_is_told_once(start: Start, collector: Collector) -> None:
    collector.status = 400  # not tried again
    traced = await start(OTEL_EXPORTER_OTLP_ENDPOINT=collector.address)
    with capture_logs() as logged:
        for status in (400, 400, 400, 200, 200):  # the first 200 is told of before the second batch is sent
            collector.status, batches = status, len(collector.requests)
            assert (await traced.call("POST", "", message()))[0] == 202
            await collector.asked(batches + 1)
    assert of_the_collector(logged) == [AWAY, "The collector takes traces again"]


async def test_what_it_could_not_take_is_sent_later_and_past_the_queue_the_oldest_are_lost(
    start: Start, collector: Collector
) -> None:
    collector.status = 503
    traced = await start(
        OTEL_EXPORTER_OTLP_ENDPOINT=collector.address,
        OTEL_BSP_MAX_QUEUE_SIZE=4,
        OTEL_BSP_MAX_EXPORT_BATCH_SIZE=3,
    )
    with capture_logs() as logged:
        for number in range(3):  # two spans each
            assert (await traced.call("POST", "", message(), traceparent=traceparent(number)))[0] == 202
        await collector.asked(len(collector.requests) + 2)
        collector.status = 200
        spans = await collector.until(lambda spans: len(spans) >= 4)
    assert [s.trace_id for s in spans] == [traceparent(number)[3:35] for number in (1, 1, 2, 2)]
    assert of_the_collector(logged) == [AWAY, "The collector takes traces again"]


async def test_a_collector_that_asks_for_time_is_given_it(start: Start, collector: Collector) -> None:
    collector.status, collector.headers = 429, {"Retry-After": "3600"}
    traced = await start(OTEL_EXPORTER_OTLP_ENDPOINT=collector.address)
    traces = traced.engine._traces
    assert traces is not None
    await traced.call("POST", "", message())
    await collector.asked(1)
    for _ in range(3):
        traces.ran.clear()
        await traces.ran.wait()
    assert len(collector.requests) == 1


async def test_a_collector_that_is_not_there_fails_nothing_and_is_told_once(start: Start) -> None:
    with bind("127.0.0.1", 0) as taken:
        nowhere = address(taken)
    traced = await start(OTEL_EXPORTER_OTLP_ENDPOINT=nowhere, OTEL_BSP_SCHEDULE_DELAY=50)
    with capture_logs() as logged:
        async with asyncio.timeout(30):
            while not of_the_collector(logged):
                assert (await traced.call("POST", "", message()))[0] == 202
        assert traced.engine._traces is not None
        await traced.engine._traces.close()
    assert of_the_collector(logged) == [AWAY]
    assert nowhere not in str(logged)


async def test_an_end_does_not_wait_for_a_collector_that_hangs(start: Start, collector: Collector) -> None:
    collector.held = asyncio.Event()
    traced = await start(OTEL_EXPORTER_OTLP_ENDPOINT=collector.address, OTEL_EXPORTER_OTLP_TIMEOUT=600_000)
    await traced.call("POST", "", message())
    await collector.asked(1)
    await traced.call("POST", "", message())
    assert traced.engine._traces is not None
    with capture_logs() as logged:
        async with asyncio.timeout(20):
            await traced.engine._traces.close()
    [told] = [entry for entry in logged if entry["event"].startswith("The collector did not answer")]
    assert told["spans"] == 4, "that of the request which hangs, too"
    collector.held.set()


async def test_what_waits_is_sent_at_the_end(start: Start, collector: Collector) -> None:
    traced = await start(OTEL_EXPORTER_OTLP_ENDPOINT=collector.address, OTEL_BSP_SCHEDULE_DELAY=600_000)
    await traced.call("POST", "", message())
    assert collector.spans == []
    assert traced.engine._traces is not None
    await traced.engine._traces.close()
    assert {s.name for s in collector.spans} == {POST, "write"}


async def test_a_full_batch_does_not_wait_for_its_time(start: Start, collector: Collector) -> None:
    traced = await start(
        OTEL_EXPORTER_OTLP_ENDPOINT=collector.address,
        OTEL_BSP_SCHEDULE_DELAY=600_000,
        OTEL_BSP_MAX_EXPORT_BATCH_SIZE=6,
    )
    for _ in range(3):
        await traced.call("POST", "", message())
    assert len(await collector.until(lambda spans: len(spans) >= 6)) == 6
    assert len(collector.requests) == 1


async def test_tls_and_compression(start: Start, tmp_path: Path) -> None:
    """Whom the settings name is trusted, and nobody else; and is shown a certificate where it asks for one."""
    pem, key = certificate(tmp_path)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=pem)
    tls.verify_mode = ssl.CERT_REQUIRED
    tls.load_cert_chain(pem, key)
    on = {"OTEL_EXPORTER_OTLP_COMPRESSION": "gzip", "OTEL_BSP_SCHEDULE_DELAY": 50}
    own = {"OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE": pem, "OTEL_EXPORTER_OTLP_CLIENT_KEY": key}
    async with Collector(tls) as collector:
        on["OTEL_EXPORTER_OTLP_ENDPOINT"] = collector.address
        with capture_logs() as logged:
            for trusting in (own, {"OTEL_EXPORTER_OTLP_CERTIFICATE": pem}):  # each lacks the other half
                refused = await start(**on, **trusting)
                traces = refused.engine._traces
                assert traces is not None
                await refused.call("POST", "", message())
                async with asyncio.timeout(30):
                    while AWAY not in of_the_collector(logged):
                        traces.ran.clear()
                        await traces.ran.wait()
                logged.clear()
        trusted = await start(**on, **own, OTEL_EXPORTER_OTLP_CERTIFICATE=pem)
        await trusted.call("POST", "", message())
        await collector.named(POST, "write")
        assert {r["Content-Encoding"] for r in collector.requests} == {"gzip"}


async def test_a_certificate_that_is_none_is_refused_by_name(tmp_path: Path) -> None:
    empty = tmp_path / "empty.pem"
    empty.write_text("")
    given = {"OTEL_EXPORTER_OTLP_ENDPOINT": "https://127.0.0.1:4318", "OTEL_EXPORTER_OTLP_CERTIFICATE": empty}
    with pytest.raises(ConfigurationError, match=r"^OTEL_EXPORTER_OTLP_\*CERTIFICATE: "):
        await open_traces(Settings(**given), "replica")


async def test_a_sampler_that_is_not_known_is_told_of_and_a_header_is_not(
    start: Start, collector: Collector, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "opentelemetry")  # an engine before this one has silenced it
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "sometimes")
    unreadable = canary("header-without-a-name")
    await start(OTEL_EXPORTER_OTLP_ENDPOINT=collector.address, OTEL_EXPORTER_OTLP_HEADERS=unreadable)
    assert "sometimes" in caplog.text
    assert unreadable not in caplog.text


async def test_off_stores_nothing_and_sends_nothing(running: Running, receiver: Receiver) -> None:
    await running.register(f"{receiver.address}/hook", "test.hook")
    body = message(notification_type="test.hook", channels=["webhook"])
    status, answer = await running.call("POST", "", body, traceparent=HEADER)
    assert status == 202
    [call] = await receiver.received(1)
    assert "traceparent" not in {name.lower() for name in call.headers}
    assert "traceparent" not in await stored(running, answer["notifications"][0]["notification_id"])


def test_off_imports_no_sdk(tmp_path: Path) -> None:
    """An engine that has been made and started as far as it goes without a database."""
    script = """
import asyncio, sys
from notification_engine.cli import main
from notification_engine.settings import load_settings
from notification_engine.wiring import Engine
from notification_engine.wiring.life import open_traces
async def made():
    settings = load_settings()
    engine = Engine(settings, "mongodb://127.0.0.1:1/?replicaSet=rs0")
    assert await open_traces(settings, engine.replica) is None
asyncio.run(made())
print([m for m in sys.modules if m.startswith(("opentelemetry.sdk", "opentelemetry.exporter", "google.", "requests"))])
"""
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(Path(notification_engine.__file__).parents[1]),
        "ENVIRONMENT": "development",
        "JWT_SECRET_KEY": canary("signing-key-of-an-engine"),
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318",
        "OTEL_SDK_DISABLED": "true",
    }
    command = [sys.executable, "-c", script]
    ran = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert (ran.returncode, ran.stdout) == (0, "[]\n"), ran.stderr
