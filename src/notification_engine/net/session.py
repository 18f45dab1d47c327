"""The guarded way out: one HTTP session for all providers, without cookies, redirects or decompression."""

import aiohttp

from notification_engine.net.guard import Guard


class Outbound:
    """Opened inside the running loop; `session` is what channels are given."""

    def __init__(self, guard: Guard, *, limit: int = 0) -> None:
        self._guard = guard
        self._limit = limit
        self._session: aiohttp.ClientSession | None = None

    def session(self) -> aiohttp.ClientSession:
        if self._session is None or self._session.closed:
            connector = aiohttp.TCPConnector(
                limit=self._limit, ttl_dns_cache=30, socket_factory=self._guard.open_socket, keepalive_timeout=30
            )
            self._session = aiohttp.ClientSession(
                connector=connector, cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False, trust_env=False
            )
        return self._session

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
