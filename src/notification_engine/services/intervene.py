"""Intervene: an operator's replay, discard and recovery of dead letters, batch by batch, and a sender's cancel.

Each batch is a transaction of its own, so that a long replay is neither held in memory nor lost as a whole.
"""

from collections.abc import Awaitable, Callable

from notification_engine.domain.caller import Caller
from notification_engine.domain.notification import Notification
from notification_engine.services.ports import DeadLetterFilter, Intervened, InterventionStore

BATCH = 200
MAX_DOCUMENTS = 10_000  # of one call; `more` then asks for another

Step = Callable[[Caller, DeadLetterFilter, int], Awaitable[Intervened]]


class Intervene:
    def __init__(self, store: InterventionStore, wake: Callable[[], None]) -> None:
        """`wake` brings the next sweep forward."""
        self._store = store
        self._wake = wake

    async def cancel(self, caller: Caller, notification_id: str) -> Notification:
        """Raises NotFound, and Conflict once a lane holds it or it has ended."""
        return await self._store.cancel(caller, notification_id)

    async def replay(self, caller: Caller, query: DeadLetterFilter) -> Intervened:
        done = await self._in_batches(self._store.replay, caller, query)
        if done.changed:
            self._wake()
        return done

    async def discard(self, caller: Caller, query: DeadLetterFilter) -> Intervened:
        return await self._in_batches(self._store.discard, caller, query)

    async def _in_batches(self, step: Step, caller: Caller, query: DeadLetterFilter) -> Intervened:
        """What a replay makes fail again meanwhile is newer than the batches, which go from the oldest on."""
        changed = 0
        for _ in range(MAX_DOCUMENTS // BATCH):
            batch = await step(caller, query, BATCH)
            changed += batch.changed
            if not batch.more:
                break
        return Intervened(changed, batch.skipped, batch.more)
