"""A bounded GET of an address that a caller named: guarded, without redirects, up to a size and a deadline."""

import asyncio
import time
from dataclasses import dataclass

import aiohttp

from notification_engine.domain.delivery import Reason
from notification_engine.net.exchange import CONNECT_SECONDS, Session
from notification_engine.net.guard import BlockedAddress

_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS)
_CHUNK = 64 * 1024


@dataclass(frozen=True, slots=True)
class Downloaded:
    content: bytes


@dataclass(frozen=True, slots=True)
class NotDownloaded:
    """`final`: asking again would not help."""

    reason: Reason
    detail: str
    final: bool


async def download(session: Session, url: str, max_bytes: int, until: float) -> Downloaded | NotDownloaded:
    """`until` is the total deadline on the monotonic clock."""
    try:
        async with (
            asyncio.timeout(until - time.monotonic()),
            session().get(url, timeout=_TIMEOUT, allow_redirects=False) as answer,
        ):
            if answer.status != 200:
                final = 300 <= answer.status < 500 and answer.status not in {408, 425, 429}
                return NotDownloaded(Reason.ATTACHMENT_FAILED, f"HTTP {answer.status}", final)
            content = bytearray()
            async for chunk in answer.content.iter_chunked(_CHUNK):
                content += chunk
                if len(content) > max_bytes:
                    return NotDownloaded(Reason.TOO_LARGE, f"more than {max_bytes} bytes", final=True)
            return Downloaded(bytes(content))
    except (aiohttp.InvalidURL, UnicodeError):
        return NotDownloaded(Reason.INVALID_ADDRESS, "not a usable URL", final=True)
    except aiohttp.ClientConnectorError as error:
        if isinstance(error.os_error, BlockedAddress):
            return NotDownloaded(Reason.BLOCKED_ADDRESS, str(error.os_error), final=True)
        return NotDownloaded(Reason.ATTACHMENT_FAILED, type(error).__name__, final=False)
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        return NotDownloaded(Reason.ATTACHMENT_FAILED, type(error).__name__, final=False)
