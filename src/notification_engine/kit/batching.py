"""Natural batching: what arrives while one flush is under way travels together in the next.

There is no timer, so an idle batcher adds no latency. The queue is bounded by the weight of what waits: past it
`submit` raises `QueueFull`.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar, cast

Item = TypeVar("Item")
Result = TypeVar("Result")


class QueueFull(Exception):
    """More waits than the bound of a batcher."""


class _Group(Generic[Result]):
    """What one call submitted: a result for each of its items, and one future for them all."""

    __slots__ = ("done", "left", "results")

    def __init__(self, size: int) -> None:
        self.results: list[Result | BaseException | None] = [None] * size
        self.left = size
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def ended(self, index: int, result: Result | BaseException) -> None:
        self.results[index] = result
        self.left -= 1
        if not self.left and not self.done.done():
            self.done.set_result(None)


class Batcher(Generic[Item, Result]):
    """Hands items in batches to `flush`, which answers one result or one exception for each, in their order.

    An exception that `flush` raises goes to every item of that batch. `max_waiting` bounds the sum of `weight`, which
    is one an item unless given. An item heavier than the bound is taken while nothing else waits.
    """

    def __init__(
        self,
        flush: Callable[[list[Item]], Awaitable[Sequence[Result | BaseException]]],
        *,
        max_batch: int,
        max_waiting: int,
        concurrency: int = 1,
        weight: Callable[[Item], int] = lambda item: 1,
    ) -> None:
        self._flush = flush
        self._max_batch = max_batch
        self._max_waiting = max_waiting
        self._concurrency = concurrency
        self._weight = weight
        self._waiting_weight = 0
        self._waiting: deque[tuple[Item, _Group[Result], int]] = deque()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    async def submit(self, item: Item) -> Result:
        return (await self.submit_many([item]))[0]

    async def submit_many(self, items: Sequence[Item]) -> list[Result]:
        """All items, in the fewest batches; the first exception is raised after every item has ended."""
        results: list[Result] = []
        for result in await self.submit_each(items):
            if isinstance(result, BaseException):
                raise result
            results.append(result)
        return results

    async def submit_each(self, items: Sequence[Item]) -> list[Result | BaseException]:
        """All items, in the fewest batches; each with its own result or exception."""
        if not items:
            return []
        weight = sum(map(self._weight, items))
        if self._waiting and self._waiting_weight + weight > self._max_waiting:
            raise QueueFull
        self._waiting_weight += weight
        group: _Group[Result] = _Group(len(items))
        self._waiting.extend((item, group, index) for index, item in enumerate(items))
        if len(self._tasks) < self._concurrency:
            self._tasks.add(asyncio.create_task(self._run()))
        await group.done
        return cast("list[Result | BaseException]", group.results)  # every place was filled

    async def drain(self) -> None:
        """Waits until nothing waits and no flush is under way."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def _run(self) -> None:
        try:
            while self._waiting:
                await self._flush_next()
        finally:
            # At once and not in a callback of the task: what is submitted in between would wait for nobody.
            self._tasks.discard(asyncio.current_task())

    async def _flush_next(self) -> None:
        count = min(len(self._waiting), self._max_batch)
        batch = [self._waiting.popleft() for _ in range(count)]
        self._waiting_weight -= sum(self._weight(item) for item, _, _ in batch)
        try:
            results = await self._flush([item for item, _, _ in batch])
            if len(results) != count:
                raise RuntimeError(f"a flush of {count} items answered {len(results)} results")
        except asyncio.CancelledError:
            for _, group, _ in batch:
                group.done.cancel()
            raise
        except Exception as error:  # noqa: BLE001 - every waiter is told
            results = [error] * count
        for (_, group, index), result in zip(batch, results, strict=True):
            group.ended(index, result)
