"""Bodies are JSON as I-JSON (RFC 7493) has it, or refused before a model sees them: no key twice in one object, no NaN
or Infinity, no lone surrogate, valid UTF-8, nested at most 1,024 deep.

Invariant: every route that reads JSON reads it here; `strictly` makes it so, and a test looks at each. Nothing is read
of a stranger. The size was bounded before (`BodyLimit`), the number of values is here, so the work is bounded too:
one pass of orjson, which refuses everything but a key that stands twice, then one of the standard library, which keeps
whole numbers whole.
"""

import json
from collections.abc import Callable, Coroutine
from typing import Any

import orjson
from fastapi import APIRouter, Request
from fastapi.responses import Response
from fastapi.routing import APIRoute

from notification_engine.api.dependencies import Authenticated

MAX_COMMAS = 200_000  # those in texts included; a batch of 1,000 notifications of ten recipients has half as many


def parse(body: bytes | str) -> Any:
    """Raises json.JSONDecodeError, whose message repeats nothing of the body."""
    commas = body.count(",") if isinstance(body, str) else body.count(b",")
    if commas > MAX_COMMAS:
        raise json.JSONDecodeError(f"more than {MAX_COMMAS} values", "", 0)
    orjson.loads(body)
    try:
        return _DECODER.decode(body if isinstance(body, str) else body.decode())
    except RecursionError:
        raise json.JSONDecodeError("depth limit exceeded", "", 0) from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise json.JSONDecodeError("a key stands twice in one object", "", 0)
    return made


_DECODER = json.JSONDecoder(object_pairs_hook=_once)


class JsonRequest(Request):
    async def json(self) -> Any:
        if not hasattr(self, "_json"):
            self._json = parse(await self.body())
        return self._json


class JsonRoute(APIRoute):
    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        answer = super().get_route_handler()
        called = [dependency.call for dependency in self.dependant.dependencies] if self.body_field else []
        guards = [guard for guard in called if isinstance(guard, Authenticated)]

        async def strict(request: Request) -> Response:
            own = JsonRequest(request.scope, request.receive)
            for guard in guards:  # the framework reads the body before it asks who calls
                await guard(own)
            return await answer(own)

        return strict


def strictly(router: APIRouter) -> APIRouter:
    """So that no router has to remember it: an application asks each route it includes for its handler."""
    for route in router.routes:
        if type(route) is APIRoute:
            route.__class__ = JsonRoute
    return router
