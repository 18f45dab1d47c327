"""The sweeper: claims what is due and free or expired.

At once the retry queue, the schedule, the recovery after a crash and the distribution of work; a wake-up only brings it
forward.
"""

from notification_engine.daemon.dispatcher import Dispatcher
from notification_engine.kit.loop import Loop
from notification_engine.services.ports import NotificationStore


class Sweeper(Loop):
    name = "sweeper"

    def __init__(
        self, store: NotificationStore, dispatcher: Dispatcher, *, interval_seconds: float, batch_size: int
    ) -> None:
        super().__init__(interval_seconds)
        self._store = store
        self._dispatcher = dispatcher
        self._batch_size = batch_size

    async def run_once(self) -> None:
        """Sweeps until nothing is left to claim or this process is full; then it goes on as soon as there is room.

        A batch that comes back short ends nothing: what it lacks, another daemon claimed meanwhile.
        """
        self._dispatcher.shed()
        while limit := min(self._batch_size, self._dispatcher.room):
            granted = self._dispatcher.reserve(limit)
            try:
                claimed = await self._store.claim(self._dispatcher.owner, granted, self._dispatcher.lease_seconds)
                self._dispatcher.claimed(claimed)
            finally:
                self._dispatcher.release(granted)
            if not claimed:
                return
        self._dispatcher.when_room(self.wake)
