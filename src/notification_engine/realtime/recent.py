"""What went to the connections of this process lately, so that the poll and the bus do not bring it again."""

import time
from collections import OrderedDict
from datetime import datetime, timedelta

SECONDS = 60.0
BOUND = 100_000
SAME = timedelta(seconds=2)  # a live frame carries an estimate of the moment that the server stamps


class Recent:
    """By id and the moment it surfaced: what comes back from a snooze is new again. Bounded by age and number; what
    is forgotten too early comes twice, which clients expect."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, tuple[float, datetime]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def add(self, document_id: str, visible_at: datetime) -> None:
        now = time.monotonic()
        self._known[document_id] = (now, visible_at)
        self._known.move_to_end(document_id)
        while len(self._known) > BOUND or next(iter(self._known.values()))[0] < now - SECONDS:
            self._known.popitem(last=False)

    def has(self, document_id: str, visible_at: datetime) -> bool:
        known = self._known.get(document_id)
        return known is not None and visible_at <= known[1] + SAME
