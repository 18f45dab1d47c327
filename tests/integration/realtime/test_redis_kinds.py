"""What a start refuses by name, TLS, and servers whose masters or slots move."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from tests.servers.redis import RedisCluster, RedisSentinel, RedisServer, free_ports, redis_7, valkey
from tests.servers.tcp import TcpServer, saying, silent
from tests.servers.tls import certificate

from notification_engine.domain.errors import ConfigurationError
from notification_engine.realtime import redis_bus, redis_link
from notification_engine.realtime.redis_address import parse_redis_url
from notification_engine.realtime.redis_bus import RedisBus


def a_bus(url: str, replica: str = "one") -> RedisBus:
    return RedisBus(parse_redis_url(url), namespace="ne:test", replica=replica)


async def refused(url: str) -> str:
    bus = a_bus(url)
    with pytest.raises(ConfigurationError) as error:
        await bus.start()
    await bus.stop()
    text = str(error.value)
    assert text.startswith("REDIS_URL: ")
    assert "geheim" not in text
    return text


Start = Callable[..., Awaitable[RedisServer]]


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Start]:
    started: list[RedisServer | RedisCluster | RedisSentinel] = []

    async def begin(given: RedisServer) -> RedisServer:
        started.append(given)
        await given.start()
        return given

    yield begin
    for one in started:
        await one.kill()


async def test_a_wrong_password_is_refused(server: Start, tmp_path: Path) -> None:
    place = await server(RedisServer(redis_7(), tmp_path, "--requirepass", "right"))
    host = f"127.0.0.1:{place.port}"
    for wrong in (f"redis://:geheim@{host}", f"redis://ada:geheim@{host}"):
        assert "password" in await refused(wrong)
    assert "password" in await refused(f"redis://{host}")


async def test_a_user_without_rights_is_refused(server: Start, tmp_path: Path) -> None:
    place = await server(RedisServer(valkey(), tmp_path))
    await place.ask("ACL", "SETUSER", "ada", "on", ">geheim", "+@all", "resetchannels", "&other:*")
    assert "may not" in await refused(f"redis://ada:geheim@127.0.0.1:{place.port}")


@pytest.mark.parametrize("command", ["PUBLISH", "SUBSCRIBE"])
async def test_a_server_without_a_needed_command_is_refused(server: Start, tmp_path: Path, command: str) -> None:
    names = [part for c in ("SSUBSCRIBE", command) for part in ("--rename-command", c, "")]
    place = await server(RedisServer(redis_7(), tmp_path, *names))
    assert "lacks a needed command" in await refused(place.url)


async def test_who_does_not_answer_is_refused_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_bus, "START_SECONDS", 0.2)
    assert "cannot be reached" in await refused(f"redis://127.0.0.1:{free_ports(1)[0]}")
    assert "cannot be reached" in await refused("redis+cluster://127.0.0.1:1,127.0.0.1:2")
    for talk, word in ((silent, "answer"), (saying(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "reached")):
        other = TcpServer(talk)
        await other.start()
        assert word in await refused(f"redis://127.0.0.1:{other.port}")
        await other.stop()


async def test_the_wrong_kind_of_address_is_refused(server: Start, tmp_path: Path) -> None:
    place = await server(RedisServer(valkey(), tmp_path))
    assert "no Cluster" in await refused(f"redis+cluster://127.0.0.1:{place.port}")
    assert "lacks a needed command" in await refused(f"redis+sentinel://127.0.0.1:{place.port}/main")
    cluster = RedisCluster(valkey(), tmp_path)
    await cluster.start()
    try:
        assert "redis+cluster" in await refused(cluster.nodes[1].url)
    finally:
        await cluster.kill()


async def test_an_unknown_service_is_refused(tmp_path: Path) -> None:
    sentinel = RedisSentinel(redis_7(), tmp_path)
    try:
        await sentinel.start()
        assert "service" in await refused(sentinel.url.replace("/main", "/other"))
    finally:
        await sentinel.kill()


RIGHTS = ("on", ">p", "&ne:*", "-@all", "+@pubsub", "+ping")  # as docs/scaling.md says


async def test_the_documented_rights_are_enough(server: Start, tmp_path: Path) -> None:
    place = await server(RedisServer(redis_7(), tmp_path))
    await place.ask("ACL", "SETUSER", "engine", *RIGHTS)
    cluster = RedisCluster(valkey(), tmp_path)
    try:
        await cluster.start()
        for node in cluster.nodes:
            await node.ask("ACL", "SETUSER", "engine", *RIGHTS, "+cluster|slots")
        for url in (place.url, cluster.url):
            mine = url.replace("://", "://engine:p@")
            one, two = a_bus(mine), a_bus(mine, "two")
            await one.start()
            await two.start()
            await heard_by(one, two, "user:u1")
            await one.stop()
            await two.stop()
    finally:
        await cluster.kill()


async def heard_by(teller: RedisBus, listener: RedisBus, topic: str) -> None:
    """Told again and again, until it arrives."""
    came = asyncio.Event()
    listener.listen(topic, lambda message: came.set())
    async with asyncio.timeout(30):
        while not came.is_set():
            teller.tell(topic, b"x")
            await asyncio.sleep(0.05)


async def test_a_failover_is_followed(tmp_path: Path) -> None:
    """The sentinel makes the replica the master: both buses meet there."""
    sentinel = RedisSentinel(redis_7(), tmp_path)
    buses: list[RedisBus] = []
    try:
        await sentinel.start()
        for name in ("one", "two"):
            buses.append(a_bus(sentinel.url, name))
            await buses[-1].start()
        await heard_by(*buses, "user:before")
        await sentinel.master.kill()
        async with asyncio.timeout(30):
            while "master" not in str(await sentinel.replica.ask("ROLE")):  # noqa: ASYNC110 - it tells nobody else
                await asyncio.sleep(0.05)
        await heard_by(*buses, "user:after")
        assert all(bus.figures()["links"] > 1 for bus in buses)
    finally:
        for bus in buses:
            await bus.stop()
        await sentinel.kill()


async def test_a_master_that_answers_needs_no_sentinel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_link, "PLACE_BEATS", 1)
    monkeypatch.setattr(redis_link, "BEAT_SECONDS", 0.05)
    asked = asyncio.Event()
    whole = redis_link.Link._still_the_master

    async def still(link: redis_link.Link) -> None:
        await whole(link)
        asked.set()

    monkeypatch.setattr(redis_link.Link, "_still_the_master", still)
    sentinel = RedisSentinel(redis_7(), tmp_path)
    bus = other = a_bus("redis://127.0.0.1")
    try:
        await sentinel.start()
        bus, other = a_bus(sentinel.url), a_bus(sentinel.url, "two")
        await bus.start()
        await other.start()
        assert sentinel.sentinel is not None
        await sentinel.sentinel.kill()
        for _ in range(3):
            asked.clear()
            await asyncio.wait_for(asked.wait(), 20)
        await heard_by(bus, other, "user:u1")
        assert bus.figures()["links"] == 1
    finally:
        await bus.stop()
        await other.stop()
        await sentinel.kill()


async def test_a_link_that_ends_by_a_fault_of_ours_is_opened_again(
    server: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = await server(RedisServer(valkey(), tmp_path))
    one, two = a_bus(place.url), a_bus(place.url, "two")
    await one.start()
    await two.start()
    await heard_by(one, two, "user:u1")

    async def broken(batch: object) -> None:
        raise RuntimeError("a fault of ours")

    assert one._link is not None
    monkeypatch.setattr(one._link, "publish", broken)
    await heard_by(one, two, "user:u2")
    assert one.figures()["links"] == 2
    await one.stop()
    await two.stop()


async def test_a_slot_that_moves_is_followed(tmp_path: Path) -> None:
    cluster = RedisCluster(valkey(), tmp_path)
    buses = []
    try:
        await cluster.start()
        for name in ("one", "two"):
            buses.append(a_bus(cluster.url, name))
            await buses[-1].start()
        topic = "user:u1"
        await heard_by(*buses, topic)
        slot = str(await cluster.nodes[0].ask("CLUSTER", "KEYSLOT", f"ne:test:{topic}"))
        ids = [str(await node.ask("CLUSTER", "MYID")).removeprefix("b'").removesuffix("'") for node in cluster.nodes]
        owner = int(slot) * 3 // 16384
        other = (owner + 1) % 3
        for node in (cluster.nodes[other], cluster.nodes[owner], cluster.nodes[3 - owner - other]):
            await node.ask("CLUSTER", "SETSLOT", slot, "NODE", ids[other])
        await heard_by(*buses, topic)
        await heard_by(*buses, "user:another")
    finally:
        for bus in buses:
            await bus.stop()
        await cluster.kill()


async def test_a_node_of_a_cluster_that_dies_and_returns(tmp_path: Path) -> None:
    cluster = RedisCluster(valkey(), tmp_path)
    buses = []
    try:
        await cluster.start()
        for name in ("one", "two"):
            buses.append(a_bus(cluster.url, name))
            await buses[-1].start()
        await cluster.nodes[0].kill()
        async with asyncio.timeout(20):
            while any(bus.shown()["status"] == "up" for bus in buses):  # noqa: ASYNC110 - a figure
                await asyncio.sleep(0.05)
        await cluster.nodes[0].start()
        for index in range(10):
            await heard_by(*buses, f"user:{index}")
    finally:
        for bus in buses:
            await bus.stop()
        await cluster.kill()


async def test_tls_is_spoken_and_the_certificate_checked(
    server: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pem, key = certificate(tmp_path)
    files = ("--tls-cert-file", pem, "--tls-key-file", key, "--tls-ca-cert-file", pem, "--tls-auth-clients", "no")
    place = await server(RedisServer(redis_7(), tmp_path, *files, tls=True))
    host = f"127.0.0.1:{place.port}"
    one, two = a_bus(f"rediss://{host}?ssl_ca_certs={pem}"), a_bus(f"rediss://{host}?ssl_ca_certs={pem}", "two")
    await one.start()
    await two.start()
    await heard_by(one, two, "user:u1")
    await one.stop()
    await two.stop()
    monkeypatch.setattr(redis_bus, "START_SECONDS", 0.2)
    for wrong in (f"rediss://{host}", f"redis://{host}"):
        assert "reached" in await refused(wrong)
