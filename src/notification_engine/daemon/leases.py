"""The lease loop: renews what this process holds, every third of a lease, in one write."""

from notification_engine.daemon.dispatcher import Dispatcher
from notification_engine.kit.loop import Loop


class Leases(Loop):
    name = "leases"

    def __init__(self, dispatcher: Dispatcher) -> None:
        super().__init__(dispatcher.lease_seconds / 3)
        self._dispatcher = dispatcher

    async def run_once(self) -> None:
        await self._dispatcher.renew()
