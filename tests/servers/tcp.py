"""A server that speaks below its protocol: for what no honest server does, such as junk, silence and cut lines."""

import asyncio
import socket
from collections.abc import Awaitable, Callable

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class TcpServer:
    """Each connection is handed to `talk` and closed after it; `stop` ends those that are still talking."""

    def __init__(self, talk: Talk) -> None:
        self._talk = talk
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.connections = 0
        self.port = 0

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._talk(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            return  # the other side has left, or the test has ended
        finally:
            self._tasks.discard(task)
            writer.close()


def saying(data: bytes) -> Talk:
    """Says this and closes."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()

    return talk


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Takes everything and answers nothing."""
    while await reader.read(65_536):
        continue


def smtp_until(command: bytes, last: bytes, *, then_silent: bool = False) -> Talk:
    """An honest SMTP server up to this command (`.` is the end of the data), which it answers with `last`."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example.org ESMTP\r\n")
        in_data = False
        while line := await reader.readline():
            if in_data and line != b".\r\n":
                continue
            word = b"." if in_data else line.split()[0].upper()
            if word == command:
                writer.write(last)
                await writer.drain()
                if then_silent:
                    await silent(reader, writer)
                return
            in_data = word == b"DATA"
            writer.write(b"354 go on\r\n" if in_data else b"250 fine\r\n")

    return talk


def http(answer: bytes, *, then_silent: bool = False) -> Talk:
    """Reads one request with its body, then says this and closes."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(int(h.split(b":")[1]) for h in head.lower().split(b"\r\n") if h.startswith(b"content-length"))
        await reader.readexactly(length)
        writer.write(answer)
        await writer.drain()
        if then_silent:
            await silent(reader, writer)

    return talk


async def closed_port() -> int:
    """A port on which nobody listens."""
    server = await asyncio.start_server(lambda r, w: None, "127.0.0.1", 0)
    port: int = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    return port


class FullHouse:
    """A port that listens and takes nobody in: a connection to it is never made and never refused."""

    def __init__(self) -> None:
        self._listener = socket.socket()
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen(0)
        self.port: int = self._listener.getsockname()[1]
        self._waiting = [socket.socket() for _ in range(3)]
        for guest in self._waiting:
            guest.setblocking(False)
            guest.connect_ex(("127.0.0.1", self.port))

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def close(self) -> None:
        for opened in (*self._waiting, self._listener):
            opened.close()
