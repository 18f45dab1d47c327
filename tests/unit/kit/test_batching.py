import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notification_engine.kit.batching import Batcher, QueueFull


class Gate:
    """A flush that waits until it is let through, and keeps what it was given."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.begun = asyncio.Semaphore(0)
        self.passes = asyncio.Semaphore(0)
        self.open = 0
        self.most_open = 0

    async def flush(self, items: list[int]) -> Sequence[int | BaseException]:
        self.batches.append(items)
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        self.begun.release()
        await self.passes.acquire()
        self.open -= 1
        return [item * 10 for item in items]

    def let_through(self, count: int = 1_000) -> None:
        for _ in range(count):
            self.passes.release()


def batcher(flush: object, **bounds: int) -> Batcher[int, int]:
    plain = {"max_batch": 100, "max_waiting": 1_000}
    return Batcher(flush, **(plain | bounds))  # type: ignore[arg-type]


async def submitted(batcher: Batcher[int, int], *items: int) -> list[asyncio.Task[int]]:
    """Tasks that have all reached the queue."""
    tasks = [asyncio.create_task(batcher.submit(item)) for item in items]
    await asyncio.sleep(0)
    return tasks


async def test_what_arrives_during_a_flush_travels_together_in_the_next() -> None:
    gate = Gate()
    batching = batcher(gate.flush)
    first = await submitted(batching, 1)
    await gate.begun.acquire()
    rest = await submitted(batching, 2, 3, 4)
    assert (gate.batches, batching.waiting) == ([[1]], 3)
    gate.let_through()
    assert await asyncio.gather(*first, *rest) == [10, 20, 30, 40]
    assert gate.batches == [[1], [2, 3, 4]]


async def test_an_idle_batcher_waits_for_nobody() -> None:
    gate = Gate()
    gate.let_through()
    batching = batcher(gate.flush)
    assert [await batching.submit(i) for i in range(3)] == [0, 10, 20]
    assert gate.batches == [[0], [1], [2]]


async def test_a_batch_ends_at_its_bound() -> None:
    gate = Gate()
    gate.let_through()
    assert await batcher(gate.flush, max_batch=4).submit_many(range(10)) == [i * 10 for i in range(10)]
    assert gate.batches == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


async def test_past_the_bound_a_waiter_is_refused_and_the_others_stay() -> None:
    gate = Gate()
    batching = batcher(gate.flush, max_waiting=2)
    first = await submitted(batching, 1)
    await gate.begun.acquire()
    rest = await submitted(batching, 2, 3)
    with pytest.raises(QueueFull):
        await batching.submit(4)
    with pytest.raises(QueueFull):
        await batching.submit_many([4, 5])
    gate.let_through()
    assert await asyncio.gather(*first, *rest) == [10, 20, 30]
    assert await batching.submit(6) == 60, "there is room again"


async def test_a_request_larger_than_the_bound_is_taken_by_an_empty_queue() -> None:
    """Otherwise it could never be taken at all."""
    gate = Gate()
    gate.let_through()
    assert len(await batcher(gate.flush, max_waiting=2).submit_many(range(5))) == 5


async def test_nothing_submitted_is_nothing_flushed() -> None:
    async def never(items: list[int]) -> list[int]:
        raise AssertionError("there is nothing to flush")

    batching = batcher(never)
    assert await batching.submit_many([]) == []
    await batching.drain()


async def test_an_exception_of_the_flush_goes_to_each_waiter() -> None:
    async def fail(items: list[int]) -> list[int]:
        raise OSError(f"of {len(items)}")

    batching = batcher(fail)
    first, *rest = await submitted(batching, 1, 2, 3)
    results = await asyncio.gather(first, *rest, return_exceptions=True)
    assert [str(r) for r in results] == ["of 3"] * 3
    assert all(isinstance(r, OSError) for r in results)


async def test_an_exception_among_the_results_goes_to_its_own_waiter() -> None:
    async def flush(items: list[int]) -> list[int | BaseException]:
        return [KeyError(i) if i % 2 else i for i in items]

    tasks = await submitted(batcher(flush), 1, 2, 3)
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [repr(r) for r in results] == ["KeyError(1)", "2", "KeyError(3)"]


async def test_the_first_exception_is_raised_after_every_item_has_ended() -> None:
    done: list[int] = []

    async def flush(items: list[int]) -> list[int | BaseException]:
        done.extend(items)
        return [KeyError(i) if i in {2, 5} else i for i in items]

    with pytest.raises(KeyError) as error:
        await batcher(flush, max_batch=2).submit_many(range(7))
    assert error.value.args == (2,)
    assert done == list(range(7))


@pytest.mark.parametrize("results", [[], [1], [1, 2, 3]])
async def test_a_flush_that_answers_too_few_or_too_many_leaves_nobody_waiting(results: list[int]) -> None:
    async def flush(items: list[int]) -> list[int]:
        return results if len(items) == 2 else items

    batching = batcher(flush)
    async with asyncio.timeout(5):
        told = await asyncio.gather(*await submitted(batching, 1, 2), return_exceptions=True)
        assert [type(r) for r in told] == [RuntimeError, RuntimeError]
        assert await batching.submit(3) == 3


async def test_a_waiter_that_left_takes_nothing_from_the_others() -> None:
    gate = Gate()
    batching = batcher(gate.flush)
    first, second, third = await submitted(batching, 1, 2, 3)
    await gate.begun.acquire()
    second.cancel()
    gate.let_through()
    assert await first == 10
    assert await third == 30
    await asyncio.wait([second])
    assert second.cancelled()
    assert await batching.submit(4) == 40


async def test_a_cancelled_flush_cancels_its_waiters_and_the_next_goes_on() -> None:
    calls = 0

    async def flush(items: list[int]) -> list[int]:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise asyncio.CancelledError
        return items

    batching = batcher(flush)
    async with asyncio.timeout(5):
        (task,) = await submitted(batching, 1)
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await batching.submit(2) == 2


@pytest.mark.parametrize("concurrency", [1, 2, 3])
async def test_no_more_flushes_at_once_than_allowed(concurrency: int) -> None:
    gate = Gate()
    batching = batcher(gate.flush, max_batch=1, concurrency=concurrency)
    tasks = []
    for item in range(6):
        tasks += await submitted(batching, item)
    for _ in range(concurrency):
        await gate.begun.acquire()
    assert gate.open == concurrency
    gate.let_through()
    assert sorted(await asyncio.gather(*tasks)) == [i * 10 for i in range(6)]
    assert gate.most_open == concurrency


async def test_a_drain_waits_for_all_that_waits() -> None:
    gate = Gate()
    batching = batcher(gate.flush, max_batch=1)
    tasks = await submitted(batching, 1, 2, 3)
    drain = asyncio.create_task(batching.drain())
    await gate.begun.acquire()
    assert not drain.done()
    gate.let_through()
    await drain
    assert (batching.waiting, [t.done() for t in tasks]) == (0, [True] * 3)


async def test_what_is_submitted_right_after_a_flush_is_not_forgotten() -> None:
    """Between the end of a flush and the end of its task."""
    gate = Gate()
    gate.let_through()
    batching = batcher(gate.flush)

    async def chained(item: int) -> int:
        await batching.submit(item)
        return await batching.submit(item + 1)

    async with asyncio.timeout(5):
        assert await asyncio.gather(*(chained(i * 10) for i in range(50))) == [i * 100 + 10 for i in range(50)]


@given(
    st.lists(st.lists(st.integers(0, 99), min_size=1, max_size=8), min_size=1, max_size=12),
    st.integers(1, 5),
    st.integers(1, 3),
)
def test_batches_keep_the_order_of_arrival_and_lose_nothing(
    requests: list[list[int]], max_batch: int, concurrency: int
) -> None:
    flushed: list[int] = []

    async def flush(items: list[int]) -> list[int]:
        assert 1 <= len(items) <= max_batch
        flushed.extend(items)
        await asyncio.sleep(0)
        return [-item for item in items]

    async def run() -> list[list[int]]:
        batching = batcher(flush, max_batch=max_batch, concurrency=concurrency)
        return await asyncio.gather(*(batching.submit_many(request) for request in requests))

    with asyncio.Runner() as runner:
        assert runner.run(run()) == [[-item for item in request] for request in requests]
    assert flushed == [item for request in requests for item in request]
