"""One HTTP call out, and what can be said for sure of it: answered, never sent, or lost after it may have been read.

The caller decides what an answer means; this file alone decides whether a request was on the wire.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import aiohttp
from multidict import CIMultiDictProxy

from notification_engine.domain.delivery import Reason
from notification_engine.net.guard import BlockedAddress

MAX_ANSWER_BYTES = 64 * 1024
CONNECT_SECONDS = 10.0
# The deadline bounds the whole; the client's own total would forget one that has passed.
_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS)

Session = Callable[[], aiohttp.ClientSession]


@dataclass(frozen=True, slots=True)
class Answered:
    """The status line and the headers were read; the body does not count."""

    status: int
    headers: CIMultiDictProxy[str]


@dataclass(frozen=True, slots=True)
class NotSent:
    """No byte of the request was written: definite."""

    reason: Reason
    detail: str


@dataclass(frozen=True, slots=True)
class Lost:
    """The request was written, at least in part, and no answer came."""

    reason: Reason
    detail: str


Exchanged = Answered | NotSent | Lost


class Written(SimpleNamespace):
    """Whether the request of one call has reached the wire; set by `written_trace`."""

    yes: bool = False


def written_trace() -> aiohttp.TraceConfig:
    """For the session: marks the call's `Written` before its first byte is written."""
    trace = aiohttp.TraceConfig()

    async def mark(_: Any, context: SimpleNamespace, __: Any) -> None:
        if isinstance(written := context.trace_request_ctx, Written):
            written.yes = True

    trace.on_request_headers_sent.append(mark)
    return trace


async def post(session: Session, url: str, body: bytes, headers: Mapping[str, str], until: float) -> Exchanged:
    """`until` is the total deadline on the monotonic clock. Redirects are not followed; of the answer's body at most
    64 KiB are read, so that the connection can serve again."""
    written = Written()
    answered: Answered | None = None
    try:
        async with (
            asyncio.timeout(until - time.monotonic()),
            session().post(
                url, data=body, headers=headers, timeout=_TIMEOUT, allow_redirects=False, trace_request_ctx=written
            ) as answer,
        ):
            answered = Answered(answer.status, answer.headers)
            await answer.content.read(MAX_ANSWER_BYTES)
            return answered
    except (aiohttp.InvalidURL, UnicodeError):  # the second: a label that is empty or too long for DNS
        return NotSent(Reason.INVALID_ADDRESS, "not a usable URL")
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        return answered or _failed(error, written.yes)  # the status counts, whatever became of the body


def _failed(error: Exception, written: bool) -> Exchanged:
    detail = type(error).__name__
    if isinstance(error, aiohttp.ClientConnectorError) and isinstance(error.os_error, BlockedAddress):
        return NotSent(Reason.BLOCKED_ADDRESS, str(error.os_error))
    if isinstance(error, TimeoutError):
        return Lost(Reason.TIMEOUT, detail) if written else NotSent(Reason.TIMEOUT, detail)
    return Lost(Reason.CONNECTION_LOST, detail) if written else NotSent(Reason.CONNECTION_FAILED, detail)
