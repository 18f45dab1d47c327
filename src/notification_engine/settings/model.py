"""`Settings`: one frozen value, and which of its fields are secrets. A renewed secret makes another value."""

from collections.abc import Mapping

from pydantic import PrivateAttr, SecretStr

from notification_engine.domain.errors import ConfigurationError
from notification_engine.net.secret_sources import SecretSources
from notification_engine.settings.checks import problems_of
from notification_engine.settings.fields import Fields

ADDRESSES = {"MONGODB_URL", "REDIS_URL"}  # they may hold a password
SECRETS = tuple(n for n, f in Fields.model_fields.items() if "SecretStr" in str(f.annotation) or n in ADDRESSES)


class Settings(Fields):
    """The fields, and where those of them that are secret came from."""

    _sources: SecretSources = PrivateAttr(default_factory=lambda: SecretSources({}, {}))

    @property
    def sources(self) -> SecretSources:
        """Where the secrets come from that are not in the environment itself."""
        return self._sources

    def renewed(self, values: Mapping[str, str]) -> tuple["Settings", set[str]]:
        """With new values of secrets, and which differ. Raises ConfigurationError as a start would."""
        given = {name: typed(name, value) for name, value in values.items()}
        changed = {name for name, value in given.items() if getattr(self, name) != value}
        settings = self.model_copy(update=given) if changed else self
        if problems := problems_of(settings):
            raise ConfigurationError("\n".join(problems))
        return settings, changed


def typed(name: str, value: str) -> SecretStr | str:
    """As the field of this name takes it."""
    return value if name in ADDRESSES else SecretStr(value)
