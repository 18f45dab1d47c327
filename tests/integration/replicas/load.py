"""Requests through a balancer, one after the other, each with a key of its own; none may fail."""

import asyncio
import uuid
from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import ClientPayloadError, ClientSession
from tests.integration.conftest import API, message
from tests.integration.replicas.fleet import bearer

USERS = 20


class Load:
    """Sends through the balancer until it is told to end; every request once, each with a key of its own."""

    def __init__(self, session: ClientSession, address: str, *, resends: bool = False) -> None:
        """`resends`: an answer that breaks off, which no balancer can mend, is asked for again with the same key."""
        self._session = session
        self._resends = resends
        self._address = address
        self._ending = asyncio.Event()
        self.failed: list[str] = []
        self.accepted: dict[str, set[str]] = defaultdict(set)
        self.reads = self.broken_off = 0

    @property
    def ids(self) -> list[str]:
        return [i for ids in self.accepted.values() for i in ids]

    async def run(self, number: int) -> None:
        for count in range(1_000_000):
            if self._ending.is_set():
                return
            user = f"u{(number + count) % USERS}"
            await self._whole(self._post, user, uuid.uuid4().hex)
            await self._whole(self._get, user)

    async def _whole(self, request: Callable[..., Awaitable[None]], *given: str) -> None:
        try:
            await request(*given)
        except ClientPayloadError:
            if not self._resends:
                raise
            self.broken_off += 1
            await request(*given)

    def end(self) -> None:
        self._ending.set()

    async def _post(self, user: str, key: str) -> None:
        body = message(user, channels=["in_app", "webhook"])
        headers = bearer() | {"Idempotency-Key": key}
        async with self._session.post(f"{self._address}{API}", json=body, headers=headers) as answer:
            told = await self._checked("POST", answer)
            if told is not None:
                self.accepted[user].add(told["notifications"][0]["notification_id"])

    async def _get(self, user: str) -> None:
        async with self._session.get(f"{self._address}{API}/unread-count", headers=bearer()) as answer:
            self.reads += await self._checked("GET", answer) is not None

    async def _checked(self, method: str, answer: Any) -> Any:
        if answer.status in {200, 202}:
            return await answer.json()
        self.failed.append(f"{method} {answer.status} {(await answer.text())[:200]}")
        return None
