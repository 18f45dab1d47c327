"""One trace over processes: accepted by one, claimed and sent by another, read by the receiver."""

import pytest
from tests.integration.conftest import API, message
from tests.integration.replicas.fleet import Fleet, accept, bearer, endpoint, open_ones, until
from tests.servers.collector import Collector
from tests.servers.receiver import Receiver

pytestmark = pytest.mark.timeout(240)  # two processes, on a machine that may be busy
TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


async def test_one_trace_leads_from_the_request_to_the_receiver(
    fleet: Fleet, receiver: Receiver, collector: Collector
) -> None:
    on = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.address, "OTEL_BSP_SCHEDULE_DELAY": "50", "LOG_FORMAT": "json"}
    api, daemon = await fleet.start("api", "daemon", **on)
    await endpoint(fleet, api, receiver, "test.hook")
    body = message("u1", "u2", notification_type="test.hook", channels=["webhook"])
    sent = bearer() | {"traceparent": f"00-{TRACE}-{SPAN}-01"}
    async with fleet.session.post(f"{api.address}{API}", json=body, headers=sent) as answer:
        assert answer.status == 202
        ids = {n["notification_id"] for n in (await answer.json())["notifications"]}
    calls = await receiver.received(2)
    spans = await collector.until(lambda spans: [s.name for s in spans if s.trace_id == TRACE].count("lane") == 2)
    spans = [s for s in spans if s.trace_id == TRACE]
    assert sorted(s.name for s in spans) == [
        "POST /api/v1/notifications", "lane", "lane", "provider call", "provider call", "write",
    ]  # fmt: skip
    parents = {s.span_id: s.parent_id for s in spans}
    [request] = [s for s in spans if s.kind == "server"]
    lanes = [s for s in spans if s.name == "lane"]
    assert request.parent_id == SPAN
    assert {s.parent_id for s in spans if s.name in {"write", "lane"}} == {request.span_id}
    assert {s.attributes["notification.id"] for s in lanes} == ids
    for call in calls:
        version, trace_id, span_id, flags = call.headers["traceparent"].split("-")
        assert (version, trace_id, flags) == ("00", TRACE, "01")
        assert parents[parents[span_id]] == request.span_id, "the receiver is a child of the call, that of the lane"
    instances = {s.name: s.resource["service.instance.id"] for s in spans}
    assert instances["lane"] == instances["provider call"] != instances["write"]
    assert f'"trace_id":"{TRACE}"' in daemon.log()
    assert '"Notification delivered successfully"' in daemon.log()


async def test_a_drain_sends_what_waits(fleet: Fleet, collector: Collector) -> None:
    on = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.address, "OTEL_BSP_SCHEDULE_DELAY": "600000"}
    [engine] = await fleet.start("all", **on)
    await accept(fleet.session, engine, message())

    async def settled() -> bool:
        return not await open_ones(fleet)

    await until(settled, 30, "nothing left to do")
    assert collector.spans == []
    assert await engine.terminate() == 0
    assert {s.name for s in collector.spans} >= {"POST /api/v1/notifications", "write"}
