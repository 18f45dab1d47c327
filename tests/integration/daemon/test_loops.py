"""Loops end when they are told to, whatever becomes of the cancel inside the driver."""

import asyncio
import contextlib

from notification_engine.kit.loop import Loop


class _Swallowing(Loop):
    """Its first cancel is lost, as `asyncio.wait_for` of Python 3.11 loses one that meets a connection just made."""

    name = "swallowing"

    def __init__(self) -> None:
        super().__init__(3600)
        self.began = asyncio.Event()
        self.swallowed = False

    async def run_once(self) -> None:
        self.began.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        self.swallowed = True


async def test_a_loop_whose_cancel_is_swallowed_still_stops() -> None:
    loop = _Swallowing()
    await loop.start()
    await loop.began.wait()
    async with asyncio.timeout(10):
        await loop.stop()
    assert loop.swallowed
    assert not [task for task in asyncio.all_tasks() if task.get_name() == loop.name]


class _Counted(Loop):
    """A run ends when it is let go."""

    name = "counted"

    def __init__(self) -> None:
        super().__init__(3600)
        self.began, self.let_go = asyncio.Event(), asyncio.Event()
        self.ended = 0

    async def run_once(self) -> None:
        self.began.set()
        await self.let_go.wait()
        self.ended += 1


async def test_a_run_under_way_may_end_before_its_loop_does() -> None:
    loop = _Counted()
    await loop.start()
    await loop.began.wait()
    finishing = asyncio.create_task(loop.finish(10))
    await asyncio.sleep(0)  # it is told
    loop.let_go.set()
    await finishing
    assert loop.ended == 1


async def test_a_run_that_does_not_end_is_cut_off_and_an_idle_loop_ends_at_once() -> None:
    stuck, idle = _Counted(), _Counted()
    idle.let_go.set()
    for loop in (stuck, idle):
        await loop.start()
        await loop.began.wait()
    await idle.ran.wait()
    async with asyncio.timeout(10):
        await stuck.finish(0.05)
        await idle.finish(3600)
    assert (stuck.ended, idle.ended) == (0, 1)
