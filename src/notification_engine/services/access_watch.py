"""The loop beside the requests: revocations read, uses of keys and denied access written.

It is the way by which a revocation comes without the bus, so its interval is the bound on how long one can be late.
"""

from notification_engine.kit.loop import Loop
from notification_engine.services.denials import Denials
from notification_engine.services.ports import ApiKeyStore, RevocationStore


class AccessWatch(Loop):
    name = "access-watch"

    def __init__(
        self, revocations: RevocationStore, keys: ApiKeyStore, denials: Denials, interval_seconds: float
    ) -> None:
        super().__init__(interval_seconds)
        self._revocations = revocations
        self._keys = keys
        self._denials = denials

    async def run_once(self) -> None:
        await self._revocations.refresh()
        await self._keys.write_used()
        await self._denials.write()
