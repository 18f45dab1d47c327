"""A TCP proxy before mongod that can lose the answers to chosen commands after the server has obeyed them."""

import asyncio
import contextlib
from urllib.parse import urlsplit


class Proxy:
    """`lose(command, times)`: the connection is cut when the answer to such a command comes back from the server."""

    def __init__(self, upstream: str) -> None:
        address = urlsplit(upstream)
        self._upstream = (address.hostname, address.port)
        self._command = b""
        self._server: asyncio.Server | None = None
        self._pipes: set[asyncio.Task[None]] = set()
        self.left = 0

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"mongodb://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/?directConnection=true"

    def lose(self, command: str, times: int) -> None:
        """The first element of a command's document is a string under the command's name."""
        self._command, self.left = b"\x02" + command.encode() + b"\0", times

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for pipe in self._pipes:
            pipe.cancel()
        await asyncio.gather(*self._pipes, return_exceptions=True)

    async def _serve(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        server, to_server = await asyncio.open_connection(*self._upstream)
        doomed = asyncio.Event()
        pipes = {
            asyncio.create_task(self._requests(client, to_server, doomed)),
            asyncio.create_task(self._answers(server, to_client, doomed)),
        }
        self._pipes |= pipes
        await asyncio.wait(pipes, return_when=asyncio.FIRST_COMPLETED)
        for pipe in pipes:
            pipe.cancel()
        for writer in (to_client, to_server):
            writer.close()
        self._pipes -= pipes

    async def _requests(
        self, client: asyncio.StreamReader, server: asyncio.StreamWriter, doomed: asyncio.Event
    ) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await client.read(65_536):
                if self.left and self._command in data[:64]:
                    self.left -= 1
                    doomed.set()
                server.write(data)

    async def _answers(self, server: asyncio.StreamReader, client: asyncio.StreamWriter, doomed: asyncio.Event) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await server.read(65_536):
                if doomed.is_set():
                    return
                client.write(data)
