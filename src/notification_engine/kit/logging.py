"""The log: one JSON object a line with exactly the deployment guide's fields, or lines for people.

Everything beside the named fields goes into `metadata`. The engine's own lines are rendered once and handed to the
handlers as they are, without a record of the standard library, which costs more than the rest of a line; the loggers of
libraries (server, driver) pass through the same formatter. The request id travels in a context variable.

Invariant: one call is one line. What a caller can put into a field (a path, an id) ends no line, moves no cursor and
turns no text around: whatever is not printable is written as an escape.
"""

import json
import logging
import logging.handlers
import re
import sys
from collections.abc import MutableMapping, Sequence
from pathlib import Path
from typing import Any

import orjson
import structlog
from structlog.typing import FilteringBoundLogger

from notification_engine.kit.tracing import current_trace_id

_FIELDS = ("request_id", "user_id", "notification_id")
# Controls (C0, C1), line and paragraph separators, marks that turn the direction of a text; lone surrogates.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
_UNPRINTABLE_IN_TRACES = re.compile(_UNPRINTABLE.pattern.replace("\x00-\x1f", "\x00-\x09\x0b-\x1f"))


def _shape(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    line: dict[str, Any] = {
        "timestamp": event.pop("timestamp"),
        "level": event.pop("level", "info").upper(),
        "service": "notification-engine",
        "component": event.pop("component", event.pop("logger", None) or "engine"),
    }
    for name in _FIELDS:
        line[name] = event.pop(name, None)
    line["message"] = event.pop("event", "")
    line["metadata"] = {k: v for k, v in event.items() if not k.startswith("_") and v is not None}
    return line


def _rendered(_: Any, __: str, line: MutableMapping[str, Any]) -> str:
    """A line is never lost: what orjson refuses (a lone surrogate, a number past 64 bits) goes the slow way."""
    try:
        dumped = orjson.dumps(line, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
    except TypeError:
        return json.dumps(line, default=str, skipkeys=True)
    # JSON itself escapes what is below U+0020.
    return dumped if dumped.isascii() else _UNPRINTABLE.sub(_escaped, dumped)


def _escaped(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}"


class _Line(logging.LogRecord):
    """A line of the engine's own, rendered already. It is a record only where a handler reports that it failed."""

    msg, args, exc_info, exc_text, stack_info = "A line of the log", None, None, None, None

    def __init__(self, text: str) -> None:
        self.text = text


class _Formatter(structlog.stdlib.ProcessorFormatter):
    def format(self, record: logging.LogRecord) -> str:
        return record.text if isinstance(record, _Line) else super().format(record)


class _Handlers:
    """Where rendered lines go: a logger as structlog calls it, by the name of the level."""

    def __init__(self, handlers: Sequence[logging.Handler]) -> None:
        self._handlers = handlers

    def __call__(self, *_: Any) -> "_Handlers":
        return self

    def write(self, text: str) -> None:
        for handler in self._handlers:
            handler.handle(_Line(text))

    debug = info = warning = error = critical = write


def _traced(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Where traces are on; it stands in `metadata`, so that the guide's fields stay as they are."""
    if (trace_id := current_trace_id()) is not None:
        event["trace_id"] = trace_id
    return event


_SHARED: list[Any] = [
    structlog.contextvars.merge_contextvars,
    _traced,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.format_exc_info,
]


def configure_logging(level: str, fmt: str, file: Path | None = None) -> None:
    """`fmt` is `json` or `console`. The file is written beside standard output and survives its rotation."""
    last: list[Any] = [_shape, _rendered]
    if fmt == "console":
        plain = structlog.dev.plain_traceback
        last = [_for_people, structlog.dev.ConsoleRenderer(colors=sys.stdout.isatty(), exception_formatter=plain)]
    formatter = _Formatter(
        foreign_pre_chain=[*_SHARED, structlog.stdlib.add_logger_name],
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
    )
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stdout)]
    if file is not None:
        handlers.append(logging.handlers.WatchedFileHandler(file, encoding="utf-8"))
    for handler in handlers:
        handler.setFormatter(formatter)
    logging.basicConfig(level=level, handlers=handlers, force=True)
    # What no line shows is not gathered for it (logging HOWTO, "Optimization"): the calling frame, thread, process.
    logging._srcfile = None
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    for noisy in ("pymongo", "asyncio", "aiosmtplib", "uvicorn.error"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    structlog.configure(
        processors=[*_SHARED, *last],
        logger_factory=_Handlers(handlers),
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=True,
    )


def _for_people(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Whole seconds, and nothing about what is not there."""
    event["timestamp"] = event["timestamp"][:19] + "Z"
    return {name: _printable(name, value) for name, value in event.items() if value is not None}


def _printable(name: str, value: Any) -> Any:
    """Of a traceback only the ends of lines stay as they are; what is no text is shown by its `repr`."""
    if not isinstance(value, str):
        return value
    return (_UNPRINTABLE_IN_TRACES if name == "exception" else _UNPRINTABLE).sub(_escaped, value)


def get_logger(component: str) -> FilteringBoundLogger:
    logger: FilteringBoundLogger = structlog.get_logger("notification_engine", component=component)
    return logger
