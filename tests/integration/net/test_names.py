"""Names that lead inside, at once or later: a real DNS server says so, and what stands inside hears nothing."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.integration.conftest import Running, Start, message
from tests.servers.dns import DnsServer
from tests.servers.receiver import Receiver

from notification_engine.domain.errors import Unavailable
from notification_engine.net.fetch import Fetcher
from notification_engine.net.guard import Guard
from notification_engine.net.session import Outbound

NAME = "hooks.example.test"
PUBLIC, INSIDE = "93.184.216.34", "127.0.0.1"


@pytest.fixture
async def dns() -> AsyncIterator[DnsServer]:
    server = DnsServer()
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def guarded(start: Start, dns: DnsServer) -> Running:
    return await start(resolver=dns.resolver, WEBHOOK_ALLOWED_NETWORKS=[])


def url(receiver: Receiver, name: str = NAME) -> str:
    return f"http://{name}:{receiver.address.rpartition(':')[2]}/hook"


async def sent(running: Running) -> dict[str, Any]:
    return await running.settled(await running.accept(message(channels=["webhook"])))


async def test_a_name_that_was_public_at_registration_is_blocked_at_send(
    guarded: Running, dns: DnsServer, receiver: Receiver
) -> None:
    dns.script[NAME] = [[PUBLIC], [INSIDE]]
    await guarded.register(url(receiver))
    assert {kind for name, kind in dns.asked if name == NAME} == {1, 28}
    shown = await sent(guarded)
    delivery = shown["deliveries"][0]
    assert (delivery["status"], delivery["reason"], delivery["attempts"]) == ("failed", "blocked_address", 1)
    assert receiver.calls == []
    last = (await guarded.timeline(shown["notification_id"]))[-1]
    assert last["text"] == (
        "Failed for good by webhook: blocked_address (its name leads to a network that is not allowed)."
    )


@pytest.mark.parametrize(
    "answers",
    [[INSIDE], ["10.0.0.1", "192.168.0.1"], ["::1"], ["::ffff:127.0.0.1"], ["64:ff9b::7f00:1"], ["2002:7f00:1::"]],
    ids=" ".join,
)
async def test_a_name_that_leads_inside_is_refused_at_registration(
    guarded: Running, dns: DnsServer, receiver: Receiver, answers: list[str]
) -> None:
    dns.script[NAME] = [answers]
    body = {"url": url(receiver), "notification_types": ["*"]}
    status, problem = await guarded.call("POST", "/webhooks", body)
    assert (status, problem["field"]) == (422, "url")
    assert not any(answer in problem["detail"] for answer in answers)
    dns.script["other.example.test"] = [[PUBLIC]]
    endpoint = await guarded.register("https://other.example.test/hook")
    status, problem = await guarded.call("PATCH", f"/webhooks/{endpoint['webhook_id']}", {"url": url(receiver)})
    assert (status, problem["field"]) == (422, "url")
    assert receiver.calls == []


async def test_a_name_without_an_address_may_be_registered(guarded: Running) -> None:
    await guarded.register("https://not-yet.example.test/hook")


async def test_of_several_addresses_only_those_allowed_are_dialled(
    start: Start, dns: DnsServer, receiver: Receiver
) -> None:
    running = await start(resolver=dns.resolver, WEBHOOK_ALLOWED_NETWORKS=["127.0.0.1/32"])
    dns.script[NAME] = [["10.0.0.1", "169.254.169.254", INSIDE, "127.0.0.2"]]
    await running.register(url(receiver))
    shown = await sent(running)
    assert shown["deliveries"][0]["status"] == "delivered"
    assert len(receiver.calls) == 1


async def test_a_name_is_judged_anew_each_time_it_is_asked_for(dns: DnsServer, receiver: Receiver) -> None:
    guard = Guard(["127.0.0.1/32"], https_only=False)
    dns.script[NAME] = [["10.0.0.1"], [INSIDE], ["169.254.169.254"]]
    outcomes = []
    for _ in range(3):
        out = Outbound(guard, resolver=dns.resolver)
        try:
            async with out.session().post(url(receiver)) as answer:
                outcomes.append(answer.status)
        except OSError as error:
            outcomes.append(type(error).__name__)
        await out.close()
    assert outcomes == ["ClientConnectorDNSError", 204, "ClientConnectorDNSError"]


async def test_the_test_message_of_an_endpoint_is_blocked_too(
    guarded: Running, dns: DnsServer, receiver: Receiver
) -> None:
    dns.script[NAME] = [[PUBLIC], [INSIDE]]
    endpoint = await guarded.register(url(receiver))
    status, said = await guarded.call("POST", f"/webhooks/{endpoint['webhook_id']}/test")
    assert (status, said["delivered"], said["reason"]) == (200, False, "blocked_address")
    assert receiver.calls == []


async def test_an_attachment_whose_name_leads_inside_is_blocked(
    guarded: Running, dns: DnsServer, receiver: Receiver
) -> None:
    dns.script[NAME] = [[INSIDE]]
    body = message(channels=["email"], attachments=[{"filename": "r", "url": url(receiver)}])
    shown = await guarded.settled(await guarded.accept(body))
    assert shown["deliveries"][0]["reason"] == "blocked_address"
    assert receiver.calls == []


async def test_a_port_that_is_no_longer_allowed_is_blocked_at_send(start: Start, receiver: Receiver) -> None:
    before = await start()
    await before.register(f"{receiver.address}/hook")
    after = await start(WEBHOOK_ALLOWED_PORTS=[80, 443])
    body = {"url": f"{receiver.address}/hook", "notification_types": ["*"]}
    status, problem = await after.call("POST", "/webhooks", body)
    assert (status, problem["field"]) == (422, "url")
    assert "80, 443" in problem["detail"]
    before.engine.sweeper.interval_seconds = 3600  # the other one sends
    shown = await sent(after)
    assert shown["deliveries"][0]["reason"] == "blocked_address"
    assert "port is not allowed" in (await after.timeline(shown["notification_id"]))[-1]["text"]
    assert receiver.calls == []


@pytest.mark.parametrize("answers", [[INSIDE], ["10.1.2.3"], ["::1"]], ids=" ".join)
async def test_certificates_of_callbacks_are_never_fetched_from_inside(dns: DnsServer, answers: list[str]) -> None:
    dns.script["sns.eu-west-1.amazonaws.com"] = [answers]
    out = Outbound(Guard(ports=(443,)), resolver=dns.resolver)
    with pytest.raises(Unavailable):
        await Fetcher(out.session).certificate("https://sns.eu-west-1.amazonaws.com/x.pem")
    assert dns.asked
    await out.close()
