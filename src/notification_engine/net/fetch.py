"""Small public documents, fetched within a size and a time: SNS's certificates and confirmations."""

import asyncio
import time
from collections import OrderedDict

import aiohttp
from yarl import URL

from notification_engine.domain.errors import Unauthenticated, Unavailable
from notification_engine.net.exchange import Session

SECONDS = 5.0
MAX_BYTES = 64 * 1024
KEPT_SECONDS = 24 * 3600.0
KEPT = 16  # certificates; SNS uses one at a time for months


class Fetcher:
    """One call at a time, so that forged messages cannot make this process call much. The caller checks the address."""

    def __init__(self, session: Session, *, seconds: float = SECONDS, max_bytes: int = MAX_BYTES) -> None:
        self._session = session
        self._seconds = seconds
        self._max_bytes = max_bytes
        self._one = asyncio.Lock()
        self._kept: OrderedDict[str, tuple[float, bytes]] = OrderedDict()

    async def certificate(self, url: str) -> bytes:
        """Kept for a day. Raises Unauthenticated when there is none at the address, Unavailable when nobody answers."""
        if (pem := self._fresh(url)) is not None:
            return pem
        async with self._one:
            if (pem := self._fresh(url)) is not None:  # fetched while this one waited
                return pem
            pem = await self._get(url)
            self._kept[url] = (time.monotonic() + KEPT_SECONDS, pem)
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
            return pem

    async def confirm(self, url: str) -> None:
        """Visits an address for its effect. Raises as `certificate` does."""
        async with self._one:
            await self._get(url)

    def _fresh(self, url: str) -> bytes | None:
        until, pem = self._kept.get(url, (0.0, b""))
        return pem if until > time.monotonic() else None

    async def _get(self, url: str) -> bytes:
        exact = URL(url, encoded=True)  # as it was signed, not as the client would spell it
        try:
            async with asyncio.timeout(self._seconds), self._session().get(exact, allow_redirects=False) as answer:
                if answer.status >= 500 or answer.status in {408, 429}:
                    raise Unavailable("AWS did not answer well.", retry_after=30)
                if answer.status != 200:
                    raise Unauthenticated("There is nothing at the address that the message names.")
                body = await answer.content.read(self._max_bytes + 1)
                while not answer.content.at_eof() and len(body) <= self._max_bytes:
                    body += await answer.content.read(self._max_bytes + 1)
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            raise Unavailable(f"AWS did not answer ({type(error).__name__}).", retry_after=30) from None
        if len(body) > self._max_bytes:
            raise Unauthenticated("What is at the address that the message names is too large.")
        return body
