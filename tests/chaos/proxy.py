"""A proxy before one mongod that cuts the connection after a command was executed, before its reply arrives, or holds
a command back on its way.

It reads the wire protocol no further than the name of a command (OP_MSG, the first key of its document).
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

_HEADER = 16
_OP_MSG = 2013
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Proxy:
    """`cuts` counts, by the name of a command, the replies that were lost so far; `held` and `late` the commands that
    wait, and those that were answered after they had waited."""

    def __init__(self, host: str, port: int) -> None:
        self._upstream = (host, port)
        self._armed: dict[str, int] = {}
        self.cuts: dict[str, int] = {}
        self._sign: bytes | None = None
        self._released = asyncio.Event()
        self._waited: set[int] = set()
        self.held = 0
        self.late = 0
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.Task[None]] = set()
        self.port = 0

    @property
    def url(self) -> str:
        """For an engine: the one member behind the proxy, as a replica set's member all the same."""
        return f"mongodb://127.0.0.1:{self.port}/?directConnection=true"

    def cut(self, command: str, times: int) -> None:
        """The next `times` replies to this command are lost, with their connections."""
        self._armed[command] = times

    def hold(self, sign: bytes) -> None:
        """From now on, a command that contains these bytes waits for `release`, and its connection with it."""
        self._released.clear()
        self._sign = sign

    def release(self) -> None:
        self._sign = None
        self.held = 0
        self._released.set()

    def left(self, command: str) -> int:
        return self._armed.get(command, 0)

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in tuple(self._open):
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        server = await asyncio.open_connection(*self._upstream)
        commands: dict[int, str] = {}
        ways = [
            asyncio.create_task(self._requests(reader, server[1], commands)),
            asyncio.create_task(self._replies(server[0], writer, commands)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            writer.transport.abort()
            server[1].transport.abort()
            self._open.discard(task)

    async def _requests(
        self, client: asyncio.StreamReader, server: asyncio.StreamWriter, commands: dict[int, str]
    ) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                message = await _message(client)
                number = int.from_bytes(message[4:8], "little")
                if name := _command(message):
                    commands[number] = name
                if self._sign is not None and self._sign in message:
                    self.held += 1
                    self._waited.add(number)
                    await self._released.wait()
                server.write(message)
                await server.drain()

    async def _replies(
        self, server: asyncio.StreamReader, client: asyncio.StreamWriter, commands: dict[int, str]
    ) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                message = await _message(server)
                number = int.from_bytes(message[8:12], "little")
                name = commands.pop(number, "")
                if self._armed.get(name, 0) > 0:
                    self._armed[name] -= 1
                    self.cuts[name] = self.cuts.get(name, 0) + 1
                    return
                client.write(message)
                await client.drain()
                if number in self._waited:
                    self._waited.remove(number)
                    self.late += 1


async def _message(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readexactly(_HEADER)
    return head + await reader.readexactly(int.from_bytes(head[:4], "little") - _HEADER)


def _command(message: bytes) -> str:
    """The first key of the first section of an OP_MSG; empty for anything else."""
    if int.from_bytes(message[12:16], "little") != _OP_MSG or message[20] != 0:
        return ""
    start = 21 + 4 + 1  # the section's document: its length and the type of its first element
    return message[start : message.index(b"\0", start)].decode()


@asynccontextmanager
async def proxy(host: str, port: int) -> AsyncIterator[Proxy]:
    made = Proxy(host, port)
    await made.start()
    try:
        yield made
    finally:
        await made.stop()
