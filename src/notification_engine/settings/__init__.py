"""Settings: the only reader of the environment. Every variable of the deployment guide by its exact name.

A bad value is refused at start with the name of its variable; no secret's value is ever shown.
"""

from notification_engine.settings.checks import MIN_SECRET_BYTES, SAMPLE_SECRETS
from notification_engine.settings.load import load_settings
from notification_engine.settings.model import SECRETS, Settings
from notification_engine.settings.shown import masked

__all__ = ["MIN_SECRET_BYTES", "SAMPLE_SECRETS", "SECRETS", "Settings", "load_settings", "masked"]
