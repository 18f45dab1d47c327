"""The fault suite in its short form: every promise holds under every fault, and every broken build is found."""

from collections.abc import AsyncIterator

import pytest
from tests.chaos.broken import CORE, FOUND_BY
from tests.chaos.cluster import Cluster, cluster
from tests.chaos.faults import FAULTS, Fault
from tests.chaos.faults import all as _registered  # noqa: F401 - fills the table
from tests.chaos.ledger import Row

SEED = 1


@pytest.fixture(scope="session")
async def replica_set() -> AsyncIterator[Cluster]:
    async with cluster() as started:
        yield started


async def run(fault: Fault, shared: Cluster, broken: str | None = None) -> Row:
    await shared.whole()
    return await fault.run(fault.short, SEED, shared if fault.shares else None, broken)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("name", FAULTS)
async def test_every_promise_holds_under(name: str, replica_set: Cluster) -> None:
    row = await run(FAULTS[name], replica_set)
    assert row.passed, row
    assert row.accepted > 0


@pytest.mark.timeout(240)
@pytest.mark.parametrize("build", CORE)
async def test_the_suite_finds_the_broken_build(build: str, replica_set: Cluster) -> None:
    row = await run(FAULTS[FOUND_BY[build]], replica_set, build)
    assert not row.passed, f"{FOUND_BY[build]} did not notice {build}"
