"""One life of the link to Redis: its nodes found, the needed commands tried, two connections to each node.

Invariant: whatever is wrong (a cut, silence, a slot or a master that moved) ends the whole link with `LinkLost`, and
the bus opens a new one. Nothing is repaired in place: what the link carries are hints.
"""

import asyncio
import math
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any

from redis.asyncio import Connection, SSLConnection
from redis.crc import key_slot
from redis.exceptions import AuthenticationError, MovedError, NoPermissionError, RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeout

from notification_engine.realtime.redis_address import RedisAddress, RedisKind

ANSWER_SECONDS = 2.0  # a node that takes longer is as good as gone
BEAT_SECONDS = 1.0
SILENCE_SECONDS = 3.0
PLACE_BEATS = 10  # how often the sentinels are asked again
PROBES = 16  # channels tried at the start: a node of a Cluster, addressed as a single server, refuses some of them

Command = tuple[str | bytes, ...]


class LinkLost(Exception):
    """The text is ours, and fit for a log. `fatal`: trying again does not help; a person has to change something."""

    def __init__(self, reason: str, *, fatal: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.fatal = fatal


def lost(error: BaseException) -> LinkLost:
    """What a driver's error means; its own text may hold an address and is left out."""
    name = type(error).__name__
    match error:
        case LinkLost():
            return error
        case AuthenticationError():
            return LinkLost("the server refused the user or the password", fatal=True)
        case NoPermissionError():
            return LinkLost("the user may not use the commands or channels that are needed", fatal=True)
        case MovedError():
            return LinkLost("a channel is on another node now")
        case ResponseError() if "unknown command" in str(error).lower():
            return LinkLost("the server lacks a needed command", fatal=True)
        case ResponseError() if "cluster support disabled" in str(error):
            return LinkLost("the server is no Cluster", fatal=True)
        case ResponseError() if str(error).startswith(("NOAUTH", "Authentication required")):
            return LinkLost("the server wants a password", fatal=True)
        case ResponseError():
            return LinkLost(f"the server refused a command ({name})")
        case TimeoutError() | RedisTimeout():
            return LinkLost("the server does not answer")
        case _:
            return LinkLost(f"the server cannot be reached ({name})")


FAULTS = (LinkLost, RedisError, OSError, TimeoutError, ValueError)


class Node:
    """Two connections to one server: what is told, and what is heard."""

    def __init__(self, connect: Callable[[], Connection]) -> None:
        self.told, self.heard = connect(), connect()
        self.heard_at = time.monotonic()

    async def open(self) -> None:
        await self.told.connect()  # type: ignore[no-untyped-call]
        await self.heard.connect()  # type: ignore[no-untyped-call]
        self.heard_at = time.monotonic()

    async def open_to_ask(self) -> None:
        await self.told.connect()  # type: ignore[no-untyped-call]
        await self.ask([("PING",)])  # who accepts a connection may still stand still

    async def close(self) -> None:
        for connection in (self.told, self.heard):
            await connection.disconnect(nowait=True)

    async def ask(self, commands: Sequence[Command]) -> list[Any]:
        """In one write. Raises the first error among the answers, once all are read."""
        packed = [part for command in commands for part in self.told.pack_command(*command)]
        async with asyncio.timeout(ANSWER_SECONDS):
            await self.told.send_packed_command(packed, check_health=False)
            return await _answers(self.told, len(commands))

    async def order(self, commands: Iterable[Command]) -> None:
        """On the hearing side, whose answers come between the messages."""
        packed = [part for command in commands for part in self.heard.pack_command(*command)]
        async with asyncio.timeout(ANSWER_SECONDS):
            await self.heard.send_packed_command(packed, check_health=False)

    async def next(self) -> Any:
        answer = await self.heard.read_response(timeout=math.inf)
        self.heard_at = time.monotonic()
        return answer


async def _answers(connection: Connection, count: int) -> list[Any]:
    """So many. A refusal in between is raised after the last, so that none is left for the next who reads."""
    answers, refused = [], None
    for _ in range(count):
        try:
            answers.append(await connection.read_response(timeout=math.inf, disconnect_on_error=False))
        except ResponseError as error:
            refused = refused or error
    if refused is not None:
        raise refused
    return answers


class Link:
    """`sharded`: SSUBSCRIBE and SPUBLISH, where the server has them."""

    def __init__(self, address: RedisAddress, heard: Callable[[bytes, bytes], None]) -> None:
        self._address = address
        self._heard = heard
        self._nodes: list[Node] = []
        self._slots: list[tuple[int, int, Node]] = []
        self._master: tuple[str, int] | None = None
        self._leaving: Counter[bytes] = Counter()
        self.sharded = True

    async def open(self, probe: str) -> None:
        """Raises LinkLost. `probe` is the beginning of channels that nobody else uses."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS * 2):
                await self._find()
                await asyncio.gather(*(node.open() for node in self._nodes))
                await self._try([f"{probe}{i}".encode() for i in range(PROBES)])
        except FAULTS as error:
            await self.close()
            raise lost(error) from None

    async def open_to_ask(self) -> None:
        """Without the hearing side, for `ask_by_key` alone. Raises LinkLost."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS * 2):
                await self._find()
                await asyncio.gather(*(node.open_to_ask() for node in self._nodes))
        except FAULTS as error:
            await self.close()
            raise lost(error) from None

    async def close(self) -> None:
        for node in self._nodes:
            await node.close()

    async def ask_by_key(self, asked: Sequence[tuple[bytes, Sequence[Command]]]) -> list[list[Any]]:
        """The answers to each key's commands, in the order of `asked`; one write for each node."""
        nodes = [self._node_of(key) if len(self._nodes) > 1 else self._nodes[0] for key, _ in asked]
        answers: list[list[Any]] = [[] for _ in asked]

        async def ask(node: Node) -> None:
            places = [place for place, at in enumerate(nodes) if at is node]
            flat = iter(await node.ask([command for place in places for command in asked[place][1]]))
            for place in places:
                answers[place] = [next(flat) for _ in asked[place][1]]

        await asyncio.gather(*(ask(node) for node in dict.fromkeys(nodes)))
        return answers

    async def run(self, telling: Coroutine[Any, Any, None]) -> None:
        """Hears until something is wrong; `telling` lives as long. Always ends with LinkLost, or by cancellation."""
        tasks = [asyncio.create_task(self._listen(node)) for node in self._nodes]
        tasks += [asyncio.create_task(self._beat()), asyncio.create_task(telling)]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self.close()
        error = next(iter(done)).exception()
        if error is None or not isinstance(error, FAULTS):
            raise error or LinkLost("it ended")
        raise lost(error) from None

    async def subscribe(self, channels: Iterable[bytes], *, leave: bool = False) -> None:
        """One command a channel, because those of a Cluster's node may stand in several slots."""
        channels = list(channels)
        verb = ("S" if self.sharded else "") + ("UNSUBSCRIBE" if leave else "SUBSCRIBE")
        if leave:
            self._leaving.update(channels)
        for node, own in self._by_node((channel, b"") for channel in channels):
            await node.order([(verb, channel) for channel, _ in own])

    async def publish(self, messages: Iterable[tuple[bytes, bytes]]) -> None:
        verb = "SPUBLISH" if self.sharded else "PUBLISH"
        await asyncio.gather(
            *(node.ask([(verb, *message) for message in own]) for node, own in self._by_node(messages))
        )

    def _by_node(self, messages: Iterable[tuple[bytes, bytes]]) -> Iterable[tuple[Node, list[tuple[bytes, bytes]]]]:
        if len(self._nodes) == 1:
            return [(self._nodes[0], list(messages))]
        found: dict[Node, list[tuple[bytes, bytes]]] = {}
        for message in messages:
            found.setdefault(self._node_of(message[0]), []).append(message)
        return found.items()

    def _node_of(self, channel: bytes) -> Node:
        if not self.sharded:
            return self._nodes[0]  # the nodes of a Cluster pass on what is published to one of them
        slot = key_slot(channel)
        for first, last, node in self._slots:
            if first <= slot <= last:
                return node
        raise LinkLost("the Cluster does not cover all slots")

    async def _find(self) -> None:
        match self._address.kind:
            case RedisKind.SINGLE:
                self._nodes = [self._node(*self._address.hosts[0])]
            case RedisKind.SENTINEL:
                self._master = await self._first_that_answers(self._ask_sentinel)
                self._nodes = [self._node(*self._master)]
            case RedisKind.CLUSTER:
                slots = await self._first_that_answers(self._ask_cluster)
                nodes = {place: self._node(*place) for _, _, place in slots}
                self._nodes = list(nodes.values())
                self._slots = [(first, last, nodes[place]) for first, last, place in slots]

    async def _first_that_answers(self, ask: Callable[[str, int], Coroutine[Any, Any, Any]]) -> Any:
        error: BaseException = LinkLost("no host is named")
        for host, port in self._address.hosts:
            try:
                return await ask(host, port)
            except FAULTS as failed:
                error = failed
        raise error

    async def _ask_sentinel(self, host: str, port: int) -> tuple[str, int]:
        a, service = self._address, self._address.service or ""
        connection = self._connection(host, port, a.sentinel_username, a.sentinel_password)
        found = await _asked(connection, ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", service))
        if not found:
            raise LinkLost(f"the sentinels know no service {service!r}", fatal=True)
        return found[0].decode(), int(found[1])

    async def _ask_cluster(self, host: str, port: int) -> list[tuple[int, int, tuple[str, int]]]:
        connection = self._connection(host, port, self._address.username, self._address.password)
        found = await _asked(connection, ("CLUSTER", "SLOTS"))
        if not found:
            raise LinkLost("the Cluster has no slots yet")
        return [(int(r[0]), int(r[1]), ((r[2][0] or b"").decode() or host, int(r[2][1]))) for r in found]

    async def _try(self, channels: list[bytes]) -> None:
        """Everything that is needed later, for real; a server from before sharded channels gets the plain ones."""
        try:
            await self._try_one_way(channels)
        except MovedError:
            if self._address.kind is RedisKind.CLUSTER:
                raise
            raise LinkLost("the server is a node of a Cluster: use redis+cluster://", fatal=True) from None
        except ResponseError as error:
            if not self.sharded or "unknown command" not in str(error).lower():
                raise
            self.sharded = False
            await self._try_one_way(channels)

    async def _try_one_way(self, channels: list[bytes]) -> None:
        prefix = "S" if self.sharded else ""
        for node, own in self._by_node((channel, b"") for channel in channels):
            for verb in ("SUBSCRIBE", "UNSUBSCRIBE"):
                await node.order([(prefix + verb, channel) for channel, _ in own])
                await _answers(node.heard, len(own))
            await node.ask([(f"{prefix}PUBLISH", channel, b"") for channel, _ in own])

    async def _listen(self, node: Node) -> None:
        while True:
            match await node.next():
                case [b"message" | b"smessage", channel, data]:
                    self._heard(channel, data)
                case [b"sunsubscribe" | b"unsubscribe", channel, _]:
                    self._was_left(channel)

    def _was_left(self, channel: bytes) -> None:
        """What we asked for, or else a slot that leaves its node: a Cluster tells the listeners so."""
        if not self._leaving[channel]:
            raise LinkLost("a channel is on another node now")
        self._leaving[channel] -= 1
        if not self._leaving[channel]:
            del self._leaving[channel]

    async def _beat(self) -> None:
        """A node that stands still keeps its connections open: it is asked, and has to answer."""
        for beat in range(1, 2**62):
            await asyncio.sleep(BEAT_SECONDS)
            if time.monotonic() - min(node.heard_at for node in self._nodes) > SILENCE_SECONDS:
                raise TimeoutError
            for node in self._nodes:
                await node.order([("PING",)])
            if self._master and beat % PLACE_BEATS == 0:
                await self._still_the_master()

    async def _still_the_master(self) -> None:
        """Sentinels that are away are no reason to leave a master that answers."""
        try:
            master = await self._first_that_answers(self._ask_sentinel)
        except FAULTS:
            return
        if master != self._master:
            raise LinkLost("another server is the master now")

    def _node(self, host: str, port: int) -> Node:
        return Node(lambda: self._connection(host, port, self._address.username, self._address.password))

    def _connection(self, host: str, port: int, username: str | None, password: str | None) -> Connection:
        plain: dict[str, Any] = {
            "host": host,
            "port": port,
            "username": username,
            "password": password,
            "protocol": 2,
            "socket_timeout": ANSWER_SECONDS,
            "socket_connect_timeout": ANSWER_SECONDS,
            "driver_info": None,
        }
        if self._address.tls:
            plain |= dict(self._address.tls_options)
            return SSLConnection(**plain)
        return Connection(**plain)


async def _asked(connection: Connection, command: Command) -> Any:
    try:
        await connection.connect()  # type: ignore[no-untyped-call]
        await connection.send_command(*command)
        return await connection.read_response()
    finally:
        await connection.disconnect(nowait=True)
