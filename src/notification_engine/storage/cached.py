"""What stores that keep their reads for a few seconds have in common: a change is seen here at once, and told.

Invariant: what was read before a change is not kept after it, although the read may end later (`changes` tells).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable


class Cached(ABC):
    """`on_change` tells the other replicas, which then `forget`. Whom that does not reach forgets by time."""

    def __init__(self) -> None:
        self.changes = 0
        self.on_change: Callable[[str], None] = lambda key: None

    def changed(self, key: str) -> None:
        self.forget(key)
        self.on_change(key)

    def forget(self, key: str) -> None:
        self.changes += 1
        self._drop(key)

    @abstractmethod
    def _drop(self, key: str) -> None: ...
