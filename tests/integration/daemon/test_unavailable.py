"""What the store did not confirm is a 503 with Retry-After, never a 202, and the same request may come again."""

from typing import Any

import pytest
from tests.integration.conftest import API, Running, Start, message, token
from tests.integration.storage.stores import fail_command

from notification_engine.storage import notifications as module

_UNCONFIRMED = {"code": 64, "errmsg": "waiting for replication timed out", "codeName": "WriteConcernFailed"}


async def _post(running: Running, body: Any, key: str | None) -> tuple[int, str | None, Any]:
    """Status, Retry-After and body."""
    headers = {"Authorization": f"Bearer {token()}"} | ({"Idempotency-Key": key} if key else {})
    async with running.session.post(running.address + API, json=body, headers=headers) as answer:
        return answer.status, answer.headers.get("Retry-After"), await answer.json(content_type=None)


@pytest.mark.parametrize("key", [None, "k"])
@pytest.mark.parametrize(
    "fault", [{"writeConcernError": _UNCONFIRMED}, {"closeConnection": True}, {"errorCode": 96}], ids=str
)
async def test_an_unconfirmed_write_is_503_and_nothing_is_sent(
    mongod: str, start: Start, monkeypatch: pytest.MonkeyPatch, key: str | None, fault: dict[str, Any]
) -> None:
    """Neither is a place of the queue lost to it."""
    monkeypatch.setattr(module, "ACCEPT_SECONDS", 0.5)
    running = await start(SWEEP_INTERVAL_SECONDS=3600, NOTIFICATION_QUEUE_SIZE=10)
    body = message("a", "b", channels=["in_app", "email"])
    database = running.engine.database
    data = {"failCommands": ["insert"], **fault}
    async with fail_command(mongod, database, "notifications", "alwaysOn", **data):
        status, retry_after, problem = await _post(running, body, key)
    assert status == 503
    assert int(retry_after or 0) >= 1
    assert problem["status"] == 503
    assert running.engine.dispatcher is not None
    assert running.engine.dispatcher.snapshot()["room"] == 10
    monkeypatch.undo()
    status, _, answer = await _post(running, body, key)
    assert status == 202
    assert len(answer["notifications"]) == 2


async def test_a_503_with_a_key_is_harmless_to_repeat(mongod: str, running: Running) -> None:
    """The write was made and not confirmed: the repeated request finds its own and completes it."""
    data = {"failCommands": ["insert"], "writeConcernError": _UNCONFIRMED}
    async with fail_command(mongod, running.engine.database, "notifications", "alwaysOn", **data):
        assert (await _post(running, message("a", "b", "c"), "k"))[0] == 503
    status, _, answer = await _post(running, message("a", "b", "c"), "k")
    assert status == 202
    stored = [d["_id"] async for d in running.engine.database.majority("notifications").find(sort=[("_id", 1)])]
    assert stored == sorted(n["notification_id"] for n in answer["notifications"])
