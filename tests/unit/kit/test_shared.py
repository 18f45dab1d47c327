import asyncio

import pytest

from notification_engine.kit.shared import Shared


class Source:
    """Answers when it is told to, with the number of the call or an error."""

    def __init__(self) -> None:
        self.calls = 0
        self.answer = asyncio.Event()
        self.error: Exception | None = None

    async def __call__(self) -> int:
        self.calls += 1
        number = self.calls
        await self.answer.wait()
        if self.error is not None:
            raise self.error
        return number


async def _begun(*tasks: asyncio.Task[int]) -> None:
    for _ in range(len(tasks) + 1):
        await asyncio.sleep(0)


async def test_who_asks_meanwhile_gets_the_same_result() -> None:
    source = Source()
    shared = Shared(source)
    tasks = [asyncio.create_task(shared.get()) for _ in range(5)]
    await _begun(*tasks)
    source.answer.set()
    assert await asyncio.gather(*tasks) == [1] * 5
    assert await shared.get() == 2


async def test_one_failure_is_everybodys_and_the_next_call_is_a_new_one() -> None:
    source = Source()
    source.error = OSError("away")
    shared = Shared(source)
    tasks = [asyncio.create_task(shared.get()) for _ in range(5)]
    await _begun(*tasks)
    source.answer.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(r) for r in results] == [OSError] * 5
    assert source.calls == 1
    source.error = None
    assert await shared.get() == 2


async def test_who_is_cancelled_leaves_the_call_to_the_others() -> None:
    source = Source()
    shared = Shared(source)
    first, second = asyncio.create_task(shared.get()), asyncio.create_task(shared.get())
    await _begun(first, second)
    first.cancel()
    source.answer.set()
    assert await second == 1
    with pytest.raises(asyncio.CancelledError):
        await first
