"""What tests of access share: keys made, tokens traded, and waiting until a credential or a socket is dead."""

import asyncio
from typing import Any

from aiohttp import ClientWebSocketResponse, WSMsgType
from tests.integration.conftest import API, Running, token

from notification_engine.domain.caller import Role

ADMIN = token("admin", Role.ADMIN)
AUTH = "/api/v1/auth"
_ENDS = {WSMsgType.CLOSE, WSMsgType.CLOSED, WSMsgType.CLOSING}


async def make(running: Running, **fields: Any) -> dict[str, Any]:
    body = {"name": "a key", "roles": ["service"]} | fields
    status, key = await running.call("POST", "/api-keys", body, as_=ADMIN)
    assert status == 201, key
    return dict(key)


async def auth(running: Running, path: str, credential: str, body: Any = None) -> tuple[int, Any]:
    headers = {"Authorization": f"Bearer {credential}"}
    async with running.session.post(f"{running.address}{AUTH}{path}", json=body, headers=headers) as answer:
        return answer.status, await answer.json(content_type=None) if answer.status != 204 else None


async def works(running: Running, credential: str) -> bool:
    status, _ = await running.call("GET", "/unread-count", as_=credential)
    assert status in {200, 401}
    return status == 200


async def until_refused(running: Running, credential: str, seconds: float = 20) -> None:
    async with asyncio.timeout(seconds):
        while True:
            if not await works(running, credential):
                return
            await asyncio.sleep(0.01)  # asked again: the news is on its way


async def socket(running: Running, credential: str) -> ClientWebSocketResponse:
    """Open, past its `hello`."""
    protocols = ("bearer", credential)
    opened = await running.session.ws_connect(f"{running.address}{API}/ws", protocols=protocols)
    assert (await opened.receive_json(timeout=10))["type"] == "hello"
    return opened


async def closed_with(opened: ClientWebSocketResponse, seconds: float = 20) -> int | None:
    async with asyncio.timeout(seconds):
        while True:
            if (await opened.receive()).type in _ENDS:
                return opened.close_code
