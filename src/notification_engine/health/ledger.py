"""The ledger's pen: counts the 202s by the minute of their ids and writes the totals every few seconds.

Invariant: what is counted is stored, so the ledger never shows more than the notifications do; a crash loses counts,
never the other way round.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Protocol

from notification_engine.kit.ids import ulid_milliseconds
from notification_engine.kit.loop import Loop

WRITE_SECONDS = 5.0
MOMENT = 10  # characters of a ULID that say when; those of a batch have few
OPEN_MINUTES = 15  # a 202 may follow its id by the accept deadline; older minutes are closed


class LedgerStore(Protocol):
    async def write(self, totals: Mapping[datetime, int]) -> None: ...


class Ledger(Loop):
    """Implements `services.ports.Ledger`."""

    name = "ledger"

    def __init__(self, store: LedgerStore) -> None:
        super().__init__(WRITE_SECONDS)
        self._store = store
        self._totals: Counter[datetime] = Counter()
        self._changed: set[datetime] = set()

    def accepted(self, document_ids: Sequence[str]) -> None:
        moments = Counter(document_id.removeprefix("ntfy_")[:MOMENT] for document_id in document_ids)
        for moment, count in moments.items():
            seconds = ulid_milliseconds(moment) // 1000
            minute = datetime.fromtimestamp(seconds - seconds % 60, UTC)
            self._totals[minute] += count
            self._changed.add(minute)

    async def run_once(self) -> None:
        changed, self._changed = self._changed, set()
        try:
            await self._store.write({minute: self._totals[minute] for minute in sorted(changed)})
        except BaseException:
            self._changed |= changed
            raise
        closed = datetime.now(UTC) - timedelta(minutes=OPEN_MINUTES)
        for minute in [m for m in self._totals if m < closed and m not in self._changed]:
            del self._totals[minute]
