"""Each kind of breach, injected behind the engine's back, is found by the next check; without one there is none."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.integration.conftest import Running, Start, message

from notification_engine.health import conservation
from notification_engine.kit.ids import new_id

Inject = Callable[[Running, str], Awaitable[Any]]


async def checked(running: Running, healthy: bool) -> dict[str, Any]:
    """The check of `/health/status` once it says so: it runs at its interval."""
    async with asyncio.timeout(20):
        while True:
            _, status = await running.call("GET", "/health/status")
            found = status["checks"].get("conservation")
            if found and found["healthy"] is healthy:
                return dict(found)
            await asyncio.sleep(0.05)  # asked again: the check runs in the background


@pytest.fixture
async def watched(start: Start, monkeypatch: pytest.MonkeyPatch) -> Running:
    """Checks often, and looks at what has just been accepted too."""
    monkeypatch.setattr(conservation, "SETTLED_AFTER", timedelta(seconds=-10))
    return await start(HEALTH_CHECK_INTERVAL=0.1)


async def _forget_due(running: Running, _: str) -> None:
    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    waiting = await running.accept(message("waits", scheduled_at=later))
    collection = running.engine.database.collection("notifications")
    await collection.update_one({"_id": waiting}, {"$unset": {"due_at": ""}})


async def _overdue(running: Running, notification_id: str) -> None:
    """Left by the sweeper, as if every daemon were gone."""
    assert running.engine.sweeper is not None
    await running.engine.sweeper.stop()
    old = datetime.now(UTC) - timedelta(hours=1)
    collection = running.engine.database.collection("notifications")
    await collection.update_one({"_id": notification_id}, {"$set": {"due_at": old}})


async def _lose(running: Running, notification_id: str) -> None:
    await running.engine.ledger.run_once()
    await running.engine.database.collection("notifications").delete_one({"_id": notification_id})


async def _lose_history(running: Running, notification_id: str) -> None:
    history = running.engine.database.collection("notification_history")
    async with asyncio.timeout(10):
        while True:
            if (await history.delete_many({"notification_id": notification_id})).deleted_count:
                return
            await asyncio.sleep(0.02)  # the row follows the 202


@pytest.mark.parametrize(
    ("kind", "inject"),
    [
        ("open_without_due", _forget_due),
        ("overdue", _overdue),
        ("missing", _lose),
        ("ended_without_history", _lose_history),
    ],
)
async def test_a_breach_is_found_and_named(watched: Running, kind: str, inject: Inject) -> None:
    notification_id = await watched.accept(message("a"))
    clean = await checked(watched, healthy=True)
    assert clean["breaches"] == dict.fromkeys(("open_without_due", "overdue", "ended_without_history", "missing"), 0)
    await inject(watched, notification_id)
    found = await checked(watched, healthy=False)
    assert [name for name, count in found["breaches"].items() if count] == [kind]
    async with watched.session.get(f"{watched.address}/metrics") as answer:
        assert f'notification_conservation_breaches{{kind="{kind}"}} 1.0' in await answer.text()


async def test_what_was_accepted_without_an_answer_is_no_breach(watched: Running) -> None:
    """A process that dies between write and ledger leaves more documents than 202s."""
    stored = await watched.accept(message("a"))
    collection = watched.engine.database.collection("notifications")
    document = await collection.find_one({"_id": stored})
    assert document is not None
    await collection.insert_one(document | {"_id": new_id("ntfy"), "deliveries": []})
    assert watched.engine.ledger.errors == 0
    await watched.engine._checks.run_once()
    assert (await checked(watched, healthy=True))["breaches"]["missing"] == 0


async def test_a_ledger_written_twice_counts_once(running: Running) -> None:
    for user in ("a", "b", "c"):
        await running.accept(message(user))
    books = running.engine._books
    await running.engine.ledger.run_once()
    minute = datetime.now(UTC).replace(second=0, microsecond=0)
    totals = dict(running.engine.ledger._totals)
    await books.write(totals)
    await books.write(totals)
    both = [await books.minute(at) for at in (minute, minute - timedelta(minutes=1))]
    assert sum(accepted for accepted, _ in both) == sum(stored for _, stored in both) == 3


async def test_dead_letters_are_counted(watched: Running) -> None:
    await watched.register("http://127.0.0.1:9/closed", "test.message")
    assert (await checked(watched, healthy=True))["dead_letters"] == 0
    notification_id = await watched.accept(message(channels=["webhook"]))
    assert (await watched.settled(notification_id))["status"] == "failed"
    async with asyncio.timeout(10):
        while True:
            if (await checked(watched, healthy=True))["dead_letters"] == 1:
                return
            await asyncio.sleep(0.05)
