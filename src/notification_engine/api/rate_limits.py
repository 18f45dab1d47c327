"""Rate limits on requests: which class a request belongs to, who asks, and what the answer says of it.

Invariant: 429 always means a rate limit, and carries `Retry-After`. The headers follow the Internet-Draft
draft-ietf-httpapi-ratelimit-headers-11.
"""

import ipaddress
from collections.abc import MutableMapping
from typing import Any

from fastapi import Request
from starlette.requests import HTTPConnection

from notification_engine.domain.errors import RateLimited
from notification_engine.domain.rate_limit import RateClass, Taken
from notification_engine.services.ports import RateLimits

SCOPE_KEY = "notification_engine.rate_limit"
_V6_PREFIX = 64  # what one customer has at least: within it everyone can choose any address
_SENDING = ("/notifications", "/notifications/", "/notifications/batch")
_LIVE = ("/notifications/ws/ticket", "/notifications/stream")


def class_of(method: str, path: str) -> RateClass:
    """Of a request with a caller."""
    if path.endswith(_LIVE):
        return RateClass.LIVE
    if method in {"GET", "HEAD"}:
        return RateClass.READ
    return RateClass.SEND if method == "POST" and path.endswith(_SENDING) else RateClass.WRITE


def address_of(connection: HTTPConnection) -> str:
    """The client's address, of IPv6 its network; as `ClientAddress` left it."""
    host = connection.client.host if connection.client else ""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if address.version == 6:
        return str(ipaddress.ip_network((int(address), _V6_PREFIX), strict=False))
    return host


def take(connection: HTTPConnection, name: RateClass, subject: str) -> None:
    """Raises RateLimited. What is left is told in the headers of the answer."""
    limits: RateLimits = connection.app.state.services.limits
    taken = limits.take(name, subject)
    if taken is None:
        return
    connection.scope[SCOPE_KEY] = taken
    if not taken.allowed:
        raise RateLimited(
            f"More than {taken.limit.amount} requests of the class {name} in {taken.limit.seconds} s.",
            retry_after=taken.retry_after,
        )


def take_for_caller(request: Request, sub: str) -> None:
    """For whoever has authenticated. Raises RateLimited."""
    take(request, class_of(request.method, request.scope["path"]), sub)


def take_for_stranger(connection: HTTPConnection) -> None:
    """For whom no token of ours was good: too many from one address are refused as such. Raises RateLimited."""
    take(connection, RateClass.AUTH, address_of(connection))


async def public(request: Request) -> None:
    """A dependency of routes without a caller. Raises RateLimited."""
    take(request, RateClass.PUBLIC, address_of(request))


def rate_limit_headers(scope: MutableMapping[str, Any]) -> list[tuple[bytes, bytes]]:
    taken: Taken | None = scope.get(SCOPE_KEY)
    if taken is None:
        return []
    policy = f'"{taken.name}";q={taken.limit.amount};w={taken.limit.seconds}'
    left = f'"{taken.name}";r={taken.remaining};t={taken.retry_after or taken.reset}'
    return [(b"ratelimit-policy", policy.encode()), (b"ratelimit", left.encode())]
