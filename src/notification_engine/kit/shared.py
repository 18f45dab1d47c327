"""A result that all share who ask for it while it is on its way.

Invariant: one call is under way at most, and its error is the error of all who waited for it. A lock would let them try
one after the other, and each wait for the failures before it.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar

Result = TypeVar("Result")


class Shared(Generic[Result]):
    def __init__(self, call: Callable[[], Awaitable[Result]]) -> None:
        self._call = call
        self._task: asyncio.Task[Result] | None = None

    async def get(self) -> Result:
        """Raises what the call raises. Who is cancelled leaves the call to the others."""
        if self._task is None:
            self._task = asyncio.create_task(self._run())
            self._task.add_done_callback(_heard)
        return await asyncio.shield(self._task)

    async def _run(self) -> Result:
        try:
            return await self._call()
        finally:
            self._task = None


def _heard(task: asyncio.Task[Any]) -> None:
    """Its error is nobody's news when all who waited were cancelled."""
    if not task.cancelled():
        task.exception()
