"""The probes of the Deployment against a real engine: its start, a lost database, a drain."""

import asyncio
import signal
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import ClientError, ClientSession, ClientTimeout
from tests.deploy.test_kubernetes import of
from tests.integration.conftest import message
from tests.integration.replicas.fleet import Fleet, Replica, accept, until

from notification_engine.health.probe import NOT_READY_AFTER_SECONDS
from notification_engine.storage.embedded import EmbeddedMongod, find_binary

POD = of("base", "Deployment")["spec"]["template"]["spec"]
CONTAINER = POD["containers"][0]
SLACK_SECONDS = 15  # for a machine that does other things too
pytestmark = pytest.mark.timeout(300)


async def probed(replica: Replica, session: ClientSession, kind: str) -> bool:
    """As the kubelet judges one probe."""
    probe = CONTAINER[f"{kind}Probe"]
    limit = ClientTimeout(total=probe["timeoutSeconds"])
    try:
        async with session.get(replica.address + probe["httpGet"]["path"], timeout=limit) as answer:
            return 200 <= answer.status < 400
    except (ClientError, TimeoutError):
        return False


@pytest.fixture
async def own(tmp_path: Path) -> AsyncIterator[tuple[EmbeddedMongod, str]]:
    """A database that the test may take away."""
    server = EmbeddedMongod(tmp_path / "mongod", find_binary(None))
    yield server, await server.start()
    await server.stop()


async def test_an_empty_database_is_served_within_the_startup_probes_budget(fleet: Fleet) -> None:
    """Migrations included."""
    startup = CONTAINER["startupProbe"]
    replica = Replica("first", fleet.directory, fleet.settings)
    fleet.replicas.append(await replica.start())

    async def started() -> bool:
        return await probed(replica, fleet.session, "startup")

    await until(started, startup["periodSeconds"] * startup["failureThreshold"], "the startup probe")
    assert await probed(replica, fleet.session, "liveness")
    assert await probed(replica, fleet.session, "readiness")


async def test_a_lost_database_ends_readiness_and_never_liveness(own: tuple[EmbeddedMongod, str], fleet: Fleet) -> None:
    """Not before an election could be over, then within a probe's time; and it is back by itself."""
    server, url = own
    [replica] = await fleet.start("all", MONGODB_URL=url, MONGODB_DATABASE=f"lost_{uuid.uuid4().hex[:8]}")
    await server.stop()
    readiness = CONTAINER["readinessProbe"]
    seconds = NOT_READY_AFTER_SECONDS + readiness["periodSeconds"] * readiness["failureThreshold"] + SLACK_SECONDS
    dead = 0

    async def not_ready() -> bool:
        nonlocal dead
        dead += not await probed(replica, fleet.session, "liveness")
        return not await probed(replica, fleet.session, "readiness")

    took = await until(not_ready, seconds, "not ready without a database")
    assert dead == 0
    assert took > NOT_READY_AFTER_SECONDS / 2, "an election does not take a replica away"
    await server.start()

    async def ready() -> bool:
        return await probed(replica, fleet.session, "readiness")

    await until(ready, SLACK_SECONDS + readiness["periodSeconds"], "ready with its database")


async def test_a_drain_is_seen_by_readiness_and_ends_within_the_grace(fleet: Fleet) -> None:
    """While the readiness probe has the time to see it, everything else is served."""
    [replica] = await fleet.start("all", DRAIN_DELAY_SECONDS="5")
    assert replica.process is not None
    replica.process.send_signal(signal.SIGTERM)

    async def not_ready() -> bool:
        return not await probed(replica, fleet.session, "readiness")

    await until(not_ready, CONTAINER["readinessProbe"]["periodSeconds"], "not ready")
    assert await probed(replica, fleet.session, "liveness")
    assert len(await accept(fleet.session, replica, message())) == 1
    async with asyncio.timeout(POD["terminationGracePeriodSeconds"]):
        assert await replica.process.wait() == 0, replica.log()
