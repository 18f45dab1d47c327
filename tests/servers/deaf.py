"""A client of the live inbox that never reads, spoken by hand: every client library reads ahead."""

import asyncio
import socket

SMALL_BUFFER = 4096
API = "/api/v1/notifications"


class Deaf:
    """A client that opens the live inbox and then never reads another byte, with a small buffer of its own."""

    def __init__(self, token: str, *, stream: bool = False) -> None:
        self._token = token
        self._stream = stream
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER)
        self._socket.setblocking(False)

    async def connect(self, address: str) -> None:
        host, _, port = address.removeprefix("http://").partition(":")
        loop = asyncio.get_running_loop()
        await loop.sock_connect(self._socket, (host, int(port)))
        await loop.sock_sendall(self._socket, self._request(host))
        head = b""
        while b"\r\n\r\n" not in head:
            part = await loop.sock_recv(self._socket, 512)
            assert part, "the engine closed during the handshake"
            head += part
        status = head.split(b" ", 2)[1]
        assert status in {b"101", b"200"}, head

    def close(self) -> None:
        self._socket.close()

    async def lost(self, seconds: float) -> None:
        """Waits until the engine's end is gone: what is sent there is then answered by a reset."""
        async with asyncio.timeout(seconds):
            while True:
                try:
                    self._socket.send(b"\r\n")
                except OSError:
                    return
                await asyncio.sleep(0.05)

    def _request(self, host: str) -> bytes:
        if self._stream:
            lines = [f"GET {API}/stream HTTP/1.1", f"Authorization: Bearer {self._token}"]
        else:
            lines = [f"GET {API}/ws HTTP/1.1", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"]
            lines += ["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", f"Sec-WebSocket-Protocol: bearer, {self._token}"]
        return "\r\n".join([*lines, f"Host: {host}", "", ""]).encode()
