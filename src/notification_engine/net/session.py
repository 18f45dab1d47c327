"""The way out: HTTP sessions without cookies, redirects or decompression.

With a guard for addresses that callers name; without one for those that the operator's own settings name.
"""

import asyncio
import socket
import ssl
from collections.abc import Callable
from urllib.parse import urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from notification_engine.domain.errors import InvalidRequest
from notification_engine.net.exchange import written_trace
from notification_engine.net.guard import BlockedAddress, Guard

RESOLVE_SECONDS = 2.0  # for a look at registration; nothing depends on it


class CheckedResolver(AbstractResolver):
    """Answers those addresses of a name that may be dialled; a name that has no other is blocked."""

    def __init__(self, guard: Guard, inner: AbstractResolver) -> None:
        self._guard = guard
        self._inner = inner

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Raises BlockedAddress, and OSError for a name without an address."""
        found = await self._inner.resolve(host, port, family)
        allowed = [result for result in found if self._allows(result["host"])]
        if found and not allowed:
            raise BlockedAddress("its name leads to a network that is not allowed")
        return allowed

    async def close(self) -> None:
        await self._inner.close()

    def _allows(self, address: str) -> bool:
        try:
            self._guard.check_address(address)
        except BlockedAddress:
            return False
        return True


class Outbound:
    """Opened inside the running loop; `session` is what channels are given. `resolver` makes what asks for the
    addresses of names, if that is not the system's. `tls`: whom to trust, if not whom the system does."""

    def __init__(
        self,
        guard: Guard | None,
        *,
        limit: int = 0,
        resolver: Callable[[], AbstractResolver] | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._guard = guard
        self._limit = limit
        self._resolver = resolver or aiohttp.ThreadedResolver
        self._tls = tls
        self._session: aiohttp.ClientSession | None = None

    def session(self) -> aiohttp.ClientSession:
        if self._session is None or self._session.closed:
            connector = aiohttp.TCPConnector(
                limit=self._limit,
                ssl=self._tls or True,
                ttl_dns_cache=30,
                resolver=CheckedResolver(self._guard, self._resolver()) if self._guard else self._resolver(),
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

    async def check_name(self, url: str) -> None:
        """At registration, after `Guard.check_url`: what the name leads to now. Raises InvalidRequest, field `url`. A
        name without an address passes: it may get one."""
        if self._guard is None or (host := urlsplit(url).hostname) is None:
            return
        resolver = CheckedResolver(self._guard, self._resolver())
        try:
            async with asyncio.timeout(RESOLVE_SECONDS):
                await resolver.resolve(host, 0, socket.AF_UNSPEC)
        except BlockedAddress as error:
            raise InvalidRequest("The address leads to a network that is not allowed.", field="url") from error
        except (OSError, TimeoutError, UnicodeError):
            return
        finally:
            await resolver.close()

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
