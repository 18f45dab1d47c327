"""The reference of `listener`: the engine whose driver tells nobody what each command of MongoDB took."""

import asyncio
import sys
from typing import Any

import uvloop

from notification_engine.cli import server
from notification_engine.settings import load_settings
from notification_engine.storage.connection import Database
from notification_engine.wiring import stores


class Unheard(Database):
    def __init__(self, *args: Any, observe: object, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)


if __name__ == "__main__":
    stores.Database = Unheard  # type: ignore[misc,attr-defined]
    serving = server.serve(load_settings(), host="127.0.0.1", port=int(sys.argv[sys.argv.index("--port") + 1]))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serving)
