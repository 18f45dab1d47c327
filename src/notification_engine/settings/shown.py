"""The settings as they may be shown."""

import re
from collections.abc import Mapping

from pydantic import SecretStr

from notification_engine.settings.model import ADDRESSES, Settings


def masked(settings: Settings) -> Mapping[str, str]:
    """Every variable with its effective value, secrets and the address's password hidden."""
    shown = {}
    for name, value in settings.model_dump().items():
        if isinstance(value, SecretStr):
            shown[name] = "********"
        elif name in ADDRESSES and value:
            shown[name] = _masked_address(value)
        else:
            shown[name] = "" if value is None else str(value)
    return shown


def _masked_address(url: str) -> str:
    """Without the user, the password, and the values of the options that hold secrets too."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        return "********"
    before, _, place = rest.rpartition("@")
    place = re.sub(r"(?i)([?&](?:[a-z_]*password|authMechanismProperties)=)[^&]*", r"\1********", place)
    return scheme + separator + ("********@" if before else "") + place
