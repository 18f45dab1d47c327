"""Waiting for a condition within a bound."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any


async def until(probe: Callable[[], Awaitable[Any]], seconds: float, what: str, *, pause: float = 0.05) -> float:
    """Asks again until `probe` answers something true; answers the seconds it took. Raises AssertionError."""
    started = time.monotonic()
    while not await probe():
        waited = time.monotonic() - started
        assert waited < seconds, f"not within {seconds:.0f} s: {what}"
        await asyncio.sleep(pause)
    return time.monotonic() - started
