"""The reference of `defences`: the engine with authentication and nothing beyond it.

Taken away are the strict reading of bodies, the rate limits' headers and the client's address behind proxies, the
headers of every answer, the check of the revocations and the sealing of addresses and texts. Validation stays: it is
the API's contract and no defence alone.
"""

from starlette.types import ASGIApp, Receive, Scope, Send

from bench import altered
from notification_engine.api import app, middleware
from notification_engine.cli import server
from notification_engine.domain.caller import Caller
from notification_engine.wiring import Engine


class BareEngine(Engine):
    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]
        self.notifications._sealing = None
        self.revocations.denies = _nothing  # type: ignore[method-assign]


class Straight:
    """In the place of a middleware."""

    def __init__(self, app: ASGIApp, **_: object) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)


def _nothing(caller: Caller) -> bool:
    return False


if __name__ == "__main__":
    app.strictly = lambda router: router  # type: ignore[assignment]
    app.ClientAddress = Straight  # type: ignore[misc,assignment]
    middleware.EVERY_ANSWER = ()  # type: ignore[assignment]
    server.Engine = BareEngine  # type: ignore[misc]
    altered.serve()
