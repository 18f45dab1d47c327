"""What the use cases need from below and beside them: Protocols, and the values that these speak of, by topic. Storage,
channels and realtime implement them; everybody imports them from here."""

from notification_engine.services.ports.access import (
    ApiKeyHash,
    ApiKeyStore,
    RevocationStore,
    TokenIssuer,
    TokenVerifier,
)
from notification_engine.services.ports.audit import AuditFilter, AuditStore, PersonalData
from notification_engine.services.ports.content import Renderer, TemplateStore, TypeStore
from notification_engine.services.ports.feedback import Addressee, FeedbackStore
from notification_engine.services.ports.figures import Ledger, Recorder
from notification_engine.services.ports.interventions import DeadLetter, DeadLetterFilter, Intervened, InterventionStore
from notification_engine.services.ports.notifications import (
    Change,
    Deferral,
    HistoryStore,
    InboxChange,
    InboxFilter,
    Inserted,
    KeyTaken,
    NotificationStore,
)
from notification_engine.services.ports.paging import Page
from notification_engine.services.ports.realtime import Beat, Bus, Live, RateLimits, Surfaced, SurfacedStore
from notification_engine.services.ports.recipients import PreferenceStore, SuppressionFilter, SuppressionStore
from notification_engine.services.ports.sending import AttachmentStore, BreakerStore, Deadline, EndpointStore, Sender

__all__ = [
    "Addressee",
    "ApiKeyHash",
    "ApiKeyStore",
    "AttachmentStore",
    "AuditFilter",
    "AuditStore",
    "Beat",
    "BreakerStore",
    "Bus",
    "Change",
    "DeadLetter",
    "DeadLetterFilter",
    "Deadline",
    "Deferral",
    "EndpointStore",
    "FeedbackStore",
    "HistoryStore",
    "InboxChange",
    "InboxFilter",
    "Inserted",
    "Intervened",
    "InterventionStore",
    "KeyTaken",
    "Ledger",
    "Live",
    "NotificationStore",
    "Page",
    "PersonalData",
    "PreferenceStore",
    "RateLimits",
    "Recorder",
    "Renderer",
    "RevocationStore",
    "Sender",
    "SuppressionFilter",
    "SuppressionStore",
    "Surfaced",
    "SurfacedStore",
    "TemplateStore",
    "TokenIssuer",
    "TokenVerifier",
    "TypeStore",
]
