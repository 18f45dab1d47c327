"""The connection to MongoDB: one client with majority, journaled writes, its pool counted and its clock asked.

Invariant: everything that storage writes through here is acknowledged by a majority and journaled.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import pymongo
from bson.codec_options import CodecOptions
from pymongo import AsyncMongoClient, WriteConcern, monitoring
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import PyMongoError
from pymongo.read_concern import ReadConcern

from notification_engine.domain.errors import ConfigurationError, Unavailable
from notification_engine.kit.clock import Clock
from notification_engine.storage.commands import CommandTimes, Observe

Document = dict[str, Any]
Session = AsyncClientSession
Answer = TypeVar("Answer")
SELECTION_SECONDS = 5
TRANSACTION_SECONDS = 10.0
MAJORITY = ReadConcern("majority")


class _PoolCounter(monitoring.ConnectionPoolListener):
    """Counts of this process's pool, kept from the driver's own events (CMAP specification)."""

    def __init__(self) -> None:
        self.open = self.in_use = 0
        self._waiting: set[asyncio.Task[Any] | None] = set()

    @property
    def waiting(self) -> int:
        """By task, because the driver says nothing when a wait is cancelled: who has ended waits no longer."""
        self._waiting = {task for task in self._waiting if task is None or not task.done()}
        return len(self._waiting)

    def connection_created(self, event: Any) -> None:
        self.open += 1

    def connection_closed(self, event: Any) -> None:
        self.open -= 1

    def connection_check_out_started(self, event: Any) -> None:
        self._waiting.add(asyncio.current_task())

    def connection_check_out_failed(self, event: Any) -> None:
        self._waiting.discard(asyncio.current_task())

    def connection_checked_out(self, event: Any) -> None:
        self._waiting.discard(asyncio.current_task())
        self.in_use += 1

    def connection_checked_in(self, event: Any) -> None:
        self.in_use -= 1

    def connection_ready(self, event: Any) -> None: ...
    def pool_created(self, event: Any) -> None: ...
    def pool_ready(self, event: Any) -> None: ...
    def pool_cleared(self, event: Any) -> None: ...
    def pool_closed(self, event: Any) -> None: ...


class Database:
    """Owns the client. `name` wins over the address's path. `observe`: told of each command that ended."""

    def __init__(self, url: str, name: str, *, pool_size: int, observe: Observe | None = None) -> None:
        self.name = name
        self._pool_size = pool_size
        self._pool = _PoolCounter()
        try:
            self._client: AsyncMongoClient[Document] = AsyncMongoClient(
                url,
                maxPoolSize=pool_size,
                tz_aware=True,
                serverSelectionTimeoutMS=SELECTION_SECONDS * 1000,
                # A server that stands still is given up after the sum of these two, and what waits for it is cut off.
                connectTimeoutMS=SELECTION_SECONDS * 1000,
                heartbeatFrequencyMS=SELECTION_SECONDS * 1000,
                event_listeners=[self._pool, *([CommandTimes(observe)] if observe else [])],
                appname="notification-engine",
            )
        except (PyMongoError, ValueError, OSError) as error:  # a port, an IPv6 literal; a key file that is not there
            raise ConfigurationError(f"MONGODB_URL: not an address of MongoDB ({type(error).__name__}).") from None
        concern = WriteConcern(w="majority", j=True)
        self._db = self._client.get_database(name, write_concern=concern)

    def collection(self, name: str) -> AsyncCollection[Document]:
        return self._db[name]

    def majority(self, name: str) -> AsyncCollection[Document]:
        """The collection as a majority has it, read from the primary."""
        return self._db.get_collection(name, read_concern=MAJORITY)

    async def transaction(self, work: Callable[[Session], Awaitable[Answer]]) -> Answer:
        """All that `work` writes with its session, or nothing; `work` runs again when another write came between.
        Raises Unavailable, also when the fate of the commit is unknown."""
        with translated():
            async with asyncio.timeout(TRANSACTION_SECONDS), self._client.start_session() as session:
                return await session.with_transaction(
                    work, read_concern=ReadConcern("snapshot"), write_concern=WriteConcern(w="majority", j=True)
                )

    async def close(self) -> None:
        await self._client.close()

    async def ask_server(self, name: str, **options: Any) -> Document:
        """Of the server, not of this database. The driver's errors come as they are."""
        return await self._client.admin.command(name, **options)

    async def ping(self, timeout: float) -> float:
        """Milliseconds of a real round trip. Raises Unavailable when none comes back in `timeout` seconds."""
        started = time.perf_counter()
        with translated():
            async with asyncio.timeout(timeout):
                await self._client.admin.command("ping")
        return (time.perf_counter() - started) * 1000

    async def synchronise(self, clock: Clock) -> None:
        """Takes the primary's time; refuses a standalone server, which could not promise a majority."""
        with translated():
            asked = time.monotonic()
            hello = await self._client.admin.command("hello")
            clock.synchronise(hello["localTime"], asked, time.monotonic())
        if "setName" not in hello and hello.get("msg") != "isdbgrid":
            raise ConfigurationError(
                "MONGODB_URL points to a standalone MongoDB; a replica set is needed (a single member will do: "
                "start it with --replSet rs0 and run rs.initiate() once)."
            )

    @property
    def has_primary(self) -> bool:
        return any(s.is_writable for s in self._client.topology_description.server_descriptions().values())

    def pool(self) -> dict[str, int]:
        counter = self._pool
        idle = max(0, counter.open - counter.in_use)
        return {"in_use": counter.in_use, "idle": idle, "waiting": counter.waiting, "max": self._pool_size}

    async def collection_names(self) -> list[str]:
        """Of stored collections, in order; no views."""
        return sorted(await self._db.list_collection_names(filter={"type": "collection"}))

    def snapshot(self) -> AsyncClientSession:
        """A session whose reads all see one moment in cluster time, the moment of its first."""
        return self._client.start_session(snapshot=True)

    async def command(self, command: Document, session: AsyncClientSession) -> Document:
        return await self._db.command(command, session=session)

    async def drop(self) -> None:
        await self._client.drop_database(self.name)


@contextmanager
def translated() -> Iterator[None]:
    """Every error of the driver becomes Unavailable, with the driver's class and none of its text."""
    try:
        yield
    except (PyMongoError, TimeoutError) as error:
        # Without the cause: a bulk write's text holds the documents, and a traceback would carry it into the log.
        raise Unavailable(f"The database did not answer ({type(error).__name__}).", retry_after=2) from None


CODEC: CodecOptions[Document] = CodecOptions(tz_aware=True)
DESCENDING, ASCENDING = pymongo.DESCENDING, pymongo.ASCENDING
