"""One process's life: the database (embedded or given), the engine, the HTTP server, and an orderly end.

SIGTERM and SIGINT are ours, not the server's: it would close its listener before readiness says so. A second one ends
the process without waiting for what is in flight; leases expire and another claim resumes it.
"""

import asyncio
import contextlib
import gc
import logging
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import uvicorn
import uvloop
from fastapi import FastAPI

from notification_engine.domain.errors import ConfigurationError
from notification_engine.health.group import Group
from notification_engine.kit.logging import configure_logging, get_logger
from notification_engine.settings import Settings
from notification_engine.storage.embedded import EmbeddedMongod, find_binary
from notification_engine.wiring import Engine, EngineRole

GRACEFUL_SECONDS = 5
WEBSOCKET_BYTES = 64 * 1024
BACKLOG = 2048
UNTAKEN_MILLIS = 30_000
UNSENT_BYTES = 128 * 1024
log = get_logger("engine")
T = TypeVar("T")
Alongside = Callable[[Engine, str], Coroutine[Any, Any, None]]  # the engine and its address


def run(main: Coroutine[Any, Any, T]) -> T:
    """On uvloop; the coroutine handles its own signals."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)


async def serve(
    settings: Settings,
    *,
    host: str,
    port: int,
    role: EngineRole = EngineRole.ALL,
    once_serving: Alongside | None = None,
) -> None:
    """Until a signal. Raises ConfigurationError for what a person has to change before it can start."""
    configure_logging(settings.log_level, settings.LOG_FORMAT, settings.LOG_FILE)
    with bind(host, port) as listener:
        async with database(settings) as (url, exclusive), engine(settings, url, role, exclusive) as running:

            def told() -> None:
                log.info("The engine serves", address=address(listener), role=role, replica=running.replica)

            await until_stopped(running, listener, told, once_serving)


@asynccontextmanager
async def database(settings: Settings, parameters: Sequence[str] = ()) -> AsyncIterator[tuple[str, bool]]:
    """The address, and whether the database is ours alone. `parameters` are for the embedded server."""
    if settings.MONGODB_URL is not None:
        yield settings.MONGODB_URL, False
        return
    mongod = EmbeddedMongod(settings.MONGODB_DATA_DIR, find_binary(settings.MONGOD_BINARY), parameters=parameters)
    try:
        yield await mongod.start(), True
    finally:
        await mongod.stop()


def address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://{'127.0.0.1' if host in {'0.0.0.0', '::'} else host}:{port}"  # noqa: S104 - shown, not bound


@asynccontextmanager
async def engine(
    settings: Settings, url: str, role: EngineRole, exclusive: bool = False, group: Group | None = None
) -> AsyncIterator[Engine]:
    running = Engine(settings, url, role=role, exclusive=exclusive, group=group)
    try:
        await running.start()
        _spare_the_collector()
        yield running
    finally:
        await running.stop()


def _spare_the_collector() -> None:
    """What the start built stays until the end: no collection walks it again. Requests leave hardly any cycles behind,
    and a batch of 1,000 makes more objects than the default threshold of 700 allows without a collection."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 10, 10)


async def until_stopped(
    engine: Engine,
    listener: socket.socket,
    told: Callable[[], None],
    once_serving: Alongside | None = None,
    *,
    supervised: bool = False,
) -> None:
    """Serves until a signal, then drains. `told` is called once signals are ours."""
    server = http_server(engine.app)
    stop = on_signals(asyncio.current_task(), supervised=supervised)
    told()
    serving = asyncio.create_task(server.serve(sockets=[listener]), name="http-server")
    stopped = asyncio.create_task(stop.wait(), name="signal")
    alongside = [asyncio.create_task(once_serving(engine, address(listener)))] if once_serving else []
    try:
        await asyncio.wait([serving, stopped], return_when=asyncio.FIRST_COMPLETED)
        log.info("The engine drains")
        await engine.drain()
        server.should_exit = True
        await serving
        log.info("The engine has stopped")
    finally:
        for task in (*alongside, stopped, serving):
            task.cancel()
        for result in await asyncio.gather(*alongside, return_exceptions=True):
            if isinstance(result, Exception):
                log.error("What ran beside the server failed", error=repr(result))


def on_signals(main: "asyncio.Task[Any] | None", *, supervised: bool = False) -> asyncio.Event:
    """Set by the first SIGTERM or SIGINT. The second ends the process at once; a supervised one waits for SIGQUIT."""
    stop = asyncio.Event()

    def at_once() -> None:
        if main is not None:
            main.cancel("a second signal")

    def received() -> None:
        if stop.is_set() and not supervised:
            at_once()
        stop.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, received)
    if supervised:
        loop.add_signal_handler(signal.SIGQUIT, at_once)
    return stop


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield  # the process's signals are handled in `on_signals`


def _no_defect(record: logging.LogRecord) -> bool:
    """The server writes an error with a traceback for text that is no UTF-8; that is the client's fault, one line."""
    if record.exc_info and record.exc_info[0] is UnicodeDecodeError and "UTF-8" in record.getMessage():
        record.levelno, record.levelname, record.exc_info = logging.WARNING, "WARNING", None
    return True


def http_server(app: FastAPI) -> uvicorn.Server:
    logging.getLogger("uvicorn.error").addFilter(_no_defect)
    config = uvicorn.Config(
        app,
        http="httptools",
        ws="websockets-sansio",
        ws_max_size=WEBSOCKET_BYTES,
        ws_ping_interval=None,  # our own pings, at WEBSOCKET_HEARTBEAT_INTERVAL
        lifespan="off",
        access_log=False,
        proxy_headers=False,  # the server would believe more than `ClientAddress` does
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=GRACEFUL_SECONDS,
    )
    return _Server(config)


def reserve(host: str, port: int) -> socket.socket:
    """Bound and not listening: keeps the port for processes that share it, and gets no connection itself.

    Raises ConfigurationError when anyone else listens there, also processes of another engine that would share it.
    """
    with bind(host, port) as probe:
        port = probe.getsockname()[1]
    return bind(host, port, shared=True, listening=False)


def bind(host: str, port: int, *, shared: bool = False, listening: bool = True) -> socket.socket:
    """A listening socket. Raises ConfigurationError when the address is taken or not ours. `shared`: the kernel spreads
    the connections over all that listen on the port."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if shared:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        listener.bind((host, port))
        if listening:
            _bound_clients(listener)
            listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise ConfigurationError(
            f"--port {port}: {host}:{port} cannot be listened on ({error.strerror}); name another with --port, "
            'or make run ARGS="--port 8001".'
        ) from None
    return listener


def _bound_clients(listener: socket.socket) -> None:
    """Accepted sockets inherit these. A peer that takes nothing for so long loses its connection, which nothing above
    TCP could end while bytes for it wait; and the kernel keeps little for it that it was not yet sent (else 4 MiB)."""
    if sys.platform == "linux":
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNTAKEN_MILLIS)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)
