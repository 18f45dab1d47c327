"""Who is connected, and what the replicas tell each other."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from notification_engine.domain.notification import Notification
from notification_engine.domain.rate_limit import RateClass, Taken


@dataclass(frozen=True, slots=True)
class Surfaced:
    """That a notification is in the inbox of its user, and since when."""

    id: str
    user_id: str
    visible_at: datetime


@dataclass(frozen=True, slots=True)
class Beat:
    """The last heartbeat of a replica that lives, so many seconds ago."""

    replica: str
    age_seconds: float
    connections: Mapping[str, int]


class SurfacedStore(Protocol):
    """What surfaced lately, for many users at once, as a majority has it."""

    async def surfaced_since(
        self, user_ids: Sequence[str], since: datetime, limit: int, *, newest: bool = False
    ) -> list[Surfaced]:
        """Oldest first, or newest first, from the index alone."""
        ...

    async def surfaced(self, ids: Sequence[str]) -> list[Notification]:
        """In the order in which they surfaced; what is no longer in an inbox is left out."""
        ...


class Bus(Protocol):
    """Hints between replicas. What is told may be lost, late or doubled: nothing may depend on it, and the database
    has the truth. Nobody hears itself."""

    reaches_others: bool

    def tell(self, topic: str, message: bytes) -> None:
        """To the other replicas that listen. Never waits; past its bound it drops and counts. An empty message that
        still waits is not told twice."""
        ...

    def listen(self, topic: str, hear: Callable[[bytes], None]) -> None: ...
    def leave(self, topic: str) -> None: ...


class RateLimits(Protocol):
    """How much a subject may still ask. Answers from memory: nobody waits for it."""

    def take(self, name: RateClass, subject: str) -> Taken | None: ...


class Live(Protocol):
    """Signals to connected clients of a user; a hint, never the record."""

    def surfaced(self, notification: Notification) -> None: ...
    def updated(self, notification: Notification) -> None: ...
    def unread(self, user_id: str, count: int) -> None: ...
