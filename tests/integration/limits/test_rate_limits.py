"""Rate limits over real HTTP: who is refused, what the answer says, and who is not touched by it."""

import asyncio
from typing import Any

import aiohttp
import pytest
from tests.integration.conftest import API, Running, Start, message, token

from notification_engine.domain.caller import Role

OTHER = token("other", Role.USER, Role.SERVICE)


async def asked(running: Running, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any, Any]:
    """Status, headers, JSON; without a token unless one is among the headers."""
    sent = {k.replace("_", "-"): v for k, v in headers.items()}
    async with running.session.request(method, f"{running.address}{path}", json=body, headers=sent) as answer:
        text = await answer.read()
        is_json = "json" in answer.content_type
        return answer.status, answer.headers, (await answer.json(content_type=None) if is_json else text)


async def test_over_the_limit_is_429_with_when_to_come_back(start: Start) -> None:
    running = await start(RATE_LIMIT_READ="3/hour")
    bearer = {"Authorization": f"Bearer {token('u1', Role.USER)}"}
    told = [await asked(running, "GET", f"{API}/unread-count", **bearer) for _ in range(4)]
    assert [status for status, _, _ in told] == [200, 200, 200, 429]
    assert {headers["RateLimit-Policy"] for _, headers, _ in told} == {'"read";q=3;w=3600'}
    assert [headers["RateLimit"].partition(";t=")[0] for _, headers, _ in told] == [
        '"read";r=2',
        '"read";r=1',
        '"read";r=0',
        '"read";r=0',
    ]
    status, headers, problem = told[-1]
    assert headers["Content-Type"] == "application/problem+json"
    assert problem["type"] == "urn:notification-engine:problem:rate-limited"
    assert problem["status"] == status
    assert "u1" not in str(problem)
    wait = int(headers["Retry-After"])
    assert 1 <= wait <= 7200
    assert headers["RateLimit"].endswith(f";t={wait}")
    assert "Retry-After" not in told[0][1]


async def test_what_was_refused_is_counted(start: Start) -> None:
    running = await start(RATE_LIMIT_READ="1/hour")
    for _ in range(4):
        await running.call("GET", "/unread-count")
    async with running.session.get(f"{running.address}/metrics") as answer:
        text = await answer.text()
    assert 'notification_state{figure="rate_limit_refused_read"} 3.0' in text
    assert 'notification_state{figure="rate_limit_windows_read"} 1.0' in text


async def test_another_caller_and_another_class_are_not_touched(start: Start) -> None:
    running = await start(RATE_LIMIT_READ="1/hour", RATE_LIMIT_SEND="2/hour")
    user = token("u1", Role.USER, Role.SERVICE)
    assert (await running.call("GET", "/unread-count", as_=user))[0] == 200
    assert (await running.call("GET", "/unread-count", as_=user))[0] == 429
    assert (await running.call("GET", "/unread-count", as_=OTHER))[0] == 200
    assert (await running.call("POST", "/read-all", as_=user))[0] == 200
    assert (await running.call("POST", "", message(), as_=user))[0] == 202
    assert (await running.call("POST", "/batch", {"notifications": [message()]}, as_=user))[0] == 202
    assert (await running.call("POST", "/", message(), as_=user))[0] == 429


async def test_another_token_of_the_same_subject_brings_no_new_budget(start: Start) -> None:
    running = await start(RATE_LIMIT_READ="1/hour")
    statuses = [
        (await running.call("GET", "/unread-count", as_=token("u1", *roles, minutes=minutes)))[0]
        for roles, minutes in (((Role.USER,), 5), ((Role.USER,), 6), ((Role.OPERATOR,), 7))
    ]
    assert statuses == [200, 429, 429]


async def test_probes_are_never_refused(start: Start) -> None:
    limits = dict.fromkeys((f"RATE_LIMIT_{name}" for name in ("READ", "PUBLIC", "AUTH")), "1/hour")
    running = await start(**limits)
    for path in ("/health", "/metrics", f"{API}/health/status") * 3:
        status, headers, _ = await asked(running, "GET", path)
        assert status == 200
        assert "RateLimit" not in headers


async def test_nothing_is_limited_when_limits_are_off(start: Start) -> None:
    running = await start(RATE_LIMITS_ENABLED=False, RATE_LIMIT_READ="1/hour")
    for _ in range(3):
        assert (await running.call("GET", "/unread-count"))[0] == 200


async def test_whoever_tries_tokens_is_refused_and_holders_of_good_ones_are_not(start: Start) -> None:
    running = await start(RATE_LIMIT_AUTH="2/hour")
    bad = [await asked(running, "GET", f"{API}/unread-count", Authorization=f"Bearer bad{i}") for i in range(3)]
    assert [status for status, _, _ in bad] == [401, 401, 429]
    assert (await asked(running, "GET", f"{API}/unread-count"))[0] == 429
    assert (await running.call("GET", "/unread-count"))[0] == 200


@pytest.mark.parametrize("path", [f"{API}/unsubscribe/junk", f"{API}/callbacks/ses", f"{API}/callbacks/sendgrid"])
async def test_routes_without_a_caller_are_limited_by_address(start: Start, path: str) -> None:
    running = await start(RATE_LIMIT_PUBLIC="2/hour", TRUSTED_PROXIES=["127.0.0.0/8"])
    one, other = {"X_Forwarded_For": "198.51.100.7"}, {"X_Forwarded_For": "198.51.100.8"}
    assert [(await asked(running, "POST", path, **one))[0] == 429 for _ in range(3)] == [False, False, True]
    assert (await asked(running, "POST", path, **other))[0] != 429
    forged = {"X_Forwarded_For": "203.0.113.5, 198.51.100.7"}
    assert (await asked(running, "POST", path, **forged))[0] == 429


@pytest.mark.parametrize("header", ["X_Forwarded_For", "Forwarded", "X_Real_IP"])
async def test_an_untrusted_peer_cannot_choose_its_address(start: Start, header: str) -> None:
    running = await start(RATE_LIMIT_PUBLIC="2/hour", TRUSTED_PROXIES=[])
    path = f"{API}/unsubscribe/junk"
    statuses = [(await asked(running, "GET", path, **{header: f"for=198.51.100.{i}"}))[0] for i in range(3)]
    assert statuses == [404, 404, 429]


async def test_links_have_the_scheme_that_a_trusted_proxy_names(start: Start) -> None:
    async def scheme(running: Running) -> str:
        for _ in range(2):
            await running.accept(message("u1"))
        headers = {"Authorization": f"Bearer {token('u1')}", "X_Forwarded_Proto": "https"}
        _, answered, _ = await asked(running, "GET", f"{API}/?limit=1", **headers)
        return str(answered["Link"]).partition("://")[0]

    assert await scheme(await start()) == "<https"
    assert await scheme(await start(TRUSTED_PROXIES=[])) == "<http"


async def test_opening_sockets_and_streams_is_limited(start: Start) -> None:
    running = await start(RATE_LIMIT_LIVE="2/hour")
    user = token("u1", Role.USER)
    url = f"{running.address}{API}/ws"
    for _ in range(2):
        async with running.session.ws_connect(url, protocols=("bearer", user)) as socket:
            assert (await socket.receive_json())["type"] == "hello"
    async with running.session.ws_connect(url, protocols=("bearer", user)) as socket:
        closed = await socket.receive()
        assert (closed.type, closed.data) == (aiohttp.WSMsgType.CLOSE, 1008)
    assert (await running.call("GET", "/stream", as_=user))[0] == 429
    assert (await running.call("POST", "/ws/ticket", as_=user))[0] == 429
    assert (await running.call("GET", "/unread-count", as_=user))[0] == 200


async def test_strangers_cannot_keep_many_sockets_waiting_for_their_first_message(start: Start) -> None:
    running = await start(RATE_LIMIT_PUBLIC="2/hour")
    url = f"{running.address}{API}/ws"
    waiting = [await running.session.ws_connect(url) for _ in range(3)]
    closed = await waiting[2].receive()
    assert closed.data == 1008
    await waiting[0].send_json({"type": "auth", "token": token("u1", Role.USER)})
    assert (await waiting[0].receive_json())["type"] == "hello"
    for socket in waiting:
        await socket.close()


async def test_too_many_messages_close_the_socket_of_that_user_alone(start: Start) -> None:
    running = await start(RATE_LIMIT_MESSAGES="5/hour")
    url = f"{running.address}{API}/ws"
    async with (
        running.session.ws_connect(url, protocols=("bearer", token("u1", Role.USER))) as socket,
        running.session.ws_connect(url, protocols=("bearer", token("u2", Role.USER))) as other,
    ):
        await asyncio.gather(socket.receive_json(), other.receive_json())
        for _ in range(6):
            await socket.send_json({"type": "ack"})
        frame = await socket.receive_json()
        assert (frame["type"], frame["detail"]) == ("error", "Too many messages.")
        assert frame["retry_after"] >= 1
        assert (await socket.receive()).data == 1008
        await other.send_json({"type": "read", "notification_id": "ntfy_unknown"})
        assert (await other.receive_json())["type"] == "error"
        assert not other.closed
