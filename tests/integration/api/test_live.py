"""The live inbox over WebSocket and SSE: opening, frames, resuming, ending."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import ClientResponse, ClientWebSocketResponse, WSMsgType, WSServerHandshakeError
from structlog.testing import capture_logs
from tests.integration.conftest import API, Running, Start, message, token

from notification_engine.domain.caller import Role

USER = token("u1", Role.USER)


@asynccontextmanager
async def opened(running: Running, as_: str = USER) -> AsyncIterator[tuple[ClientWebSocketResponse, dict[str, Any]]]:
    address = f"{running.address}{API}/ws"
    async with running.session.ws_connect(address, protocols=("bearer", as_)) as socket:
        assert socket.protocol == "bearer"
        yield socket, await socket.receive_json(timeout=5)


async def frame(socket: ClientWebSocketResponse, kind: str) -> dict[str, Any]:
    while True:
        received: dict[str, Any] = await socket.receive_json(timeout=10)
        if received["type"] == kind:
            return received


async def closed(socket: ClientWebSocketResponse) -> int | None:
    async with asyncio.timeout(10):
        while (await socket.receive()).type not in {WSMsgType.CLOSE, WSMsgType.CLOSED}:
            continue
    return socket.close_code


async def test_a_notification_arrives_with_its_cursor_and_count(running: Running) -> None:
    async with opened(running) as (socket, hello):
        assert (hello["type"], hello["unread_count"]) == ("hello", 0)
        notification_id = await running.accept(message("u1"))
        await running.accept(message("u2"))
        received = await frame(socket, "notification")
        assert received["notification"]["notification_id"] == notification_id
        assert received["cursor"]
        _, one = await running.call("GET", f"/{notification_id}", as_=USER)
        assert received["notification"]["title"] == one["title"]


async def test_reading_by_socket_is_told_to_every_socket(running: Running) -> None:
    notification_id = await running.accept(message("u1"))
    async with opened(running) as (one, _), opened(running) as (two, hello):
        assert hello["unread_count"] == 1
        await one.send_json({"type": "read", "notification_id": notification_id})
        assert (await frame(two, "unread_count"))["unread_count"] == 0
    assert (await running.call("GET", f"/{notification_id}", as_=USER))[1]["read_at"]


async def test_resume_replays_what_was_missed_in_order(running: Running) -> None:
    async with opened(running) as (_, hello):
        cursor = hello["cursor"]
    sent = [await running.accept(message("u1")) for _ in range(5)]
    async with opened(running) as (socket, _):
        await socket.send_json({"type": "resume", "cursor": cursor})
        got = [(await frame(socket, "notification"))["notification"]["notification_id"] for _ in sent]
    assert got == sent


async def test_what_surfaces_while_resuming_is_not_lost(running: Running) -> None:
    async with opened(running) as (_, hello):
        cursor = hello["cursor"]
    before = [await running.accept(message("u1")) for _ in range(20)]
    async with opened(running) as (socket, _):
        await socket.send_json({"type": "resume", "cursor": cursor})
        during = await asyncio.gather(*(running.accept(message("u1")) for _ in range(20)))
        wanted = {*before, *during}
        while wanted:
            wanted.discard((await frame(socket, "notification"))["notification"]["notification_id"])


@pytest.mark.parametrize("text", ["{", '"x"', '{"type": "dance"}', '{"type": "resume"}'])
async def test_what_is_not_understood_is_said_and_ends(running: Running, text: str) -> None:
    async with opened(running) as (socket, _):
        await socket.send_str(text)
        assert (await frame(socket, "error"))["detail"]
        assert await closed(socket) == 1008


async def test_a_binary_frame_is_not_understood(running: Running) -> None:
    async with opened(running) as (socket, _):
        await socket.send_bytes(b'{"type": "pong"}')
        assert (await frame(socket, "error"))["detail"]
        assert await closed(socket) == 1008
    async with running.session.ws_connect(f"{running.address}{API}/ws") as socket:
        await socket.send_bytes(b'{"type": "auth"}')
        assert await closed(socket) == 1008


async def test_text_that_is_no_utf8_ends_the_socket_and_is_no_defect(
    running: Running, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(running) as (socket, _):
        await socket._writer.send_frame(b"\xed\xa0\x80", WSMsgType.TEXT)  # the client's own check is passed by
        assert await closed(socket) == 1007
    told = [line for line in caplog.records if "UTF-8" in line.getMessage()]
    assert [(line.levelname, line.exc_info) for line in told] == [("WARNING", None)]


@pytest.mark.parametrize("greeted", [True, False])
async def test_an_answer_to_a_client_that_broke_the_protocol_is_no_defect(running: Running, greeted: bool) -> None:
    """A message that is answered, and in the same segment text that is no UTF-8: the server closes before we answer."""
    text = json.dumps({"type": "read", "notification_id": await running.accept(message("u1"))}).encode()
    masked = bytes([0x81, 0x80 | len(text)]) + bytes(4) + text
    protocols = ("bearer", USER) if greeted else ()
    with capture_logs() as logged:
        async with running.session.ws_connect(f"{running.address}{API}/ws", protocols=protocols) as socket:
            if greeted:
                assert (await socket.receive_json(timeout=5))["type"] == "hello"
            socket._writer.transport.write(masked + b"\x81\x82" + bytes(4) + b"\xff\xff")
            assert await closed(socket) == 1007
        await until_gone(running)
    assert not [line for line in logged if line["log_level"] == "error"]


async def until_gone(running: Running) -> None:
    async with asyncio.timeout(10):
        while (await running.call("GET", "/health/channels"))[1]["in_app"]["live"]["connections"]:  # noqa: ASYNC110 - a figure, no signal
            await asyncio.sleep(0.02)


async def test_a_bad_cursor_is_an_error_frame_and_the_socket_lives(running: Running) -> None:
    async with opened(running) as (socket, _):
        await socket.send_json({"type": "resume", "cursor": "nonsense"})
        assert (await frame(socket, "error"))["field"] == "cursor"
        await running.accept(message("u1"))
        await frame(socket, "notification")


async def test_a_ticket_opens_one_socket_once(running: Running) -> None:
    _, answer = await running.call("POST", "/ws/ticket", as_=USER)
    address = f"{running.address}{API}/ws?ticket={answer['ticket']}"
    async with running.session.ws_connect(address) as socket:
        assert (await socket.receive_json(timeout=5))["type"] == "hello"
    async with running.session.ws_connect(address) as socket:
        assert await closed(socket) == 1008


async def test_the_first_message_may_bring_the_token(running: Running) -> None:
    async with running.session.ws_connect(f"{running.address}{API}/ws") as socket:
        await socket.send_json({"type": "auth", "token": USER})
        assert (await socket.receive_json(timeout=5))["type"] == "hello"
    for bad in ({"type": "auth", "token": "x"}, {"type": "read"}):
        async with running.session.ws_connect(f"{running.address}{API}/ws") as socket:
            await socket.send_json(bad)
            assert await closed(socket) == 1008


async def test_a_token_in_the_address_is_refused(running: Running) -> None:
    async with running.session.ws_connect(f"{running.address}{API}/ws?token={USER}") as socket:
        assert await closed(socket) == 1008


async def test_a_foreign_origin_is_refused(running: Running) -> None:
    with pytest.raises(Exception, match="403"):
        await running.session.ws_connect(
            f"{running.address}{API}/ws", protocols=("bearer", USER), origin="https://evil.example"
        )


async def test_a_socket_ends_when_its_token_does(running: Running) -> None:
    async with opened(running, token("u1", Role.USER, minutes=0.05)) as (socket, _):
        assert await closed(socket) == 1008


async def test_connections_are_bounded_and_counted(start: Start) -> None:
    running = await start(WEBSOCKET_MAX_CONNECTIONS=1)
    async with opened(running):
        _, shown = await running.call("GET", "/health/channels")
        assert shown["in_app"]["live"]["connections"] == 1
        async with running.session.ws_connect(f"{running.address}{API}/ws", protocols=("bearer", USER)) as second:
            assert await closed(second) == 1013


async def test_drain_says_when_to_come_back_and_closes_with_1012(start: Start) -> None:
    running = await start()
    headers = {"Authorization": f"Bearer {USER}"}
    async with (
        opened(running) as (socket, _),
        running.session.get(f"{running.address}{API}/stream", headers=headers) as answer,
    ):
        assert (await event(answer))["event"] == "hello"
        drain = asyncio.create_task(running.engine.drain())
        assert 0 <= (await frame(socket, "reconnect"))["after_ms"] <= 1000
        assert await closed(socket) == 1012
        last = await event(answer)
        assert (last["event"], json.loads(last["data"])["after_ms"]) == ("reconnect", int(last["retry"]))
        assert await answer.content.read() == b"", "the stream has ended"
        await drain


async def test_who_comes_while_it_stops_is_sent_elsewhere(start: Start) -> None:
    """By an HTTP answer, not by a close code: a load balancer reads only the former."""
    running = await start()
    running.engine.hub.close_all(1012)
    with pytest.raises(WSServerHandshakeError) as refused:
        await running.session.ws_connect(f"{running.address}{API}/ws", protocols=("bearer", USER))
    assert refused.value.status == 503
    headers = {"Authorization": f"Bearer {USER}"}
    async with running.session.get(f"{running.address}{API}/stream", headers=headers) as answer:
        assert (answer.status, answer.headers["Retry-After"]) == (503, "5")


async def event(answer: ClientResponse) -> dict[str, str]:
    """The next server-sent event that is no comment."""
    fields: dict[str, str] = {}
    async with asyncio.timeout(10):
        while True:
            line = (await answer.content.readline()).decode().rstrip("\n")
            if not line and fields:
                return fields
            name, _, value = line.partition(": ")
            if name:
                fields[name] = value


async def test_sse_brings_the_same_frames_and_resumes(running: Running) -> None:
    headers = {"Authorization": f"Bearer {USER}"}
    async with running.session.get(f"{running.address}{API}/stream", headers=headers) as answer:
        assert answer.content_type == "text/event-stream"
        hello = await event(answer)
        assert hello["event"] == "hello"
        first = await running.accept(message("u1"))
        live = await event(answer)
        while live["event"] != "notification":
            live = await event(answer)
        assert json.loads(live["data"])["notification"]["notification_id"] == first
    second = await running.accept(message("u1"))
    resuming = headers | {"Last-Event-ID": live["id"]}
    got: list[str] = []
    async with running.session.get(f"{running.address}{API}/stream", headers=resuming) as answer:
        while second not in got:
            fields = await event(answer)
            if fields["event"] == "notification":
                got.append(json.loads(fields["data"])["notification"]["notification_id"])
