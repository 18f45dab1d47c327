"""Data protection: which collections hold something of a user, and in which order they are emptied."""

from dataclasses import replace

from notification_engine.kit.clock import Clock
from notification_engine.services.data_protection import DataProtection
from notification_engine.services.ports import PersonalData
from notification_engine.settings import Settings
from notification_engine.storage.connection import Database
from notification_engine.storage.data_keys import DataKeys
from notification_engine.storage.erasure_log import CHECKED, ErasureLog
from notification_engine.storage.erasures import Erasures
from notification_engine.storage.personal_notifications import PersonalNotifications
from notification_engine.storage.suppressions import PersonalSuppressions
from notification_engine.wiring.roles import EngineRole, this_process
from notification_engine.wiring.stores import Stores, stores_on


def data_protection(s: Settings, clock: Clock, stores: Stores) -> tuple[DataProtection, Erasures]:
    """What is found through a user's notifications comes before them, the user's own key after all that it opens, and
    the audit log last."""
    database, pseudonym = stores.database, stores.pseudonyms.of
    notifications = PersonalNotifications(database, clock, pseudonym, stores.sealing)
    erasures = Erasures(database, stores.attachments, clock)
    collections: list[PersonalData] = [
        PersonalSuppressions(database, stores.suppressions, stores.sealing, pseudonym),
        stores.attachments,
        stores.events,
        stores.history,
        stores.preferences,
        stores.tickets,
        stores.endpoints,
        stores.api_keys,
        stores.documents,
        stores.types,
        notifications,
        stores.user_keys,
        stores.audit,
    ]
    listed = ErasureLog(s.ERASURE_LOG_FILE, lambda: pseudonym(CHECKED)) if s.ERASURE_LOG_FILE else None
    protection = DataProtection(
        collections, notifications, erasures, stores.audit, stores.pseudonyms, clock, listed, stores.departed
    )
    return protection, erasures


def lone_data_protection(s: Settings, database: Database, clock: Clock, keys: DataKeys) -> DataProtection:
    """Of a command, without an engine."""
    process = replace(this_process(s, EngineRole.API, exclusive=False, group=None), clock=clock)
    return data_protection(s, clock, stores_on(s, database, keys, process))[0]
