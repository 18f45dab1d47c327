import asyncio
from typing import Any

import orjson

from notification_engine.api.admission import Admission

PATH = "/api/v1/notifications"


class Busy:
    """An application whose requests end when it is told, and that reads every body."""

    def __init__(self) -> None:
        self.begun = 0
        self.free = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            continue
        self.begun += 1
        await self.free.wait()
        await send({"type": "http.response.start", "status": 202, "headers": []})
        await send({"type": "http.response.body", "body": b""})


async def ask(app: Any, *, path: str = PATH, whole: bool = True, until: asyncio.Event | None = None) -> dict[str, Any]:
    """Status, headers and body; `whole` False: the body's end never comes before `until`."""
    answer: dict[str, Any] = {"body": b""}
    parts = iter([{"type": "http.request", "body": b"{", "more_body": True}] if not whole else [])

    async def receive() -> dict[str, Any]:
        for part in parts:
            return part
        if until is not None:
            await until.wait()
        return {"type": "http.request", "body": b"}", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        answer.update({k: v for k, v in message.items() if k in {"status", "headers"}})
        answer["body"] += message.get("body", b"")

    await app({"type": "http", "method": "POST", "path": path, "headers": []}, receive, send)
    return answer


def crowd(app: Any, count: int, **how: Any) -> list[asyncio.Task[dict[str, Any]]]:
    return [asyncio.create_task(ask(app, **how)) for _ in range(count)]


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_new_work_is_refused_while_the_oldest_waits_too_long() -> None:
    busy = Busy()
    app = Admission(busy, limit=500, exempt=(), accepting=[PATH], max_wait_seconds=0, min_under_way=3)
    waiting = crowd(app, 3)
    await settle()
    refused = await ask(app)
    assert refused["status"] == 503
    assert dict(refused["headers"])[b"retry-after"] == b"1"
    assert orjson.loads(refused["body"])["type"].endswith(":unavailable")
    busy.free.set()
    assert [(await w)["status"] for w in waiting] == [202] * 3
    assert (await ask(app))["status"] == 202


async def test_few_slow_requests_are_no_crowd() -> None:
    busy = Busy()
    app = Admission(busy, limit=500, exempt=(), accepting=[PATH], max_wait_seconds=0, min_under_way=3)
    waiting = crowd(app, 2)
    await settle()
    third = asyncio.create_task(ask(app))
    await settle()
    assert busy.begun == 3
    busy.free.set()
    assert [(await w)["status"] for w in (*waiting, third)] == [202] * 3


async def test_a_body_that_comes_slowly_delays_nobody() -> None:
    busy, sent = Busy(), asyncio.Event()
    app = Admission(busy, limit=500, exempt=(), accepting=[PATH], max_wait_seconds=0, min_under_way=3)
    slow = crowd(app, 5, whole=False, until=sent)
    await settle()
    busy.free.set()
    assert (await ask(app))["status"] == 202
    sent.set()
    assert [(await s)["status"] for s in slow] == [202] * 5


async def test_other_paths_are_not_counted() -> None:
    busy = Busy()
    app = Admission(busy, limit=500, exempt=(), accepting=[PATH], max_wait_seconds=0, min_under_way=1)
    others = crowd(app, 3, path=f"{PATH}/webhooks")
    await settle()
    assert busy.begun == 3
    busy.free.set()
    await asyncio.gather(*others)
