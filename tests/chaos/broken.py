"""Deliberately broken builds: `python -m tests.chaos.broken NAME serve ...` breaks one promise, then runs the engine.

Each takes away one mechanism of the design, and nothing else, so that the suite can show that it would notice.
"""

import asyncio
import sys
from collections.abc import Callable, Sequence
from typing import Any

from notification_engine.cli.main import app
from notification_engine.services.ports import Inserted
from notification_engine.services.settle import Settle, Work
from notification_engine.storage import claims, connection
from notification_engine.storage.notifications import Notifications

BUILDS: dict[str, Callable[[], None]] = {}
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
    claims._fenced = lambda document_id, fence: {"_id": document_id}


@build("ack-before-write")
def _ack_before_write() -> None:
    insert = Notifications.insert

    async def at_once(self: Notifications, documents: Sequence[tuple[str, bytes]]) -> list[Any]:
        task = asyncio.create_task(insert(self, documents))
        _behind.add(task)
        task.add_done_callback(_behind.discard)
        return [Inserted()] * len(documents)

    Notifications.insert = at_once  # type: ignore[method-assign]


@build("no-write-ahead-mark")
def _no_write_ahead_mark() -> None:
    async def unmarked(self: Settle, work: Work) -> bool:
        return True

    Settle.mark = unmarked  # type: ignore[method-assign]


if __name__ == "__main__":
    BUILDS[sys.argv.pop(1)]()
    app()
