"""Data protection: which collections hold something of a user, and in which order they are emptied."""

from collections.abc import Sequence
from dataclasses import dataclass

from notification_engine.kit.clock import Clock
from notification_engine.security.pseudonyms import Pseudonyms
from notification_engine.services.data_protection import DataProtection
from notification_engine.services.departed import Departed
from notification_engine.services.ports import PersonalData
from notification_engine.settings import Settings
from notification_engine.storage.api_keys import ApiKeys
from notification_engine.storage.attachments import Attachments
from notification_engine.storage.audit import AuditLog
from notification_engine.storage.connection import Database
from notification_engine.storage.data_keys import EVENTS, SUPPRESSIONS, USERS, WEBHOOKS, DataKeys
from notification_engine.storage.endpoints import Endpoints
from notification_engine.storage.erasure_log import CHECKED, ErasureLog
from notification_engine.storage.erasures import Erasures
from notification_engine.storage.feedback import Feedback as FeedbackStore
from notification_engine.storage.history import History
from notification_engine.storage.personal_notifications import PersonalNotifications
from notification_engine.storage.preferences import Preferences
from notification_engine.storage.sealing import Sealing
from notification_engine.storage.suppressions import PersonalSuppressions, Suppressions
from notification_engine.storage.templates import TemplateDocuments
from notification_engine.storage.tickets import Tickets
from notification_engine.storage.types import Types
from notification_engine.storage.user_keys import UserKeys
from notification_engine.wiring.keys import pseudonyms_by
from notification_engine.wiring.stores import Stores


@dataclass(frozen=True, slots=True)
class Personal:
    """What data protection needs of the stores. `others`: those that know a user without its notifications."""

    audit: AuditLog
    attachments: Attachments
    suppressions: Suppressions
    sealing: Sealing
    user_keys: UserKeys
    pseudonyms: Pseudonyms
    others: Sequence[PersonalData]
    departed: Departed | None = None


def data_protection(s: Settings, database: Database, clock: Clock, p: Personal) -> tuple[DataProtection, Erasures]:
    """What is found through a user's notifications comes before them, the user's own key after all that it opens, and
    the audit log last."""
    pseudonym = p.pseudonyms.of
    notifications = PersonalNotifications(database, clock, pseudonym, p.sealing)
    erasures = Erasures(database, p.attachments, clock)
    suppressions = PersonalSuppressions(database, p.suppressions, p.sealing, pseudonym)
    collections: list[PersonalData] = [
        suppressions,
        p.attachments,
        *p.others,
        notifications,
        p.user_keys,
        p.audit,
    ]
    path = s.ERASURE_LOG_FILE
    listed = ErasureLog(path, lambda: pseudonym(CHECKED)) if path else None
    protection = DataProtection(collections, notifications, erasures, p.audit, p.pseudonyms, clock, listed, p.departed)
    return protection, erasures


def engines_data_protection(s: Settings, clock: Clock, stores: Stores) -> tuple[DataProtection, Erasures]:
    others: tuple[PersonalData, ...] = (
        stores.events,
        stores.history,
        stores.preferences,
        stores.tickets,
        stores.endpoints,
        stores.api_keys,
        stores.documents,
        stores.types,
    )
    personal = Personal(
        stores.audit,
        stores.attachments,
        stores.suppressions,
        stores.sealing,
        stores.user_keys,
        stores.pseudonyms,
        others,
        stores.departed,
    )
    return data_protection(s, stores.database, clock, personal)


def lone_data_protection(s: Settings, database: Database, clock: Clock, keys: DataKeys) -> DataProtection:
    """Of a command, without an engine."""
    pseudonyms = pseudonyms_by(s, keys)
    audit = AuditLog(database, clock, pseudonyms)
    user_keys = UserKeys(database, keys.sealer(USERS))
    sealing = Sealing(user_keys)
    others: list[PersonalData] = [
        FeedbackStore(database, clock, sealing, keys.sealer(EVENTS)),
        History(database),
        Preferences(database, audit),
        Tickets(database),
        Endpoints(database, keys.sealer(WEBHOOKS)),
        ApiKeys(database, audit, pseudonyms.of),
        TemplateDocuments(database, pseudonyms.of),
        Types(database, pseudonyms.of),
    ]
    suppressions = Suppressions(database, audit, keys.sealer(SUPPRESSIONS))
    stores = Personal(audit, Attachments(database), suppressions, sealing, user_keys, pseudonyms, others)
    return data_protection(s, database, clock, stores)[0]
