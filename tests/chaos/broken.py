"""Deliberately broken builds: `python -m tests.chaos.broken NAME serve ...` breaks one promise, then runs the engine.

Each takes away one mechanism of the design, and nothing else, so that the suite can show that it would notice.
"""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

from pymongo.asynchronous.collection import AsyncCollection

from notification_engine.api.admission import Admission
from notification_engine.cli.main import app
from notification_engine.domain.breaker import BreakerPolicy
from notification_engine.domain.outcome import Outcome
from notification_engine.kit.clock import Clock
from notification_engine.services import send
from notification_engine.services.ports import Change, Inserted, Sender
from notification_engine.services.send import Send
from notification_engine.services.settle import Settle
from notification_engine.services.work import Work
from notification_engine.storage import claims, connection
from notification_engine.storage.notifications import Notifications
from notification_engine.wiring import Engine, providers

BUILDS: dict[str, Callable[[], None]] = {}
FOUND_BY = {
    "write-concern-1": "both secondaries gone",
    "unfenced-settlement": "stale worker",
    "ack-before-write": "engine killed mid-batch",
    "client-due-at": "two lanes settle one notification",
    "claim-without-exists": "a claim comes late",
    "no-write-ahead-mark": "engine killed mid-batch",
    "wall-clock": "clock jumps",
    "no-drain": "SIGTERM under load",
    "no-poison-rule": "poison",
    "no-admission": "overload at three times capacity",
}
CORE = tuple(FOUND_BY)[:6]  # what the design rests on: proven at every `make test`
_behind: set[asyncio.Task[Any]] = set()


def build(name: str) -> Callable[[Callable[[], None]], Callable[[], None]]:
    def register(break_it: Callable[[], None]) -> Callable[[], None]:
        BUILDS[name] = break_it
        return break_it

    return register


@build("write-concern-1")
def _write_concern_1() -> None:
    class Weak(connection.WriteConcern):
        def __init__(self, **given: Any) -> None:
            super().__init__(w=1)

    connection.WriteConcern = Weak  # type: ignore[misc]


@build("unfenced-settlement")
def _unfenced_settlement() -> None:
    matching = claims._matching

    def unfenced(document_ids: list[str], change: Change) -> dict[str, Any]:
        return matching(document_ids, change if change.mark is not None else replace(change, fence=None))

    claims._matching = unfenced


@build("ack-before-write")
def _ack_before_write() -> None:
    insert = Notifications.insert_each

    async def at_once(self: Notifications, documents: Sequence[tuple[str, bytes]]) -> list[Any]:
        task = asyncio.create_task(insert(self, documents))
        _behind.add(task)
        task.add_done_callback(_behind.discard)
        return [Inserted()] * len(documents)

    Notifications.insert_each = at_once  # type: ignore[method-assign]


@build("no-write-ahead-mark")
def _no_write_ahead_mark() -> None:
    async def unmarked(self: Settle, work: Work) -> bool:
        return True

    Settle.mark = unmarked  # type: ignore[method-assign]


@build("client-due-at")
def _client_due_at() -> None:
    """The next moment follows from the one delivery that the lane knows, not from what is stored."""

    def computed(changes: Sequence[Change]) -> list[Any]:
        stages = changes_pipeline(changes)
        times = [c.next_attempt_seconds for c in changes if c.next_attempt_seconds is not None]
        due = claims.in_seconds(min(times)) if times else "$$REMOVE"
        free = {"$unsetField": {"field": "owner", "input": "$lease"}}
        return [*stages, {"$set": {"due_at": due, "lease": free}}]

    changes_pipeline = claims.changes_pipeline
    claims.changes_pipeline = computed


@build("claim-without-exists")
def _claim_without_exists() -> None:
    update_many = AsyncCollection.update_many

    async def unchecked(self: Any, match: Any, update: Any, **given: Any) -> Any:
        if "$expr" in match:
            match = {k: v for k, v in match.items() if k != "due_at"}
        return await update_many(self, match, update, **given)

    AsyncCollection.update_many = unchecked  # type: ignore[method-assign]


@build("wall-clock")
def _wall_clock() -> None:
    Clock.now = lambda self: datetime.fromtimestamp(int(time.time() * 1000) / 1000, UTC)  # type: ignore[method-assign]


@build("no-drain")
def _no_drain() -> None:
    async def at_once(self: Engine) -> None:
        os._exit(0)

    Engine.drain = at_once  # type: ignore[method-assign]


def _deadly() -> None:
    """Not broken, but mortal: a notification with this title kills the process that sends it."""
    call = Send._call

    async def die(self: Send, sender: Sender, work: Work) -> Outcome:
        if work.notification.title == "deadly":
            os.kill(os.getpid(), signal.SIGKILL)
        return await call(self, sender, work)

    Send._call = die  # type: ignore[method-assign]


def _breakers(**policy: Any) -> Callable[[], None]:
    """Not broken either, but of another patience: a table of answers wants each asked, an outage a short rest."""

    def install() -> None:
        providers.BreakerPolicy = partial(BreakerPolicy, **policy)  # type: ignore[assignment,misc]

    return install


HELPERS: dict[str, Callable[[], None]] = {
    "dies-of-poison": _deadly,
    "breakers-never-open": _breakers(minimum=10**9),
    "breakers-rest-briefly": _breakers(window_seconds=5.0, open_seconds=2.0),
}


@build("no-poison-rule")
def _no_poison_rule() -> None:
    _deadly()
    send.MAX_SOLO_DEATHS = 10**9


@build("no-admission")
def _no_admission() -> None:
    Admission._crowded = lambda self: False  # type: ignore[method-assign]


if __name__ == "__main__":
    (BUILDS | HELPERS)[sys.argv.pop(1)]()
    app()
