"""An engine that traces (SIGUSR1) or does not (SIGUSR2), for `traces`: off is as if no collector were named.

One process, because two of the same engine differ by 5 %, which is half of what is to be measured.
"""

import asyncio
import signal
import sys

import uvloop
from starlette.types import Receive, Scope, Send

from notification_engine.api import app, traced
from notification_engine.cli import server
from notification_engine.kit import tracing
from notification_engine.settings import load_settings


class Switched(traced.Traced):
    """Passed by where nothing records."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        inner = self._app if tracing._recorder is None else super().__call__
        await inner(scope, receive, send)


async def main(port: int) -> None:
    loop, recorders = asyncio.get_running_loop(), []

    def off() -> None:
        if tracing._recorder is not None:
            recorders.append(tracing._recorder)
        tracing.record(None)

    loop.add_signal_handler(signal.SIGUSR1, lambda: tracing.record(recorders[0]))
    loop.add_signal_handler(signal.SIGUSR2, off)
    await server.serve(load_settings(), host="127.0.0.1", port=port)


if __name__ == "__main__":
    app.Traced = Switched  # type: ignore[misc,attr-defined]
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(int(sys.argv[sys.argv.index("--port") + 1])))
