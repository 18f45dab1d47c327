"""The nginx of Debian with the file that is deployed, before real engines: TLS, limits, streams, a lost engine."""

import asyncio
import json
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, TCPConnector
from tests.deploy.nginx import CONFIGURATION, Nginx, nginx_program
from tests.integration.conftest import API, Running, Start, message, token
from tests.integration.replicas.fleet import Fleet, Replica, until
from tests.integration.replicas.load import Load

from notification_engine.api.app import LIMITS, MAX_BODY_BYTES

Factory = pytest.TempPathFactory
AUTHORIZED = {"Authorization": f"Bearer {token()}"}
PLACES = {"rate=1000r/s": "rate=5r/s", "burst=2000": "burst=5"}


def port_of(running: Running) -> int:
    return int(running.address.rpartition(":")[2])


@pytest.fixture
async def nginx(running: Running, tmp_path: Path) -> AsyncIterator[Nginx]:
    server = Nginx(tmp_path, [port_of(running)])
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def client(nginx: Nginx) -> AsyncIterator[ClientSession]:
    """It checks the certificate."""
    async with ClientSession(nginx.address, connector=TCPConnector(ssl=nginx.trust()), headers=AUTHORIZED) as session:
        yield session


async def test_the_file_passes_nginx_itself_and_gixy(tmp_path: Path) -> None:
    server = Nginx(tmp_path, [1])
    words = (await nginx_program(), "-t", "-p", str(tmp_path), "-c", str(server.path))
    ended = await asyncio.to_thread(subprocess.run, words, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert "[warn]" not in ended.stderr
    gixy = [Path(sys.executable).with_name("gixy"), "--format", "json", CONFIGURATION]
    ended = await asyncio.to_thread(subprocess.run, gixy, capture_output=True, text=True, check=False)
    assert (ended.returncode, json.loads(ended.stdout)) == (0, [])


def handshake(port: int, version: ssl.TLSVersion) -> tuple[str | None, str | None]:
    """What was agreed on: the version and the application protocol."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")  # so that it is the server who refuses
    context.minimum_version = context.maximum_version = version
    context.set_alpn_protocols(["h2", "http/1.1"])
    with ssl.create_connection(("127.0.0.1", port)) as plain, context.wrap_socket(plain) as wrapped:
        return wrapped.version(), wrapped.selected_alpn_protocol()


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1:DeprecationWarning")
async def test_tls_is_1_2_or_1_3_with_http_2(nginx: Nginx) -> None:
    assert await asyncio.to_thread(handshake, nginx.port, ssl.TLSVersion.TLSv1_2) == ("TLSv1.2", "h2")
    assert await asyncio.to_thread(handshake, nginx.port, ssl.TLSVersion.TLSv1_3) == ("TLSv1.3", "h2")
    with pytest.raises(ssl.SSLError, match=r"(?i)protocol version"):
        await asyncio.to_thread(handshake, nginx.port, ssl.TLSVersion.TLSv1_1)


async def test_http_2_carries_requests(nginx: Nginx) -> None:
    words = ["curl", "-sS", "--http2", "--cacert", str(nginx.directory / "tls.crt"), "-w", "\n%{http_version}"]
    child = await asyncio.create_subprocess_exec(*words, f"{nginx.address}/health", stdout=asyncio.subprocess.PIPE)
    out, _ = await child.communicate()
    body, version = out.decode().rsplit("\n", 1)
    assert (json.loads(body)["status"], version) == ("ok", "2")


async def test_plain_http_is_sent_to_https(nginx: Nginx, client: ClientSession) -> None:
    address = f"http://127.0.0.1:{nginx.plain_port}{API}?x=1"
    async with client.get(address, allow_redirects=False) as answer:
        assert (answer.status, answer.headers["Location"]) == (308, f"https://127.0.0.1{API}?x=1")
    async with client.get("/health") as answer:
        assert answer.headers["Strict-Transport-Security"] == "max-age=31536000"


async def test_a_web_socket_lives_through_it(client: ClientSession) -> None:
    async with client.ws_connect(f"{API}/ws", protocols=("bearer", token("u1"))) as socket:
        assert (await socket.receive_json(timeout=10))["type"] == "hello"
        async with client.post(API, json=message("u1")) as answer:
            assert answer.status == 202
        frame = await socket.receive_json(timeout=10)
        assert (frame["type"], frame["notification"]["title"]) == ("notification", "Hello")


async def test_an_event_stream_is_not_held_back(client: ClientSession) -> None:
    headers = {"Authorization": f"Bearer {token('u1')}"}
    async with client.get(f"{API}/stream", headers=headers) as stream, asyncio.timeout(10):
        assert await stream.content.readline() == b"event: hello\n", "before anything else comes"
        async with client.post(API, json=message("u1")) as answer:
            assert answer.status == 202
        while await stream.content.readline() != b"event: notification\n":
            pass


async def problem(answer: Any) -> dict[str, Any]:
    assert answer.content_type == "application/problem+json", await answer.text()
    body: dict[str, Any] = await answer.json(content_type=None)
    assert body["status"] == answer.status
    return body


async def test_a_body_that_is_too_large_is_a_problem_that_nginx_tells(client: ClientSession) -> None:
    """The limits are the engine's own."""
    paths = {API: MAX_BODY_BYTES, **LIMITS}
    for path, limit in paths.items():
        async with client.post(path, data=b" " * (limit + 1), headers={"Content-Type": "application/json"}) as answer:
            assert answer.status == 413, path
            own = await problem(answer)
        assert own["type"] == "urn:notification-engine:problem:too-large"
        assert "request_id" not in own, "the engine was not troubled"
        async with client.post(path, data=b" " * limit, headers={"Content-Type": "application/json"}) as answer:
            assert answer.status in {415, 422}, "as much as that reaches the engine"
            assert "request_id" in await problem(answer)


async def test_a_flood_from_one_address_is_a_problem_with_retry_after(running: Running, tmp_path: Path) -> None:
    server = await Nginx(tmp_path, [port_of(running)], PLACES).start()
    try:
        connector = TCPConnector(ssl=server.trust())
        async with ClientSession(server.address, connector=connector) as session:
            refused = [answer for _ in range(20) if (answer := await session.get("/health")).status == 429]
            assert refused
            assert refused[0].headers["Retry-After"] == "1"
            assert (await problem(refused[0]))["type"] == "urn:notification-engine:problem:rate-limited"
    finally:
        await server.stop()


async def test_figures_are_for_those_inside(running: Running, tmp_path: Path) -> None:
    inside = "allow 127.0.0.0/8;"
    server = await Nginx(tmp_path, [port_of(running)], {inside: ""}).start()
    try:
        async with ClientSession(server.address, connector=TCPConnector(ssl=server.trust())) as session:
            for path in ("/metrics", f"{API}/health/metrics", f"{API}/health/status"):
                async with session.get(path) as answer:
                    assert answer.status == 403, path
                    await problem(answer)
            async with session.get("/health") as answer:
                assert answer.status == 200
    finally:
        await server.stop()


async def echoed(headers: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """The headers that a server behind it gets."""
    got: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        got.set_result(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        writer.close()

    upstream = await asyncio.start_server(answer, "127.0.0.1", 0)
    server = await Nginx(tmp_path, [upstream.sockets[0].getsockname()[1]]).start()
    try:
        connector = TCPConnector(ssl=server.trust())
        async with ClientSession(connector=connector) as session, session.get(f"{server.address}/x", headers=headers):
            lines = (await got).decode().split("\r\n")[1:]
    finally:
        await server.stop()
        upstream.close()
    return {name.lower(): value for name, _, value in (line.partition(": ") for line in lines if line)}


async def test_what_a_client_claims_of_itself_is_not_passed_on(tmp_path: Path) -> None:
    claims = {
        "X-Forwarded-For": "203.0.113.9",
        "X-Forwarded-Proto": "gopher",
        "X-Forwarded-Host": "evil.example",
        "X-Real-IP": "203.0.113.9",
        "Forwarded": "for=203.0.113.9",
    }
    got = await echoed(claims, tmp_path)
    told = {name: got.get(name.lower()) for name in claims}
    assert told == {
        "X-Forwarded-For": "127.0.0.1",
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": "127.0.0.1",
        "X-Real-IP": "127.0.0.1",
        "Forwarded": None,
    }


async def test_no_secret_stands_in_the_access_log(nginx: Nginx, client: ClientSession) -> None:
    async with client.get(f"{API}/ws?ticket=TICKET"), client.get(f"{API}/unsubscribe/TOKEN"):
        pass
    async with client.get("/health"):
        pass

    async def written() -> bool:
        return '"/health"' in nginx.access()

    await until(written, 5, "the last line of the access log")
    lines = [json.loads(line) for line in nginx.access().splitlines()]
    assert [line["path"] for line in lines] == [f"{API}/ws", f"{API}/unsubscribe/...", "/health"]
    assert "TICKET" not in nginx.access()
    assert "TOKEN" not in nginx.access()


async def test_no_engine_at_all_is_a_problem_with_retry_after(tmp_path: Path) -> None:
    server = await Nginx(tmp_path, [9]).start()
    try:
        connector = TCPConnector(ssl=server.trust())
        async with ClientSession(connector=connector) as session, session.get(f"{server.address}{API}") as answer:
            assert answer.status == 503
            assert answer.headers["Retry-After"] == "2"
            assert (await problem(answer))["type"] == "urn:notification-engine:problem:unavailable"
    finally:
        await server.stop()


async def taken_away(fleet: Fleet, folder: Path, take: Callable[[Replica], Awaitable[Any]], *, resends: bool) -> Load:
    """One of two engines, under load; what the load saw."""
    victim, other = await fleet.start("all", "all", DRAIN_DELAY_SECONDS="1")
    server = await Nginx(folder, [victim.port, other.port]).start()
    load = Load(fleet.session, server.address, resends=resends)
    senders = [asyncio.create_task(load.run(i)) for i in range(4)]
    try:
        await until(lambda: beyond(load, 30), 60, "load before one goes")
        await take(victim)
        sent = len(load.ids)
        await until(lambda: beyond(load, sent + 30), 60, "load after one has gone")
    finally:
        load.end()
        results = await asyncio.gather(*senders, return_exceptions=True)
        await server.stop()
    assert [repr(r) for r in results if r is not None] + load.failed == [], server.errors()
    assert len(set(load.ids)) == len(load.ids), "every request made a notification of its own"
    return load


async def beyond(load: Load, count: int) -> bool:
    return len(load.ids) >= count


async def test_an_engine_is_stopped_under_load_and_no_request_fails(fleet: Fleet, tmp_path_factory: Factory) -> None:
    await taken_away(fleet, tmp_path_factory.mktemp("nginx"), Replica.terminate, resends=False)


async def test_an_engine_is_killed_under_load_and_no_request_fails(fleet: Fleet, tmp_path_factory: Factory) -> None:
    """nginx asks the other one for all that has no answer. An answer whose head was passed on already can break off in
    the middle, at most one a connection; its request is sent again, with its key."""
    load = await taken_away(fleet, tmp_path_factory.mktemp("nginx"), Replica.kill, resends=True)
    assert load.broken_off <= 4


async def refusals(address: str, connector: TCPConnector) -> list[int]:
    """Statuses of ten requests with a bad token, each of which claims another client."""
    statuses = []
    async with ClientSession(address, connector=connector) as session:
        for number in range(10):
            headers = {"Authorization": "Bearer x", "X-Forwarded-For": f"203.0.113.{number}"}
            async with session.get(API, headers=headers) as answer:
                statuses.append(answer.status)
    return statuses


async def test_forwarded_addresses_are_believed_of_the_proxy_alone(start: Start, tmp_path: Path) -> None:
    """Refused tokens are limited by the client's address, so that is what can be seen here."""
    trusting = await start(RATE_LIMIT_AUTH="5/minute", TRUSTED_PROXIES=["127.0.0.0/8"])
    server = await Nginx(tmp_path, [port_of(trusting)]).start()
    try:
        assert 429 in await refusals(server.address, TCPConnector(ssl=server.trust())), "nginx tells who it is"
    finally:
        await server.stop()
    assert set(await refusals(trusting.address, TCPConnector())) == {401}, "ten clients, if a proxy says so"
    wary = await start(RATE_LIMIT_AUTH="5/minute", TRUSTED_PROXIES=["10.0.0.0/8"])
    assert 429 in await refusals(wary.address, TCPConnector()), "anybody else is one"
