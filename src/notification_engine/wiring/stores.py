"""The database and what is kept in it: keys, sealing, a repository a collection; and the caches that replicas share."""

from dataclasses import dataclass

from notification_engine.realtime.invalidation import Invalidation
from notification_engine.security.pseudonyms import Pseudonyms
from notification_engine.services.departed import Departed
from notification_engine.settings import Settings
from notification_engine.storage.api_keys import ApiKeys
from notification_engine.storage.attachments import Attachments
from notification_engine.storage.audit import AuditLog
from notification_engine.storage.connection import Database
from notification_engine.storage.data_keys import EVENTS, SUPPRESSIONS, USERS, WEBHOOKS, DataKeys
from notification_engine.storage.endpoints import Endpoints
from notification_engine.storage.feedback import Feedback as FeedbackStore
from notification_engine.storage.history import History
from notification_engine.storage.interventions import Interventions
from notification_engine.storage.ledgers import Ledgers
from notification_engine.storage.notifications import Notifications
from notification_engine.storage.preferences import Preferences
from notification_engine.storage.reports import Reports
from notification_engine.storage.revocations import Revocations
from notification_engine.storage.sealing import Sealing
from notification_engine.storage.suppressions import Suppressions
from notification_engine.storage.templates import TemplateDocuments
from notification_engine.storage.tickets import Tickets
from notification_engine.storage.types import Types
from notification_engine.storage.user_keys import UserKeys
from notification_engine.wiring.keys import key_wrappers, pseudonyms_by
from notification_engine.wiring.roles import Process

COMMIT_WAITING_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Stores:
    database: Database
    data_keys: DataKeys
    pseudonyms: Pseudonyms
    user_keys: UserKeys
    sealing: Sealing
    notifications: Notifications
    history: History
    attachments: Attachments
    tickets: Tickets
    audit: AuditLog
    preferences: Preferences
    suppressions: Suppressions
    endpoints: Endpoints
    interventions: Interventions
    events: FeedbackStore
    documents: TemplateDocuments
    types: Types
    api_keys: ApiKeys
    revocations: Revocations
    books: Ledgers
    reports: Reports
    departed: Departed

    def share_caches(self, invalidation: Invalidation) -> None:
        """Under names that every version must know alike."""
        invalidation.join("preferences", self.preferences)
        invalidation.join("endpoints", self.endpoints)
        invalidation.join("api-keys", self.api_keys)
        invalidation.join("revocations", self.revocations)
        invalidation.join("departed", self.departed)
        invalidation.join("user_keys", self.user_keys)
        invalidation.join("templates", self.documents)
        invalidation.join("types", self.types)


def build_stores(s: Settings, url: str, process: Process) -> Stores:
    pool_size, observe = s.DATABASE_CONNECTION_POOL_SIZE, process.metrics.commanded
    database = Database(url, s.MONGODB_DATABASE, pool_size=pool_size, observe=observe)
    return stores_on(s, database, DataKeys(database, key_wrappers(s)), process)


def stores_on(s: Settings, database: Database, keys: DataKeys, process: Process) -> Stores:
    clock = process.clock
    pseudonyms = pseudonyms_by(s, keys)
    user_keys = UserKeys(database, keys.sealer(USERS))
    sealing = Sealing(user_keys)
    audit = AuditLog(database, clock, pseudonyms)
    return Stores(
        database=database,
        data_keys=keys,
        pseudonyms=pseudonyms,
        user_keys=user_keys,
        sealing=sealing,
        notifications=_notifications(database, process, sealing),
        history=History(database),
        attachments=Attachments(database),
        tickets=Tickets(database),
        audit=audit,
        preferences=Preferences(database, audit),
        suppressions=Suppressions(database, audit, keys.sealer(SUPPRESSIONS)),
        endpoints=Endpoints(database, keys.sealer(WEBHOOKS)),
        interventions=Interventions(database, clock, audit),
        events=FeedbackStore(database, clock, sealing, keys.sealer(EVENTS)),
        documents=TemplateDocuments(database, pseudonyms.of),
        types=Types(database, pseudonyms.of),
        api_keys=ApiKeys(database, audit, pseudonyms.of),
        revocations=Revocations(database),
        books=Ledgers(database, process.replica, clock),
        reports=Reports(database, process.replica),
        departed=Departed(clock),
    )


def _notifications(database: Database, process: Process, sealing: Sealing) -> Notifications:
    return Notifications(
        database,
        process.clock,
        max_waiting_bytes=COMMIT_WAITING_BYTES,
        several_daemons=not process.exclusive,
        observe_batch=process.metrics.committed,
        observe_claim=process.metrics.claimed,
        sealing=sealing,
    )
