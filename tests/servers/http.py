"""A server of aiohttp on loopback, on a free port: what every double of an HTTP service stands on."""

import ssl
from typing import Self

from aiohttp import web


class HttpServer:
    """Subclasses give the routes. `address` is known once it has started."""

    def __init__(self, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> None:
        self._host = host
        self._tls = tls
        self._runner: web.AppRunner | None = None
        self.address = ""

    def application(self) -> web.Application:
        raise NotImplementedError

    async def start(self) -> None:
        # A slow answer is not waited for at the end.
        self._runner = web.AppRunner(self.application(), access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, self._host, 0, ssl_context=self._tls).start()
        self.address = f"http{'s' if self._tls else ''}://{self._host}:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.stop()
