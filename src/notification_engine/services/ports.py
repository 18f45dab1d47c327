"""What the use cases need from below and beside them: Protocols only. Storage, channels and realtime implement them."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from notification_engine.domain.api_key import ApiKey
from notification_engine.domain.breaker import BreakerPolicy, BreakerView
from notification_engine.domain.caller import Caller, Role
from notification_engine.domain.delivery import Channel, Delivery, DeliveryStatus, Reason
from notification_engine.domain.errors import EngineError, InvalidRequest
from notification_engine.domain.feedback import EventKind, ProviderEvent
from notification_engine.domain.notification import Notification, Priority
from notification_engine.domain.notification_type import NotificationType
from notification_engine.domain.outcome import Attempt, Message, Outcome
from notification_engine.domain.preference import Preference
from notification_engine.domain.rate_limit import RateClass, Taken
from notification_engine.domain.suppression import Suppression, SuppressionReason
from notification_engine.domain.template import Compiled, Draft, Preview, RenderFailed, Template, Version
from notification_engine.domain.webhook import WebhookEndpoint
from notification_engine.kit.origin import Origin


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


@dataclass(frozen=True, slots=True)
class DeadLetterFilter:
    """Every criterion that is given must hold; times are those at which the delivery became a dead letter."""

    notification_type: str | None = None
    channel: Channel | None = None
    endpoint: str | None = None
    reason: Reason | None = None
    since: datetime | None = None
    until: datetime | None = None
    delivery_ids: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A delivery that will not be tried again by itself, and the document that holds it."""

    notification: Notification
    delivery: Delivery


@dataclass(frozen=True, slots=True)
class Intervened:
    """What became of one batch: deliveries changed, and dead letters left alone because a lane holds their document.
    `more`: there may be others."""

    changed: int
    skipped: int
    more: bool


class InterventionStore(Protocol):
    """What people do to deliveries: each call is one transaction with its history rows and its audit row."""

    async def cancel(self, caller: Caller, notification_id: str) -> Notification:
        """Raises NotFound, and Conflict once a lane holds it or it has ended."""
        ...

    async def dead_letters(self, query: DeadLetterFilter, cursor: str | None, limit: int) -> Page: ...
    async def dead_letter(self, delivery_id: str) -> DeadLetter: ...
    async def replay(self, caller: Caller, query: DeadLetterFilter, limit: int) -> Intervened: ...
    async def discard(self, caller: Caller, query: DeadLetterFilter, limit: int) -> Intervened: ...


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


class PreferenceStore(Protocol):
    async def get(self, user_id: str) -> Preference: ...
    async def get_many(self, user_ids: Sequence[str]) -> list[Preference]:
        """In their order."""
        ...

    async def put(self, caller: Caller, preference: Preference) -> Preference: ...
    async def switch_off(
        self, user_id: str, notification_type: str, channel: Channel, *, said_at: datetime | None = None
    ) -> bool:
        """In the user's name, audited, and beside all other choices. False: nothing changed, because it is off already
        or a choice later than `said_at` stands."""
        ...


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """Every criterion that is given must hold."""

    action: str | None = None
    user_id: str | None = None
    target: str | None = None
    since: datetime | None = None
    until: datetime | None = None


class AuditStore(Protocol):
    """Who did what to what, from where and when; chained, see `domain.audit`."""

    async def append(
        self,
        caller: Caller,
        action: str,
        target: str,
        *,
        subject: str | None = None,
        before: Any = None,
        after: Any = None,
        origin: Origin | None = None,
    ) -> None:
        """`subject`: the user whom it concerns. `before`, `after`: what changed, without secrets."""
        ...

    async def page(self, query: AuditFilter, cursor: str | None, limit: int) -> Page: ...
    def rows(self, query: AuditFilter) -> AsyncIterator[Sequence[dict[str, Any]]]: ...


class PersonalData(Protocol):
    """What one collection holds of a user. `export`: whole documents, without secrets. `erase`: how many documents
    were removed or lost what was personal in them; harmless when repeated."""

    collection: str

    async def export(self, user_id: str) -> list[dict[str, Any]]: ...
    async def erase(self, user_id: str) -> int: ...


@dataclass(frozen=True, slots=True)
class Addressee:
    """What feedback needs to know of a delivery."""

    document_id: str
    delivery_id: str
    user_id: str
    notification_type: str
    transactional: bool
    address: str | None


class FeedbackStore(Protocol):
    """Events of providers as they came, and which requests were answered already."""

    async def record(self, events: Sequence[ProviderEvent]) -> set[str]:
        """Keeps what is not kept yet; the ids of those whose consequences are not all written."""
        ...

    async def addressees(self, delivery_ids: Sequence[str]) -> dict[str, Addressee]:
        """E-mail deliveries by their ids; those that are not there are left out."""
        ...

    async def applied(self, events: Sequence[ProviderEvent], matched: set[str]) -> None: ...
    async def seen(self, digest: str) -> bool: ...
    async def remember(self, digest: str, until: datetime) -> None: ...


@dataclass(frozen=True, slots=True)
class SuppressionFilter:
    channel: Channel | None = None
    reason: SuppressionReason | None = None
    address: str | None = None


class SuppressionStore(Protocol):
    async def find(self, channel: Channel, address: str) -> Suppression | None:
        """Batched; for each send."""
        ...

    async def report(self, suppressions: Sequence[Suppression]) -> None:
        """From feedback: adds, or lets a weightier reason take the place of a lighter one."""
        ...

    async def add(self, caller: Caller, suppression: Suppression) -> Suppression:
        """Audited. Raises Conflict when the address is on the list."""
        ...

    async def add_many(self, caller: Caller, suppressions: Sequence[Suppression]) -> int:
        """Audited as one; how many are new. What is on the list stays as it is."""
        ...

    async def get(self, suppression_id: str) -> Suppression: ...
    async def remove(self, caller: Caller, suppression_id: str) -> None: ...
    async def page(self, query: SuppressionFilter, cursor: str | None, limit: int) -> Page: ...
    def export(self, caller: Caller) -> AsyncIterator[Sequence[Suppression]]:
        """All, in batches, oldest id first; audited before the first."""
        ...


class AttachmentStore(Protocol):
    """Contents under the hash of their bytes."""

    async def keep(self, contents: Sequence[bytes], until: datetime) -> list[str]:
        """Their ids, in order, once a majority has them."""
        ...

    async def load(self, content_ids: Sequence[str]) -> Mapping[str, bytes]: ...


class BreakerStore(Protocol):
    """Where the replicas' breakers meet."""

    async def exchange(self, provider: str, policy: BreakerPolicy, ok: int, failed: int) -> BreakerView:
        """Adds calls that ended since the last exchange; answers what the fleet knows."""
        ...

    async def view(self, provider: str) -> BreakerView: ...


class EndpointStore(Protocol):
    async def enabled(self) -> list[WebhookEndpoint]: ...
    async def find(self, endpoint_id: str) -> WebhookEndpoint | None: ...
    async def disable(self, endpoint_id: str, reason: str) -> WebhookEndpoint | None:
        """The endpoint, when it was this call that disabled it."""
        ...

    async def observe(self, endpoint_id: str, *, ok: bool) -> datetime | None:
        """Keeps since when an endpoint has been failing, and answers it; None while it works."""
        ...


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


class Ledger(Protocol):
    """The book of the 202s, kept apart from the notifications."""

    def accepted(self, document_ids: Sequence[str]) -> None: ...


class Recorder(Protocol):
    """The metric registry as the use cases see it; labels are closed sets."""

    def accepted(self, count: int) -> None: ...
    def attempted(
        self, channel: Channel, provider: str, status: DeliveryStatus | str, reason: Reason | None, latency_ms: float
    ) -> None: ...
    def settled(self, channel: Channel, status: DeliveryStatus, reason: Reason | None, seconds: float) -> None: ...
    def stale(self, count: int) -> None: ...
    def reported(self, provider: str, kind: EventKind | None, *, matched: bool) -> None: ...


class TypeStore(Protocol):
    """What operators changed about types, beside the catalogue in the code."""

    async def overrides(self) -> Mapping[str, NotificationType]:
        """All of them, kept for a few seconds."""
        ...

    async def put(self, caller: Caller, changed: NotificationType) -> NotificationType: ...
    async def delete(self, name: str) -> bool: ...


class TemplateStore(Protocol):
    """Heads are kept for a few seconds, versions never change."""

    async def head(self, key: str, *, fresh: bool = False) -> Template | None: ...
    async def version(self, key: str, number: int) -> Version | None: ...
    async def versions(self, key: str) -> list[Version]: ...
    async def list(self, after: str, limit: int) -> list[Template]: ...
    async def save(self, caller: Caller, key: str, draft: Draft) -> Template: ...
    async def publish(self, version: Version) -> None:
        """Raises Conflict when another publication took the number."""
        ...

    async def choose(self, key: str, number: int) -> None: ...
    async def delete(self, key: str) -> bool:
        """Its versions stay for what was accepted with them."""
        ...


class Renderer(Protocol):
    """Compiles and renders off the event loop, under limits. Raises Unavailable when it is overrun."""

    async def compile(self, draft: Draft, library: Mapping[str, Draft]) -> Compiled:
        """Raises InvalidRequest naming the part, its line and column."""
        ...

    async def render(
        self,
        name: str,
        compiled: Compiled,
        parts: Sequence[str],
        context: Mapping[str, Any],
        locale: str | None,
        time_zone: str | None,
    ) -> dict[str, str] | RenderFailed: ...

    async def preview(
        self, name: str, compiled: Compiled, context: Mapping[str, Any], locale: str | None, time_zone: str | None
    ) -> Preview:
        """Raises InvalidRequest."""
        ...


class TokenVerifier(Protocol):
    """What was verified under another `generation` is to be verified again."""

    @property
    def generation(self) -> int: ...
    async def verified(self, token: str) -> Caller:
        """Raises Unauthenticated; Unavailable while there is nothing to verify with."""
        ...


class TokenIssuer(Protocol):
    def issue_own(
        self, sub: str, roles: Sequence[Role], seconds: float, *, key_id: str | None = None, types: Sequence[str] = ()
    ) -> str: ...


class ApiKeyHash(Protocol):
    def make(self) -> tuple[str, str, bytes]:
        """The id, the key, which is shown once, and its hash."""
        ...

    def read(self, credential: str) -> tuple[str, bytes] | None: ...
    def same(self, given: bytes, stored: bytes) -> bool: ...


class ApiKeyStore(Protocol):
    async def find(self, key_id: str) -> ApiKey | None:
        """Kept for a few seconds."""
        ...

    async def create(self, caller: Caller, key: ApiKey) -> None: ...
    async def revoke(self, caller: Caller, key_id: str) -> None: ...
    async def get(self, key_id: str) -> ApiKey: ...
    async def page(self, cursor: str | None, limit: int) -> Page: ...
    def used(self, key_id: str) -> None:
        """Noted; written later."""
        ...

    async def write_used(self) -> None: ...


class RevocationStore(Protocol):
    """What no longer opens anything although it has not expired."""

    def denies(self, caller: Caller) -> bool:
        """From memory."""
        ...

    async def revoke_token(self, token_id: str, expires_at: float) -> None: ...
    async def revoke_key(self, key_id: str, last_token_at: float) -> None: ...
    async def revoke_subject(self, sub: str) -> datetime: ...
    async def refresh(self) -> None: ...
