"""Traffic: honest clients that send, write every answer into the ledger, and repeat under the same key until a 202."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from aiohttp import ClientError, ClientSession, ClientTimeout, TCPConnector
from joserfc import jwt
from joserfc.jwk import OctKey
from tests.chaos.engines import SECRET
from tests.chaos.ledger import Answer, Ledger

from notification_engine.domain.caller import Role

API = "/api/v1/notifications"
MIX: tuple[tuple[str, ...], ...] = (("in_app",), ("email",), ("webhook",), ("in_app", "email", "webhook"))
REQUEST_SECONDS = 15.0  # past the engine's own deadline for an accept (10 s)


def token(sub: str = "chaos", *roles: Role, days: int = 4) -> str:
    """Issued and valid so many days ago and ahead: no jump of an engine's clock in the suite outlives it."""
    now = int(time.time())
    names = [str(role) for role in roles or (Role.USER, Role.SERVICE, Role.OPERATOR)]
    claims = {"sub": sub, "roles": names, "iat": now - days * 86_400, "exp": now + days * 86_400}
    return jwt.encode({"alg": "HS256", "typ": "JWT"}, claims, OctKey.import_key(SECRET.encode()))


@dataclass
class Load:
    """`addresses` are those of the engines; a client takes the next one after each failure, as a balancer would."""

    addresses: Sequence[str]
    ledger: Ledger
    seed: int = 0
    mix: Sequence[tuple[str, ...]] = MIX
    users: int = 50
    sent: int = 0

    async def __aenter__(self) -> "Load":
        headers = {"Authorization": f"Bearer {token()}"}
        self._session = ClientSession(
            headers=headers, timeout=ClientTimeout(total=REQUEST_SECONDS), connector=TCPConnector(limit=0)
        )
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._session.close()

    async def register(self, url: str, *types: str) -> dict[str, Any]:
        """A webhook endpoint at this address."""
        status, endpoint = await self.call(
            "POST", "/webhooks", {"url": url, "notification_types": list(types) or ["*"]}
        )
        assert status == 201, endpoint
        return dict(endpoint)

    def message(self, number: int, **fields: Any) -> dict[str, Any]:
        """Request `number`, with a title of its own."""
        user = f"u{number % self.users}"
        plain: dict[str, Any] = {
            "notification_type": "chaos.load",
            "recipients": [{"user_id": user, "email": f"{user}@example.org"}],
            "title": f"n{number}",
            "body": "",
            "channels": list(self.mix[number % len(self.mix)]),
        }
        return plain | fields

    async def call(self, method: str, path: str, body: Any = None, *, at: str | None = None) -> tuple[int, Any]:
        """Outside the ledger: status and JSON."""
        payload: dict[str, Any] = {"json": body}
        if isinstance(body, bytes):
            payload = {"data": body, "headers": {"Content-Type": "application/json"}}
        async with self._session.request(method, f"{at or self.addresses[0]}{API}{path}", **payload) as answer:
            return answer.status, await answer.json(content_type=None)

    async def post(self, key: str, body: Any, *, at: str | None = None, **more: Any) -> Answer:
        """One request, written into the ledger."""
        moment, started = time.monotonic(), time.perf_counter()
        status, ids, after = 0, (), None
        headers = {"Idempotency-Key": key}
        payload: dict[str, Any] = {"data": body} if isinstance(body, bytes) else {"json": body}
        if isinstance(body, bytes):
            headers["Content-Type"] = "application/json"
        try:
            url = f"{at or self.addresses[0]}{API}"
            async with self._session.post(url, headers=headers, **payload, **more) as answer:
                status, after = answer.status, answer.headers.get("Retry-After")
                if status == 202:
                    shown = await answer.json()
                    ids = tuple(n["notification_id"] for n in shown["notifications"])
        except (ClientError, TimeoutError, OSError):
            status, ids = 0, ()
        written = Answer(key, moment, time.perf_counter() - started, status, ids, after)
        await self.ledger.write(written)
        return written

    async def deliver(self, body: dict[str, Any], key: str, *, seconds: float = 120) -> Answer:
        """Until it is accepted or refused for good. Raises TimeoutError when neither comes."""
        async with asyncio.timeout(seconds):
            for attempt in range(1_000_000):
                answer = await self.post(key, body, at=self.addresses[(attempt + len(key)) % len(self.addresses)])
                if answer.status not in (0, 409, 429, 503):
                    return answer
                await asyncio.sleep(0.1)  # the pause of a client between two tries
        raise AssertionError("not reached")

    async def run(self, count: int, *, concurrency: int = 16, seconds: float = 300, **fields: Any) -> None:
        """`count` more requests, each until it is accepted."""
        numbers = iter(range(self.sent, self.sent + count))
        self.sent += count

        async def client() -> None:
            for number in numbers:
                await self.deliver(self.message(number, **fields), f"{self.seed}-{number}", seconds=seconds)

        async with asyncio.TaskGroup() as group:
            for _ in range(min(concurrency, count)):
                group.create_task(client())

    async def flow(self, stop: asyncio.Event, *, concurrency: int = 4) -> None:
        """Goes on until it is told to stop; what was begun is ended."""
        while not stop.is_set():
            await self.run(2 * concurrency, concurrency=concurrency)
