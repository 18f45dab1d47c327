"""The breakers where the replicas meet, against the server's own clock."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from notification_engine.channels.email.breaker import Breaker
from notification_engine.domain.breaker import BreakerPolicy, BreakerState
from notification_engine.storage.breakers import Breakers
from notification_engine.storage.connection import Database

POLICY = BreakerPolicy(window_seconds=60, minimum=10, failure_percent=50, open_seconds=60)
SHORT = replace(POLICY, open_seconds=0.2)


@pytest.fixture
async def store(mongod: str) -> AsyncIterator[Breakers]:
    database = Database(mongod, f"breakers_{uuid.uuid4().hex[:8]}", pool_size=5)
    yield Breakers(database)
    await database.drop()
    await database.close()


async def half_open(store: Breakers, breaker: Breaker) -> None:
    async with asyncio.timeout(10):
        while True:
            await breaker.synchronise()
            if breaker.state is BreakerState.HALF_OPEN:
                return
            await asyncio.sleep(0.02)  # the server's clock decides


async def test_an_unknown_provider_is_closed(store: Breakers) -> None:
    assert (await store.view("sendgrid")).state is BreakerState.CLOSED


async def test_the_counts_of_all_replicas_meet(store: Breakers) -> None:
    replicas = [Breaker("ses", POLICY, store) for _ in range(5)]
    for breaker in replicas:
        for _ in range(2):
            assert breaker.allows()
            breaker.record(ok=False)
        await breaker.synchronise()
    assert replicas[-1].state is BreakerState.OPEN
    for breaker in replicas:
        await breaker.synchronise()
        assert not breaker.allows()
    assert 0 < replicas[0].seconds_left <= 60


@pytest.mark.parametrize(("ok", "failed", "opens"), [(6, 5, False), (5, 5, True), (0, 9, False)])
async def test_the_server_decides_as_the_policy_does(store: Breakers, ok: int, failed: int, opens: bool) -> None:
    view = await store.exchange("smtp", POLICY, ok, failed)
    assert POLICY.trips(ok, failed) is opens
    assert (view.state is BreakerState.OPEN) is opens
    assert (view.ok, view.failed) == (ok, failed)


async def test_what_left_the_window_is_forgotten(store: Breakers) -> None:
    policy = replace(POLICY, window_seconds=0.2)
    await store.exchange("smtp", policy, 0, 9)
    async with asyncio.timeout(10):
        while True:
            view = await store.exchange("smtp", policy, 0, 0)
            if not view.failed:
                return
            await asyncio.sleep(0.02)


async def test_half_open_lets_one_probe_through_and_a_good_one_closes(store: Breakers) -> None:
    breaker = Breaker("sendgrid", SHORT, store)
    for _ in range(10):
        breaker.record(ok=False)
    await breaker.synchronise()
    assert breaker.state is BreakerState.OPEN
    await half_open(store, breaker)
    assert [breaker.allows() for _ in range(3)] == [True, False, False]
    breaker.record(ok=True)
    await breaker.synchronise()
    assert breaker.state is BreakerState.CLOSED
    assert (await store.view("sendgrid")).failed == 0 or (await store.exchange("sendgrid", SHORT, 1, 0)).failed == 0


async def test_a_bad_probe_opens_it_again(store: Breakers) -> None:
    breaker = Breaker("sendgrid", SHORT, store)
    for _ in range(10):
        breaker.record(ok=False)
    await breaker.synchronise()
    await half_open(store, breaker)
    assert breaker.allows()
    breaker.record(ok=False)
    await breaker.synchronise()
    assert breaker.state is BreakerState.OPEN


async def test_a_probe_that_was_not_made_is_given_back(store: Breakers) -> None:
    breaker = Breaker("sendgrid", SHORT, store)
    for _ in range(10):
        breaker.record(ok=False)
    await breaker.synchronise()
    await half_open(store, breaker)
    assert breaker.allows()
    breaker.release()
    assert breaker.allows()
