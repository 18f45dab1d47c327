"""The document behind a JWKS address, within a size and a time. The address is the operator's own setting."""

import asyncio

import aiohttp

from notification_engine.domain.errors import Unavailable
from notification_engine.net.exchange import Session

SECONDS = 5.0
MAX_BYTES = 256 * 1024


async def fetch_keys(session: Session, url: str, *, seconds: float = SECONDS) -> bytes:
    """Raises Unavailable. Redirects are not followed, so that https stays https."""
    headers = {"Accept": "application/jwk-set+json, application/json", "Accept-Encoding": "identity"}
    try:
        async with (
            asyncio.timeout(seconds),
            session().get(url, headers=headers, allow_redirects=False) as answer,
        ):
            if answer.status != 200:
                raise Unavailable(f"JWT_JWKS_URL: answered {answer.status}.")
            body = await answer.content.read(MAX_BYTES + 1)
            while not answer.content.at_eof() and len(body) <= MAX_BYTES:
                body += await answer.content.read(MAX_BYTES + 1)
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
        raise Unavailable(f"JWT_JWKS_URL: no answer ({type(error).__name__}).") from None
    if len(body) > MAX_BYTES:
        raise Unavailable("JWT_JWKS_URL: the answer is too large.")
    return body
