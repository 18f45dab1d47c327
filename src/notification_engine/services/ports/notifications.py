"""Notifications as they are stored: how they are accepted, claimed, changed under a fence, and read.

Ownership is in each query that a user can reach.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from notification_engine.domain.caller import Caller
from notification_engine.domain.delivery import DeliveryStatus, Reason
from notification_engine.domain.errors import EngineError, InvalidRequest
from notification_engine.domain.notification import Notification, Priority
from notification_engine.domain.outcome import Attempt
from notification_engine.services.ports.paging import Page


@dataclass(frozen=True, slots=True)
class Change:
    """The next state of one delivery, applied by the transition table to the stored state under a fence.

    `next_attempt_seconds` counts from the server's now. `fence` None: a callback, which holds no lease. `grant_rounds`:
    an operator's replay, which counts its rounds anew. `over`: reasons whose place this one takes where the stored
    state is this one already.
    """

    document_id: str
    delivery_id: str
    fence: int | None
    status: DeliveryStatus
    attempts: int | None = None
    provider: str | None = None
    provider_message_id: str | None = None
    reason: Reason | None = None
    next_attempt_seconds: float | None = None
    held: bool = False
    mark: dict[str, int] | None = None
    release: bool = True
    surface: bool = False
    grant_rounds: bool = False
    over: tuple[Reason, ...] = ()


@dataclass(frozen=True, slots=True)
class Deferral:
    """A delivery that its lane did not begin, to be claimed again so many seconds from the server's now."""

    document_id: str
    delivery_id: str
    fence: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Inserted:
    """Majority-committed and journaled."""


@dataclass(frozen=True, slots=True)
class KeyTaken:
    """Another notification holds the idempotency key."""


@dataclass(frozen=True, slots=True)
class InboxFilter:
    status: str | None = None
    notification_type: str | None = None
    priority: Priority | None = None
    unread: bool | None = None
    archived: bool = False
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class InboxChange:
    """None leaves as it is; True sets to the server's now; False clears."""

    seen: bool | None = None
    read: bool | None = None
    archived: bool | None = None
    snoozed_until: datetime | None = None
    unsnooze: bool = False


class NotificationStore(Protocol):
    """Ownership is in the query: a caller without operator rights only ever meets its own documents."""

    async def encoded(
        self, requests: Sequence[Sequence[Notification]]
    ) -> list[list[tuple[str, bytes]] | InvalidRequest]:
        """Of each request the id and BSON of its documents, sealed where that is due; or what cannot be stored of it,
        with the field's name. Raises Unavailable when a key of a user could not be made."""
        ...

    async def insert(self, documents: Sequence[tuple[str, bytes]]) -> list[Inserted | KeyTaken]:
        """By group commit with majority and journal. Raises Unavailable when the fate is unknown at the deadline."""
        ...

    async def insert_each(self, documents: Sequence[tuple[str, bytes]]) -> list[Inserted | KeyTaken | EngineError]:
        """The same; each with its own result. Raises Unavailable when too many wait."""
        ...

    async def present(self, ids: Sequence[str]) -> set[str]:
        """Which of these a majority has."""
        ...

    async def by_idempotency_key(self, key: str) -> Notification | None: ...
    async def release_idempotency_key(self, key: str, older_than: datetime) -> bool: ...
    async def restamp(self, ids: Sequence[str]) -> None: ...
    async def claim(self, owner: str, limit: int, lease_seconds: float) -> list[Notification]: ...
    async def apply(self, changes: Sequence[Change]) -> list[bool]:
        """True where the fence still held."""
        ...

    async def mark_solo(self, document_id: str, fence: int) -> bool: ...
    async def renew(self, owner: str, held: Sequence[tuple[str, int]], lease_seconds: float) -> None: ...
    async def give_back(self, held: Sequence[tuple[str, int]]) -> None: ...
    async def postpone(self, given: Sequence[Deferral]) -> None:
        """Ends the hold of single deliveries; their states and attempts stay."""
        ...

    async def free_all(self) -> int: ...
    async def get(self, caller: Caller, notification_id: str) -> Notification: ...
    async def inbox(self, caller: Caller, query: InboxFilter, cursor: str | None, limit: int) -> Page: ...
    async def inbox_after(self, user_id: str, cursor: str, limit: int) -> Page: ...
    async def unread_count(self, user_id: str) -> int: ...
    async def change_inbox(self, caller: Caller, notification_id: str, change: InboxChange) -> Notification: ...
    async def read_all(self, caller: Caller) -> int: ...
    async def queue_depth(self) -> dict[str, int]: ...


class HistoryStore(Protocol):
    async def append(self, attempts: Sequence[Attempt]) -> None:
        """A row that is there already counts as written."""
        ...

    async def of_notifications(self, ids: Sequence[str]) -> list[Attempt]: ...
    async def timeline(self, notification_id: str) -> list[Attempt]: ...
    async def page(self, caller: Caller, user_id: str, cursor: str | None, limit: int) -> Page: ...
