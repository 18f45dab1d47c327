"""Loading: the environment, a `.env` file, secrets from files and stores, and what `dev` fills in."""

import asyncio
import os
import secrets
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from dotenv import dotenv_values
from pydantic import SecretStr, ValidationError
from pydantic_settings import SettingsConfigDict, SettingsError

from notification_engine.domain.errors import ConfigurationError
from notification_engine.net.secret_sources import Reference, SecretSources, places
from notification_engine.net.vault import Vault
from notification_engine.settings.checks import problems_of, vault_problem
from notification_engine.settings.fields import LOOPBACK
from notification_engine.settings.model import SECRETS, Settings, typed

if TYPE_CHECKING:
    from notification_engine.net.aws import AwsAccess

PENDING = "a reference that is not read yet"  # stands for it while the stores are not known


class _Given(Settings):
    """Settings from the environment and, where present, a `.env` file; the environment wins."""

    model_config = SettingsConfigDict(env_file=".env")


def load_settings(*, development: bool = False) -> Settings:
    """Raises ConfigurationError with one line for every variable that is wrong.

    `development` fills what neither the environment nor `.env` gives so that one command is enough; it changes nothing
    when ENVIRONMENT=production is given.
    """
    settings: Settings = _read(development)
    if _develops(settings, development):
        settings = _with_development_defaults(settings)
    if problems := problems_of(settings):
        raise ConfigurationError("\n".join(problems))
    return settings


def _develops(settings: Settings, asked: bool) -> bool:
    return asked and not ("ENVIRONMENT" in settings.model_fields_set and not settings.development)


def _read(development: bool) -> Settings:
    """Files first, because what reaches a secret store may stand in one; then what the stores hold."""
    layers = [{k: v for k, v in layer.items() if v} for layer in (os.environ, dotenv_values(".env"))]
    files, references, problems = places(SECRETS, layers)
    from_files, unread = SecretSources(files, {}).read_files()
    problems += unread.values()
    if problems:
        raise ConfigurationError("\n".join(sorted(problems)))
    settings = _validated(from_files | dict.fromkeys(references, PENDING)) if references else _validated(from_files)
    sources = _sources(settings, files, references)
    if references:
        if (insecure := vault_problem(settings)) and not _develops(settings, development):
            raise ConfigurationError(insecure)  # before the token goes there
        with ThreadPoolExecutor(1) as pool:  # whether or not a loop runs here already
            fetched, unread = pool.submit(asyncio.run, sources.read()).result()
        if unread:
            raise ConfigurationError("\n".join(sorted(unread.values())))
        settings = _validated(fetched)
    settings._sources = sources
    return settings


def _sources(s: Settings, files: Mapping[str, Path], references: Mapping[str, Reference]) -> SecretSources:
    token = s.VAULT_TOKEN.get_secret_value() if s.VAULT_TOKEN else ""
    vault = Vault(s.VAULT_ADDR, token, namespace=s.VAULT_NAMESPACE) if s.VAULT_ADDR and token else None
    return SecretSources(files, references, aws=_aws_access(s) if references else None, vault=vault)


def _aws_access(s: Settings) -> "AwsAccess":
    from notification_engine.net.aws import AwsAccess  # heavy: only where a reference needs it

    id_, secret = (key.get_secret_value() if key else None for key in (s.AWS_ACCESS_KEY_ID, s.AWS_SECRET_ACCESS_KEY))
    return AwsAccess(s.AWS_REGION, id_, secret, s.AWS_SECRETS_ENDPOINT_URL)


def _validated(secret: Mapping[str, str]) -> Settings:
    try:
        return _Given(**{name: typed(name, value) for name, value in secret.items()})  # type: ignore[arg-type]
    except ValidationError as error:
        lines = [f"{'.'.join(str(p) for p in e['loc'])}: {e['msg']}." for e in error.errors(include_input=False)]
        raise ConfigurationError("\n".join(lines)) from None
    except SettingsError as error:
        raise ConfigurationError(f'{error}. A list is written as JSON, e.g. ["a", "b"].') from None


def _with_development_defaults(given: Settings) -> Settings:
    defaults: dict[str, object] = {
        "ENVIRONMENT": "development",
        "WEBHOOK_HTTPS_ONLY": False,
        "WEBHOOK_ALLOWED_NETWORKS": list(LOOPBACK),
        "DRAIN_DELAY_SECONDS": 0.0,
    }
    if "JWT_SECRET_KEY" not in given.model_fields_set:
        defaults["JWT_SECRET_KEY"] = SecretStr(_development_secret(given.MONGODB_DATA_DIR.parent / "dev-secret"))
    if not given.STRUCTURED_LOGGING:
        defaults["LOG_FORMAT"] = "console"
    return given.model_copy(update={k: v for k, v in defaults.items() if k not in given.model_fields_set})


def _development_secret(path: Path) -> str:
    """Made once beside the embedded data, so that tokens and encrypted secrets outlive a restart."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
            file.write(secrets.token_hex(32))
    except FileExistsError:
        pass  # made by an earlier start
    return path.read_text()
