"""The way out: HTTP sessions without cookies, redirects or decompression.

With a guard for addresses that callers name; without one for those that the operator's own settings name.
"""

import aiohttp

from notification_engine.net.exchange import written_trace
from notification_engine.net.guard import Guard


class Outbound:
    """Opened inside the running loop; `session` is what channels are given."""

    def __init__(self, guard: Guard | None, *, limit: int = 0) -> None:
        self._guard = guard
        self._limit = limit
        self._session: aiohttp.ClientSession | None = None

    def session(self) -> aiohttp.ClientSession:
        if self._session is None or self._session.closed:
            connector = aiohttp.TCPConnector(
                limit=self._limit,
                ttl_dns_cache=30,
                socket_factory=self._guard.open_socket if self._guard else None,
                keepalive_timeout=15,  # shorter than the servers': a connection that is being closed loses a request
            )
            self._session = aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trust_env=False,
                trace_configs=[written_trace()],
            )
        return self._session

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
