import asyncio

import pytest

from notification_engine.domain.errors import Conflict, Unavailable
from notification_engine.services import intake


async def test_an_answer_comes_in_time_or_nothing_is_promised(monkeypatch: pytest.MonkeyPatch) -> None:
    """The database may go away while preferences, types or users' keys are read, each with a patience of its own."""
    monkeypatch.setattr(intake, "ANSWER_SECONDS", 0.01)
    cut_off = asyncio.Event()

    async def never() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cut_off.set()

    with pytest.raises(Unavailable) as raised:
        await intake._in_time(never())
    assert raised.value.retry_after == 2
    assert cut_off.is_set()


async def test_what_is_in_time_passes_through() -> None:
    async def answers() -> int:
        return 7

    async def refuses() -> None:
        raise Conflict("not now")

    assert await intake._in_time(answers()) == 7
    with pytest.raises(Conflict):
        await intake._in_time(refuses())
