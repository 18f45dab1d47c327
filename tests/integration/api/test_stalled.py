"""Live clients that do not read: they cost their bound, lose their place at once, and harm nobody."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from tests.integration.api.test_live import frame, opened
from tests.integration.conftest import Running, Start, message, token
from tests.servers.deaf import Deaf

from notification_engine.cli import server
from notification_engine.domain.caller import Role
from notification_engine.realtime import hub

LARGE = {"data": {"x": "y" * 15_000}}
FAR_MORE_THAN_FITS = 300  # of these: past the kernel's buffers, the server's and the queue


@asynccontextmanager
async def deaf(running: Running, *, stream: bool) -> AsyncIterator[Deaf]:
    client = Deaf(token("deaf", Role.USER), stream=stream)
    try:
        await client.connect(running.address)
        yield client
    finally:
        client.close()


async def until(holds: Callable[[], bool], act: Callable[[], Awaitable[object]], times: int) -> None:
    """Acts until it holds, and then waits for it."""
    for _ in range(times):
        if holds():
            return
        await act()
    async with asyncio.timeout(10):
        while True:
            if holds():
                return
            await asyncio.sleep(0.02)  # asked again: the state is the hub's


@pytest.mark.parametrize("stream", [False, True])
async def test_a_full_queue_frees_the_place_at_once(start: Start, stream: bool) -> None:
    running = await start()
    async with opened(running, token("u1", Role.USER)) as (healthy, _), deaf(running, stream=stream):
        assert running.engine.hub.counts()["connections"] == 2
        await until(
            lambda: running.engine.hub.counts()["connections"] == 1,
            lambda: running.accept(message("deaf", **LARGE)),
            FAR_MORE_THAN_FITS,
        )
        sent = await running.accept(message("u1"))
        assert (await frame(healthy, "notification"))["notification"]["notification_id"] == sent


@pytest.mark.parametrize("stream", [False, True])
async def test_a_write_that_is_not_taken_in_time_ends_the_connection(
    start: Start, monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    monkeypatch.setattr(hub, "WRITE_SECONDS", 0.5)
    monkeypatch.setattr(hub, "MAX_QUEUED_BYTES", 1024**3)
    running = await start()
    async with deaf(running, stream=stream):
        await until(
            lambda: not running.engine.hub.counts()["connections"],
            lambda: running.accept(message("deaf", **LARGE)),
            FAR_MORE_THAN_FITS,
        )


@pytest.mark.parametrize("stream", [False, True])
async def test_the_transport_of_a_client_that_never_reads_is_closed(
    start: Start, monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    monkeypatch.setattr(server, "UNTAKEN_MILLIS", 1000)
    running = await start()
    async with deaf(running, stream=stream) as client:
        await until(
            lambda: not running.engine.hub.counts()["connections"],
            lambda: running.accept(message("deaf", **LARGE)),
            FAR_MORE_THAN_FITS,
        )
        await client.lost(20)


async def test_a_replay_larger_than_the_queue_closes_nobody(running: Running) -> None:
    async with opened(running) as (_, hello):
        cursor = hello["cursor"]
    sent = [await running.accept(message("u1", **LARGE)) for _ in range(100)]
    async with opened(running) as (socket, _):
        await socket.send_json({"type": "resume", "cursor": cursor})
        got = [(await frame(socket, "notification"))["notification"]["notification_id"] for _ in sent]
    assert got == sent
