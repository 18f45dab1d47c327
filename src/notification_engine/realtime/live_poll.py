"""The live poll: what other replicas surfaced for users who are connected here, asked of the database.

One query a run for all of them, from the index alone; only what has not come already is read whole. It is the way
without Redis, and beside Redis what makes good for lost messages: a live frame is late by `LIVE_POLL_SECONDS` at most.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

from notification_engine.kit.clock import Clock
from notification_engine.kit.loop import Loop
from notification_engine.realtime.hub import Hub
from notification_engine.services.ports import Surfaced, SurfacedStore

MARGIN = timedelta(seconds=2)  # between the stamp and its commit, nearly always
LATE = timedelta(seconds=15)  # always: a 202 restamps what is older than 10 s
LATE_EVERY = 10
USERS = 1000
KEYS = 5000
MAX_PAGES = 10
DOCUMENTS = 100  # read and told in one go: more would hold up what others wait for


class LivePoll(Loop):
    name = "live-poll"

    def __init__(self, hub: Hub, store: SurfacedStore, clock: Clock, interval_seconds: float) -> None:
        super().__init__(interval_seconds)
        self._hub = hub
        self._store = store
        self._clock = clock
        self._looked_at: datetime | None = None
        self._runs = 0

    async def run_once(self) -> None:
        """A run that fails leaves its moment where it was: the next one looks from there."""
        now = self._clock.now()
        since = (self._looked_at or now) - MARGIN
        if self._runs % LATE_EVERY == 0:
            since = min(since, now - LATE)
        users = self._hub.users()
        for start in range(0, len(users), USERS):
            await self._look(users[start : start + USERS], since)
        self._looked_at = now
        self._runs += 1

    async def _look(self, users: Sequence[str], since: datetime) -> None:
        for _ in range(MAX_PAGES):
            keys = await self._store.surfaced_since(users, since, KEYS)
            await self._bring([one for one in keys if self._hub.lacks(one.id, one.visible_at)])
            if len(keys) < KEYS or keys[-1].visible_at == since:
                return
            since = keys[-1].visible_at
        self._hub.reset(users)

    async def _bring(self, keys: Sequence[Surfaced]) -> None:
        for start in range(0, len(keys), DOCUMENTS):
            ids = [one.id for one in keys[start : start + DOCUMENTS]]
            for notification in await self._store.surfaced(ids):
                self._hub.found(notification)
