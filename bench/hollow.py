"""The reference of `accept`: the engine's own application whose stores answer at once and keep nothing.

Authentication, validation, planning, encoding, metrics and the log are the engine's. `/bench/validated` is the stricter
reference: it authenticates and validates the same body and does nothing else.
"""

from collections.abc import Sequence
from functools import partial

from fastapi.responses import Response

from bench import altered
from notification_engine.api.answers import answer
from notification_engine.api.dependencies import Sender
from notification_engine.api.models.send import SendIn
from notification_engine.api.notifications import IdempotencyKey, accepted_view
from notification_engine.cli import server
from notification_engine.domain.outcome import Attempt
from notification_engine.services.ports import Inserted
from notification_engine.services.requests import AcceptedEvent
from notification_engine.wiring import Engine


class HollowEngine(Engine):
    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]
        self.notifications.insert_each = _insert  # type: ignore[method-assign]
        self.history.append = _append  # type: ignore[method-assign]
        self.app.post("/bench/validated", status_code=202)(_validated)


async def _insert(documents: Sequence[tuple[str, bytes]]) -> list[Inserted]:
    return [Inserted()] * len(documents)


async def _append(attempts: Sequence[Attempt]) -> None:
    return None


async def _validated(body: SendIn, caller: Sender, key: IdempotencyKey = None) -> Response:
    return answer(accepted_view(AcceptedEvent(body.title, [])), 202)


if __name__ == "__main__":
    server.Engine = HollowEngine  # type: ignore[misc]
    server.bind = partial(server.bind, shared=True)  # several of these may listen on one port
    altered.serve()
