import asyncio
from typing import Any

from structlog.testing import capture_logs

from notification_engine.kit.loop import Loop

LONG = 3600.0


class Counting(Loop):
    """Counts its runs; raises what it is told to, once each."""

    name = "counting"

    def __init__(self, interval_seconds: float = LONG, *failures: Exception) -> None:
        super().__init__(interval_seconds)
        self.failures = list(failures)
        self.runs = 0
        self.cleaned_up = 0

    async def run_once(self) -> None:
        self.runs += 1
        if self.failures:
            raise self.failures.pop(0)

    async def has_run(self, count: int) -> None:
        async with asyncio.timeout(5):
            while self.runs < count:
                self.ran.clear()
                await self.ran.wait()


async def test_a_loop_runs_at_once_and_then_at_its_interval() -> None:
    loop = Counting(0.001)
    await loop.start()
    await loop.has_run(5)
    await loop.stop()
    assert loop.last_beat is not None


async def test_a_wake_brings_the_next_run_forward() -> None:
    loop = Counting()
    await loop.start()
    await loop.has_run(1)
    for count in (2, 3, 4):
        loop.wake()
        await loop.has_run(count)
    await loop.stop()


async def test_a_wake_during_a_run_is_not_lost() -> None:
    class Slow(Counting):
        entered = asyncio.Event()
        leave = asyncio.Event()

        async def run_once(self) -> None:
            await super().run_once()
            self.entered.set()
            await self.leave.wait()

    loop = Slow()
    await loop.start()
    await loop.entered.wait()
    loop.wake()
    loop.leave.set()
    await loop.has_run(2)
    await loop.stop()


async def test_many_wakes_at_once_are_one_run() -> None:
    loop = Counting()
    await loop.start()
    await loop.has_run(1)
    for _ in range(100):
        loop.wake()
    await loop.has_run(2)
    await asyncio.sleep(0)
    await loop.stop()
    assert loop.runs == 2


async def test_an_error_is_counted_and_logged_and_the_loop_goes_on() -> None:
    loop = Counting(0.001, OSError("the store is away"), ValueError("a defect"))
    with capture_logs() as logged:
        await loop.start()
        await loop.has_run(3)
        await loop.stop()
    assert loop.errors == 2
    assert loop.last_beat is not None
    assert [(line["log_level"], line["loop"]) for line in logged] == [("error", "counting")] * 2


async def test_a_run_that_failed_is_no_beat() -> None:
    loop = Counting(LONG, OSError())
    await loop.start()
    await loop.has_run(1)
    assert (loop.errors, loop.last_beat) == (1, None)
    await loop.stop()


def tasks_of(loop: Counting) -> list[asyncio.Task[Any]]:
    """Of this loop: what others have under way comes and goes."""
    return [task for task in asyncio.all_tasks() if task.get_name() == loop.name]


async def test_a_loop_starts_and_stops_a_hundred_times() -> None:
    loop = Counting()
    for count in range(1, 101):
        await loop.start()
        await loop.has_run(count)
        await loop.stop()
    assert tasks_of(loop) == []
    assert loop.runs == 100


async def test_a_hundred_stops_at_any_moment_of_the_start_leave_nothing_behind() -> None:
    loop = Counting(0.0001)
    for turn in range(100):
        await loop.start()
        for _ in range(turn % 5):
            await asyncio.sleep(0)
        await loop.stop()
    assert tasks_of(loop) == []
    assert loop.errors == 0


async def test_starting_twice_is_one_loop_and_stopping_twice_is_harmless() -> None:
    loop = Counting()
    await loop.stop()
    await loop.start()
    await loop.start()
    assert len(tasks_of(loop)) == 1
    await loop.stop()
    await loop.stop()
    assert tasks_of(loop) == []


async def test_a_stop_waits_until_the_run_has_cleaned_up() -> None:
    class Tidy(Counting):
        entered = asyncio.Event()

        async def run_once(self) -> None:
            self.entered.set()
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0)
                self.cleaned_up += 1

    loop = Tidy()
    await loop.start()
    await loop.entered.wait()
    await loop.stop()
    assert loop.cleaned_up == 1
