"""What the use cases need from below and beside them: Protocols only. Storage, channels and realtime implement them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from notification_engine.domain.caller import Caller
from notification_engine.domain.delivery import Channel, DeliveryStatus, Reason
from notification_engine.domain.notification import Notification, Priority
from notification_engine.domain.outcome import Attempt, Message, Outcome
from notification_engine.domain.preference import Preference
from notification_engine.domain.webhook import WebhookEndpoint


@dataclass(frozen=True, slots=True)
class Deadline:
    """A moment of the monotonic clock, in seconds."""

    at: float


class Sender(Protocol):
    """A channel. `repeatable` says that the receiver can deduplicate, so no write-ahead mark is needed."""

    name: Channel
    repeatable: bool
    attempt_seconds: float

    async def send(self, message: Message, deadline: Deadline) -> Outcome: ...

    def host(self, message: Message) -> str:
        """The key of the share within the lane; the empty string for none."""
        ...


@dataclass(frozen=True, slots=True)
class Change:
    """The next state of one delivery, applied by the transition table to the stored state under a fence.

    `next_attempt_seconds` counts from the server's now. `fence` None: a callback or operator, which holds no lease.
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


@dataclass(frozen=True, slots=True)
class Postponed:
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
class Page:
    items: list[Any] = field(default_factory=list)
    next_cursor: str | None = None


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

    def encode(self, notification: Notification) -> bytes:
        """BSON of one document. Raises InvalidRequest naming the field for what cannot be stored."""
        ...

    async def insert(self, documents: Sequence[tuple[str, bytes]]) -> list[Inserted | KeyTaken]:
        """By group commit with majority and journal. Raises Unavailable when the fate is unknown at the deadline."""
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
    async def postpone(self, given: Sequence[Postponed]) -> None:
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


class PreferenceStore(Protocol):
    async def get(self, user_id: str) -> Preference: ...
    async def put(self, caller: Caller, preference: Preference) -> Preference: ...


class EndpointStore(Protocol):
    async def enabled(self) -> list[WebhookEndpoint]: ...
    async def find(self, endpoint_id: str) -> WebhookEndpoint | None: ...
    async def disable(self, endpoint_id: str, reason: str) -> None: ...


class Live(Protocol):
    """Signals to connected clients of a user; a hint, never the record."""

    def surfaced(self, notification: Notification) -> None: ...
    def updated(self, notification: Notification) -> None: ...
    def unread(self, user_id: str, count: int) -> None: ...


class Recorder(Protocol):
    """The metric registry as the use cases see it; labels are closed sets."""

    def accepted(self, count: int) -> None: ...
    def attempted(
        self, channel: Channel, provider: str, status: DeliveryStatus | str, reason: Reason | None, latency_ms: float
    ) -> None: ...
    def settled(self, channel: Channel, status: DeliveryStatus, reason: Reason | None, seconds: float) -> None: ...
    def stale(self, count: int) -> None: ...
