"""An engine that traces (SIGUSR1) or does not (SIGUSR2), for `traces`: off is as if no collector were named.

One process, because two of the same engine differ by 5 %, which is half of what is to be measured.
"""

import asyncio
import signal

from starlette.types import Receive, Scope, Send

from bench import altered
from notification_engine.api import app, traced
from notification_engine.kit import tracing


class Switched(traced.Traced):
    """Passed by where nothing records."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        inner = self._app if tracing._recorder is None else super().__call__
        await inner(scope, receive, send)


def listen() -> None:
    loop, recorders = asyncio.get_running_loop(), []

    def off() -> None:
        if tracing._recorder is not None:
            recorders.append(tracing._recorder)
        tracing.record(None)

    loop.add_signal_handler(signal.SIGUSR1, lambda: tracing.record(recorders[0]))
    loop.add_signal_handler(signal.SIGUSR2, off)


if __name__ == "__main__":
    app.Traced = Switched  # type: ignore[misc,attr-defined]
    altered.serve(listen)
