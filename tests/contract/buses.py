"""The buses of the contract: each kind of server, and what makes a bus for a replica of it."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tests.servers.redis import RedisCluster, RedisSentinel, RedisServer, redis_7, valkey

from notification_engine.realtime.local_bus import LocalBus
from notification_engine.realtime.redis_address import parse_redis_url
from notification_engine.realtime.redis_bus import RedisBus

Bus = LocalBus | RedisBus


class Server(Protocol):
    @property
    def url(self) -> str: ...
    async def start(self) -> None: ...
    async def kill(self) -> None: ...


KINDS: dict[str, Callable[[Path], Server]] = {
    "valkey": lambda directory: RedisServer(valkey(), directory),
    "redis-7": lambda directory: RedisServer(redis_7(), directory),
    "redis-7-password": lambda directory: Guarded(redis_7(), directory),
    "before-sharding": lambda directory: RedisServer(redis_7(), directory, *_renamed("SSUBSCRIBE", "SPUBLISH")),
    "cluster": lambda directory: RedisCluster(valkey(), directory),
    "sentinel": lambda directory: RedisSentinel(redis_7(), directory),
}
NAMES = ("local", *KINDS)


def _renamed(*commands: str) -> list[str]:
    """As a server that does not know them."""
    return [part for command in commands for part in ("--rename-command", command, "")]


class Guarded(RedisServer):
    """A user with a password that would not stand in an address as it is, and no more rights than are needed."""

    async def start(self) -> None:
        await super().start()
        rights = ("on", ">p@ss:w/rd", "&ne:*", "-@all", "+@pubsub", "+ping")
        await self.ask("ACL", "SETUSER", "ada", *rights)
        await self.ask("CONFIG", "SET", "requirepass", "of the default user")

    @property
    def url(self) -> str:
        return f"redis://ada:p%40ss%3Aw%2Frd@127.0.0.1:{self.port}"


@dataclass
class Buses:
    """`make(replica)` starts a bus of one replica; they all end with the test."""

    name: str
    make: Callable[[str], Awaitable[Bus]]
    server: Server | None

    @property
    def joins(self) -> bool:
        return self.server is not None


async def made(server: Server | None, replica: str) -> Bus:
    if server is None:
        return LocalBus()
    bus = RedisBus(parse_redis_url(server.url), namespace="ne:test", replica=replica)
    await bus.start()
    return bus
