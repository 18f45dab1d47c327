"""A provider's breaker in this process: lets calls through by the fleet's view, and counts what became of them."""

import time

from notification_engine.domain.breaker import BreakerPolicy, BreakerState, BreakerView
from notification_engine.domain.errors import EngineError
from notification_engine.kit.logging import get_logger
from notification_engine.services.ports import BreakerStore

log = get_logger("channel-email")


class Breaker:
    """While half open, one probe at a time and process."""

    def __init__(self, provider: str, policy: BreakerPolicy, store: BreakerStore) -> None:
        self.provider = provider
        self.policy = policy
        self._store = store
        self._view = BreakerView()
        self._seen_at = time.monotonic()
        self._ok = self._failed = 0
        self._probing = False

    @property
    def seconds_left(self) -> float:
        return max(0.0, self._view.open_seconds_left - (time.monotonic() - self._seen_at))

    @property
    def state(self) -> BreakerState:
        if self._view.state is BreakerState.OPEN and not self.seconds_left:
            return BreakerState.HALF_OPEN
        return self._view.state

    @property
    def pressed(self) -> bool:
        """Whether the fleet should hear of the failures here at once."""
        return self.state is BreakerState.CLOSED and self._failed >= self.policy.minimum

    def shown(self) -> dict[str, object]:
        view = self._view
        return {"state": self.state, "ok": view.ok, "failed": view.failed, "open_seconds_left": self.seconds_left}

    def allows(self) -> bool:
        """Whether a call may begin; every call that begins must be told by `record`."""
        if self.state is BreakerState.CLOSED:
            return True
        if self.state is BreakerState.OPEN or self._probing:
            return False
        self._probing = True
        return True

    def release(self) -> None:
        """What `allows` let through was not asked after all."""
        self._probing = False

    def record(self, *, ok: bool) -> None:
        self._probing = False
        self._ok += ok
        self._failed += not ok

    async def synchronise(self) -> None:
        """Exchanges the counts; they are kept when the store is away."""
        ok, failed = self._ok, self._failed
        self._ok = self._failed = 0
        try:
            if ok or failed:
                view = await self._store.exchange(self.provider, self.policy, ok, failed)
            else:
                view = await self._store.view(self.provider)
        except EngineError:
            self._ok += ok
            self._failed += failed
            raise
        before, self._view, self._seen_at = self.state, view, time.monotonic()
        if self.state is not before:
            write = log.warning if self.state is BreakerState.OPEN else log.info
            write("A breaker changed its state", provider=self.provider, was=str(before), now=str(self.state))
