"""Wiring: the only place where objects meet. An `Engine` is one process's whole, from its settings.

`parts` names everything in the order in which it is built; each file beside it builds one group. Who needs a piece
without an engine, as the commands do, finds it here too.
"""

from notification_engine.wiring.delivery import retry_policies
from notification_engine.wiring.engine import Engine
from notification_engine.wiring.keys import key_wrappers, opened_keys, pseudonyms_by
from notification_engine.wiring.life import DATABASE_SECONDS, drain_seconds, free_leases
from notification_engine.wiring.protection import lone_data_protection
from notification_engine.wiring.providers import email_providers
from notification_engine.wiring.roles import EngineRole, refuse_disabled_daemon

__all__ = [
    "DATABASE_SECONDS",
    "Engine",
    "EngineRole",
    "drain_seconds",
    "email_providers",
    "free_leases",
    "key_wrappers",
    "lone_data_protection",
    "opened_keys",
    "pseudonyms_by",
    "refuse_disabled_daemon",
    "retry_policies",
]
