"""The engine as a script of `bench` has altered it, on the port that its `--port` names."""

import asyncio
import sys
from collections.abc import Callable

import uvloop

from notification_engine.cli import server
from notification_engine.settings import load_settings


def serve(prepare: Callable[[], None] = lambda: None) -> None:
    """Until a signal. `prepare` is called in the running loop, before the engine is made."""

    async def served() -> None:
        prepare()
        await server.serve(load_settings(), host="127.0.0.1", port=int(sys.argv[sys.argv.index("--port") + 1]))

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(served())
