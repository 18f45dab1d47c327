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
