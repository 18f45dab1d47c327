"""Settings: the only reader of the environment. Every variable of the deployment guide by its exact name.

A bad value is refused at start with the name of its variable; no secret's value is ever shown.
"""

import asyncio
import os
import re
import secrets
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from email.errors import MessageError
from email.headerregistry import Address
from ipaddress import ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from dotenv import dotenv_values
from pydantic import AfterValidator, Field, PrivateAttr, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from notification_engine.domain.errors import ConfigurationError
from notification_engine.domain.rate_limit import RateClass, RateLimit, parse_rate
from notification_engine.net.guard import Guard
from notification_engine.net.secret_sources import Reference, SecretSources, places
from notification_engine.net.vault import Vault
from notification_engine.realtime.redis_address import RedisAddress, parse_redis_url
from notification_engine.security.sendgrid import SendGridSignature
from notification_engine.security.sns import TOPIC_PATTERN
from notification_engine.security.tokens import SYMMETRIC

if TYPE_CHECKING:
    from notification_engine.net.aws import AwsAccess

PENDING = "a reference that is not read yet"  # stands for it while the stores are not known
MIN_DISTINCT = 8  # characters; 32 random hexadecimal digits have fewer once in 25 million
MIN_SECRET_BYTES = 32
SAMPLE_SECRETS = frozenset({"your-secret-key-here", "your-production-secret-key-256-bits"})
LOOPBACK = ("127.0.0.0/8", "::1/128")
DATABASE_NAME = r"^[^\x00-\x20/\\.\"$*<>:|?]{1,63}$"  # what every platform's MongoDB takes
ORIGIN_PATTERN = r"https?://([a-z0-9.-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?"  # as browsers write it
URL_PATTERN = r"^https?://[^\s/]+"
VAULT_PATH = r"^[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*$"
PUBLIC_PATTERN = r"^https?://([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?(/[A-Za-z0-9._~/-]*)?$"
JWKS_PATTERN = r"^https?://[^\s/@#]+(/[^\s#]*)?$"


def checked_rate(text: str) -> str:
    parse_rate(text)
    return text


Positive = Annotated[int, Field(ge=1)]
Rate = Annotated[float, Field(ge=0, le=100_000)]
Days = Annotated[int, Field(ge=0, le=36_500)]
Seconds = Annotated[float, Field(gt=0, le=86_400)]
RateText = Annotated[str, AfterValidator(checked_rate)]


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_ignore_empty=True, case_sensitive=True, extra="ignore", frozen=True)

    ENVIRONMENT: Literal["production", "development"] = Field(
        "production",
        description="`production` refuses: no MONGODB_URL, a standalone MongoDB, DEBUG, a weak or sample secret.",
    )
    DEBUG: bool = Field(False, description="Debug logging unless LOG_LEVEL is set; never changes an answer.")

    MONGODB_URL: str | None = Field(
        None, repr=False, description="Address of a replica set. Unset in development: embedded."
    )
    MONGODB_DATABASE: Annotated[str, Field(pattern=DATABASE_NAME)] = Field(
        "intellibrowse", description="Wins over the path of the address."
    )
    DATABASE_CONNECTION_POOL_SIZE: Positive = Field(20, description="The driver's maxPoolSize of a process.")
    MONGODB_DATA_DIR: Path = Field(Path("var/mongodb"), description="Directory of the embedded MongoDB.")
    MONGOD_BINARY: str | None = Field(None, description="The embedded server's program; else PATH, else the extra.")

    REDIS_URL: str | None = Field(
        None,
        repr=False,
        description="Signals between replicas: redis://, rediss://, redis+sentinel://, redis+cluster://. Unset: none.",
    )
    LIVE_POLL_SECONDS: Annotated[float, Field(ge=0.05, le=60)] = Field(
        1, description="How often what other replicas accepted is looked for in the database, seconds."
    )

    JWT_SECRET_KEY: SecretStr | None = Field(None, description="Shared key of the tokens, 32 bytes or more.")
    JWT_ALGORITHM: Literal["HS256", "HS384", "HS512", "RS256", "ES256", "EdDSA"] = Field(
        "HS256", description="The one algorithm accepted; the last three need JWT_JWKS_URL."
    )
    JWT_JWKS_URL: str | None = Field(
        None, pattern=JWKS_PATTERN, description="Where the platform's public keys are (JWKS); https in production."
    )
    JWT_ISSUER: str | None = Field(None, description="The `iss` that every token must have; unset: not checked.")
    JWT_AUDIENCE: str | None = Field(None, description="What `aud` of every token must hold; unset: not checked.")
    JWT_LEEWAY_SECONDS: Annotated[int, Field(ge=0, le=300)] = Field(
        10, description="By how much clocks may disagree about a token's times, seconds."
    )
    JWT_ACCESS_TOKEN_EXPIRE_MINUTES: Positive = Field(30, description="Life of a token that the engine makes, minutes.")
    FIELD_ENCRYPTION_KEY: SecretStr | None = Field(
        None, description="Master key: wraps the keys of what is encrypted at rest; unset: derived from JWT_SECRET_KEY."
    )
    FIELD_ENCRYPTION_KEY_PREVIOUS: SecretStr | None = Field(
        None, description="Former master keys that still open, one a line, until `notification-engine keys rotate`."
    )
    MASTER_KEY_PROVIDER: Literal["local", "aws_kms", "vault"] = Field(
        "local", description="Who keeps the master key: FIELD_ENCRYPTION_KEY, AWS KMS or HashiCorp Vault's transit."
    )
    AWS_KMS_KEY_ID: str | None = Field(None, description="Id, ARN or alias of the KMS key; needed with `aws_kms`.")
    AWS_KMS_KEY_ID_PREVIOUS: str | None = Field(None, description="The key before it, until `keys rotate` has run.")
    AWS_KMS_ENDPOINT_URL: str | None = Field(None, pattern=URL_PATTERN, description="Where KMS is, if not AWS.")
    AWS_SECRETS_ENDPOINT_URL: str | None = Field(
        None, pattern=URL_PATTERN, description="Where Secrets Manager is, if not AWS."
    )
    VAULT_ADDR: str | None = Field(None, pattern=URL_PATTERN, description="Address of Vault; https in production.")
    VAULT_TOKEN: SecretStr | None = Field(None, description="Its token; give it as VAULT_TOKEN_FILE where you can.")
    VAULT_NAMESPACE: str | None = Field(None, description="Namespace of Vault Enterprise; unset: none.")
    VAULT_TRANSIT_MOUNT: str = Field("transit", pattern=VAULT_PATH, description="Mount of the transit engine.")
    VAULT_TRANSIT_KEY: str | None = Field(
        None, pattern=VAULT_PATH, description="Name of the transit key; needed with `vault`."
    )
    SECRETS_REFRESH_SECONDS: Annotated[float, Field(ge=0, le=86_400)] = Field(
        300, description="How often secrets given as a file or a reference are read again, seconds; 0: never."
    )

    NOTIFICATION_DAEMON_ENABLED: bool = Field(
        True, description="false: this process only serves the API; refused with `--role daemon`."
    )
    NOTIFICATION_DAEMON_WORKERS: Positive = Field(5, description="Dispatching tasks; × batch size: sends in flight.")
    NOTIFICATION_DAEMON_BATCH_SIZE: Positive = Field(50, description="Claims in one sweep.")
    NOTIFICATION_DAEMON_HEALTH_CHECK_INTERVAL: Seconds = Field(
        30, description="Heartbeat of each loop, seconds; two missed: degraded."
    )
    NOTIFICATION_QUEUE_SIZE: Positive = Field(1000, description="Unsettled notifications leased to one process.")
    NOTIFICATION_PROCESSING_TIMEOUT: Seconds = Field(
        300, description="End of lease renewals for one notification, seconds."
    )
    NOTIFICATION_RETRY_MAX_ATTEMPTS: Positive = Field(3, description="Rounds in all, for all channels but webhook.")
    NOTIFICATION_RETRY_DELAY_SECONDS: Seconds = Field(60, description="Base of the backoff, seconds, ends at an hour.")
    LEASE_SECONDS: Seconds = Field(30, description="Length of a lease, seconds; renewed every third of it.")
    SWEEP_INTERVAL_SECONDS: Seconds = Field(1, description="Pause between sweeps for due work, seconds.")
    DRAIN_DELAY_SECONDS: Annotated[float, Field(ge=0, le=600)] = Field(
        5, description="Readiness answers 503 for so long before sockets close, seconds."
    )

    EMAIL_PROVIDER: Literal["auto", "console", "smtp", "sendgrid", "ses"] = Field(
        "auto",
        description="`auto`: those that are set, in the order SendGrid, SES, SMTP; else console in development.",
    )
    EMAIL_TIMEOUT_SECONDS: Seconds = Field(10, description="Deadline of one call of SendGrid or SES, seconds.")
    SENDGRID_API_KEY: SecretStr | None = Field(None, description="Unset: no SendGrid.")
    SENDGRID_FROM_EMAIL: str | None = Field(None, description="The sender's address; needed with SENDGRID_API_KEY.")
    SENDGRID_FROM_NAME: str = Field("IntelliBrowse Notifications", description="The sender's name, for every provider.")
    SENDGRID_BASE_URL: str = Field(
        "https://api.sendgrid.com", pattern=r"^https?://[^\s/]+", description="Where its API is."
    )
    SENDGRID_WEBHOOK_PUBLIC_KEY: str | None = Field(
        None, description="Verification key of the signed Event Webhook, base64; unset: its events are not taken."
    )
    SENDGRID_MAX_PER_SECOND: Rate = Field(0, description="Calls a second of a process; 0: no limit.")
    AWS_ACCESS_KEY_ID: SecretStr | None = Field(None, description="Unset: the AWS client's own search (a role).")
    AWS_SECRET_ACCESS_KEY: SecretStr | None = Field(None, description="Secret of AWS_ACCESS_KEY_ID.")
    AWS_REGION: str = Field("us-east-1", description="Region of SES.")
    SES_FROM_EMAIL: str | None = Field(None, description="The sender's address; unset: no SES.")
    SES_ENDPOINT_URL: str | None = Field(
        None, pattern=r"^https?://[^\s/]+", description="Where its API is, if not AWS."
    )
    SES_CONFIGURATION_SET: str | None = Field(None, description="Sends SES events to SNS; unset: none.")
    SES_SNS_TOPIC_ARN: str | None = Field(
        None, pattern=TOPIC_PATTERN, description="The one SNS topic that SES's events are taken from; unset: none."
    )
    SES_MAX_PER_SECOND: Rate = Field(14, description="Calls a second of a process; 0: no limit. 14 is a new account's.")
    SMTP_HOST: str | None = Field(None, description="Mail server; unset: no SMTP.")
    SMTP_PORT: Annotated[int, Field(ge=1, le=65_535)] = Field(587, description="Its port.")
    SMTP_USERNAME: str | None = Field(None, description="Unset: no login.")
    SMTP_PASSWORD: SecretStr | None = Field(None, description="Password of SMTP_USERNAME.")
    SMTP_STARTTLS: bool = Field(True, description="Require STARTTLS.")
    SMTP_FROM_EMAIL: str | None = Field(None, description="The sender's address; needed with SMTP_HOST.")
    SMTP_MAX_PER_SECOND: Rate = Field(0, description="Messages a second of a process; 0: no limit.")
    SMTP_TIMEOUT_SECONDS: Seconds = Field(30, description="Deadline of one e-mail attempt, seconds.")

    PUBLIC_URL: str | None = Field(
        None,
        pattern=PUBLIC_PATTERN,
        description="Where recipients reach this API, for unsubscribe links; https in production. Unset: no links.",
    )
    RENDER_PROCESSES: Annotated[int, Field(ge=1, le=64)] = Field(
        2, description="Processes that render templates at once; two more stand by. Started by the first template used."
    )
    RENDER_MEMORY_MB: Annotated[int, Field(ge=32, le=4096)] = Field(
        128, description="Memory that one rendering may take beyond its process's own, MiB."
    )
    RENDER_CPU_SECONDS: Annotated[float, Field(ge=0.05, le=60)] = Field(
        0.5, description="Processor time of one rendering, seconds; ten times as much by the clock."
    )

    WEBSOCKET_MAX_CONNECTIONS: Positive = Field(1000, description="Live connections of a process, SSE included.")
    WEBSOCKET_HEARTBEAT_INTERVAL: Seconds = Field(30, description="Ping interval, seconds.")
    WEBSOCKET_CONNECTION_TIMEOUT: Seconds = Field(300, description="Silence after which a socket is closed, seconds.")

    WEBHOOK_TIMEOUT_SECONDS: Seconds = Field(30, description="Total deadline of one call, seconds.")
    WEBHOOK_MAX_RETRIES: Annotated[int, Field(ge=0, le=100)] = Field(3, description="Retries after the first call.")
    WEBHOOK_RETRY_DELAY_SECONDS: Seconds = Field(5, description="Base of the backoff, seconds, ends at an hour.")
    WEBHOOK_HTTPS_ONLY: bool = Field(True, description="Refuse http:// endpoints; `dev` allows them.")
    WEBHOOK_ALLOWED_NETWORKS: list[str] = Field([], description="JSON list of CIDR networks opened for webhooks.")

    WEBHOOK_ALLOWED_PORTS: list[Annotated[int, Field(ge=1, le=65_535)]] = Field(
        [80, 443, 8443],
        description="JSON list of the ports that webhooks and attachment addresses may name; [], and unset in "
        "development: all.",
    )

    LOG_LEVEL: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] | None = Field(
        None, description="INFO when unset (DEBUG with DEBUG=true)."
    )
    LOG_FORMAT: Literal["json", "console"] = Field("json", description="`console` is for people.")
    STRUCTURED_LOGGING: bool | None = Field(None, description="true means LOG_FORMAT=json; a conflict is refused.")
    LOG_FILE: Path | None = Field(None, description="Written beside standard output; refused when not writable.")

    HEALTH_CHECK_ENABLED: bool = Field(True, description="false stops the background checks, never the endpoints.")
    HEALTH_CHECK_INTERVAL: Seconds = Field(60, description="Background checks, seconds.")
    METRICS_COLLECTION_ENABLED: bool = Field(
        True, description="One notification_metrics document a minute and replica."
    )
    METRICS_RETENTION_DAYS: Positive = Field(30, description="How long these are kept, days.")

    RATE_LIMITS_ENABLED: bool = Field(
        True, description="false: no limits by subject; capacity is bounded all the same."
    )
    RATE_LIMIT_SEND: RateText = Field("0", description="Sends of a caller, e.g. 100/second; a batch is one. 0: none.")
    RATE_LIMIT_READ: RateText = Field("60000/minute", description="Reads (GET) of a caller.")
    RATE_LIMIT_WRITE: RateText = Field("60000/minute", description="Every other request of a caller.")
    RATE_LIMIT_LIVE: RateText = Field("6000/minute", description="Sockets, streams and tickets opened by a caller.")
    RATE_LIMIT_MESSAGES: RateText = Field("12000/minute", description="Messages a caller sends over its sockets.")
    RATE_LIMIT_AUTH: RateText = Field("6000/minute", description="Refused tokens and log-ins of a client address.")
    RATE_LIMIT_PUBLIC: RateText = Field(
        "60000/minute", description="Callbacks, unsubscribe links and the like, of a client address."
    )
    TRUSTED_PROXIES: list[str] = Field(
        list(LOOPBACK), description="JSON list of the CIDR networks of your reverse proxies; [] trusts none."
    )
    FORWARDED_HEADER: Literal["x-forwarded-for", "forwarded"] = Field(
        "x-forwarded-for", description="The one header of theirs that names the client; any other is ignored."
    )
    PSEUDONYM_KEY: SecretStr | None = Field(
        None,
        description="Keys what stands for erased users in the audit log and ERASURE_LOG_FILE; never change it. "
        "When unset, a data key stands in for it.",
    )
    ERASURE_LOG_FILE: Path | None = Field(
        None,
        description="List of erasures kept outside the database, applied again after a restore.",
    )
    NOTIFICATION_RETENTION_DAYS: Days = Field(
        365, description="How long what has ended is kept, unless its type says; days. 0: without end."
    )
    HISTORY_RETENTION_DAYS: Days = Field(
        400, description="How long attempts are kept at most once their notification is gone, days. 0: without end."
    )
    PROVIDER_EVENT_RETENTION_DAYS: Days = Field(
        90, description="How long raw events of providers are kept, days. 0: without end."
    )
    SUPPRESSION_RETENTION_DAYS: Days = Field(
        0, description="How long an address stays suppressed, days. 0: until somebody removes it."
    )

    HTTP_MAX_IN_FLIGHT: Positive = Field(
        500, description="Requests answered at once by a process; past it 503 with Retry-After. Health is exempt."
    )
    CORS_ENABLED: bool = Field(False, description="false: no CORS headers; same origin always passes.")
    CORS_ORIGINS: list[str] = Field([], description="JSON list of origins, for CORS and for WebSockets.")
    TRUSTED_HOSTS: list[str] = Field([], description="JSON list of host names served; empty: all. Health is exempt.")

    @property
    def development(self) -> bool:
        return self.ENVIRONMENT == "development"

    _sources: SecretSources = PrivateAttr(default_factory=lambda: SecretSources({}, {}))

    @property
    def redis_address(self) -> RedisAddress | None:
        """Raises ValueError, but not after `load_settings`."""
        return parse_redis_url(self.REDIS_URL) if self.REDIS_URL else None

    @property
    def rate_limits(self) -> dict[RateClass, RateLimit]:
        """Those classes that have one."""
        given = {name: parse_rate(getattr(self, f"RATE_LIMIT_{name.upper()}")) for name in RateClass}
        return {name: limit for name, limit in given.items() if limit is not None and self.RATE_LIMITS_ENABLED}

    @property
    def webhook_ports(self) -> tuple[int, ...]:
        """None: all are open."""
        opened = self.development and "WEBHOOK_ALLOWED_PORTS" not in self.model_fields_set
        return () if opened else tuple(self.WEBHOOK_ALLOWED_PORTS)

    @property
    def log_level(self) -> str:
        return self.LOG_LEVEL or ("DEBUG" if self.DEBUG else "INFO")

    @property
    def jwt_secret(self) -> str:
        """Present after `load_settings`."""
        return self.JWT_SECRET_KEY.get_secret_value() if self.JWT_SECRET_KEY else ""

    @property
    def field_key(self) -> str:
        return self.FIELD_ENCRYPTION_KEY.get_secret_value() if self.FIELD_ENCRYPTION_KEY else self.jwt_secret

    @property
    def pseudonym_key(self) -> str | None:
        return self.PSEUDONYM_KEY.get_secret_value() if self.PSEUDONYM_KEY else None

    @property
    def former_field_keys(self) -> tuple[str, ...]:
        """What opens beside `field_key`. Who gives a master key of its own for the first time had JWT_SECRET_KEY."""
        given = tuple(_lines(self.FIELD_ENCRYPTION_KEY_PREVIOUS))
        return (*given, self.jwt_secret) if self.FIELD_ENCRYPTION_KEY else given

    @property
    def sources(self) -> SecretSources:
        """Where the secrets come from that are not in the environment itself."""
        return self._sources

    def renewed(self, values: Mapping[str, str]) -> tuple["Settings", set[str]]:
        """With new values of secrets, and which differ. Raises ConfigurationError as a start would."""
        given = {name: _typed(name, value) for name, value in values.items()}
        changed = {name for name, value in given.items() if getattr(self, name) != value}
        settings = self.model_copy(update=given) if changed else self
        if problems := _problems(settings):
            raise ConfigurationError("\n".join(problems))
        return settings, changed


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
    if problems := _problems(settings):
        raise ConfigurationError("\n".join(problems))
    return settings


ADDRESSES = {"MONGODB_URL", "REDIS_URL"}  # they may hold a password
SECRETS = tuple(n for n, f in Settings.model_fields.items() if "SecretStr" in str(f.annotation) or n in ADDRESSES)


def _typed(name: str, value: str) -> SecretStr | str:
    return value if name in ADDRESSES else SecretStr(value)


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
        if (insecure := _vault_problem(settings)) and not _develops(settings, development):
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
        return _Given(**{name: _typed(name, value) for name, value in secret.items()})  # type: ignore[arg-type]
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


def _problems(s: Settings) -> list[str]:
    problems = _secret_problems(s)
    if not s.development and s.MONGODB_URL is None:
        problems.append("MONGODB_URL: needed with ENVIRONMENT=production; the address of a replica set.")
    if not s.development and s.DEBUG:
        problems.append("DEBUG: must be false with ENVIRONMENT=production.")
    problems += _token_problems(s)
    problems += _email_problems(s)
    problems += _address_problems(s)
    problems += _feedback_problems(s)
    if s.MONGODB_URL is not None and not s.MONGODB_URL.startswith(("mongodb://", "mongodb+srv://")):
        problems.append("MONGODB_URL: must begin with mongodb:// or mongodb+srv://.")
    problems += _redis_problems(s)
    problems += _keeper_problems(s)
    if s.STRUCTURED_LOGGING and s.LOG_FORMAT == "console":
        problems.append("LOG_FORMAT: console contradicts STRUCTURED_LOGGING=true.")
    if s.LOG_FILE is not None and not _writable(s.LOG_FILE):
        problems.append(f"LOG_FILE: {s.LOG_FILE} cannot be written.")
    if s.ERASURE_LOG_FILE is not None and not _writable(s.ERASURE_LOG_FILE):
        problems.append(f"ERASURE_LOG_FILE: {s.ERASURE_LOG_FILE} cannot be written.")
    if s.HISTORY_RETENTION_DAYS and not 0 < s.NOTIFICATION_RETENTION_DAYS <= s.HISTORY_RETENTION_DAYS:
        problems.append("HISTORY_RETENTION_DAYS: history outlives its notification; not below the latter's days.")
    return problems


def _token_problems(s: Settings) -> list[str]:
    if s.JWT_ALGORITHM in SYMMETRIC:
        return [f"JWT_JWKS_URL: contradicts JWT_ALGORITHM={s.JWT_ALGORITHM}."] if s.JWT_JWKS_URL else []
    if s.JWT_JWKS_URL is None:
        return [f"JWT_JWKS_URL: needed with JWT_ALGORITHM={s.JWT_ALGORITHM}."]
    if not s.development and not s.JWT_JWKS_URL.startswith("https://"):
        return ["JWT_JWKS_URL: must begin with https:// with ENVIRONMENT=production."]
    return []


def _keeper_problems(s: Settings) -> list[str]:
    """Which variable the keeper of the master key lacks."""
    needs: dict[str, list[tuple[str, object]]] = {
        "local": [],
        "aws_kms": [("AWS_KMS_KEY_ID", s.AWS_KMS_KEY_ID)],
        "vault": [(name, getattr(s, name)) for name in ("VAULT_ADDR", "VAULT_TOKEN", "VAULT_TRANSIT_KEY")],
    }
    provider = s.MASTER_KEY_PROVIDER
    problems = [f"{name}: needed with MASTER_KEY_PROVIDER={provider}." for name, v in needs[provider] if not v]
    insecure = _vault_problem(s)
    return [*problems, insecure] if insecure else problems


def _vault_problem(s: Settings) -> str | None:
    if s.VAULT_ADDR is None or s.development or s.VAULT_ADDR.startswith("https://"):
        return None
    return "VAULT_ADDR: must begin with https:// with ENVIRONMENT=production."


def _redis_problems(s: Settings) -> list[str]:
    try:
        address = s.redis_address
    except ValueError as error:
        return [f"REDIS_URL: {error}."]
    files = [value for _, value in address.tls_options if isinstance(value, str)] if address else []
    return [f"REDIS_URL: {file} cannot be read." for file in files if not os.access(file, os.R_OK)]


def _email_problems(s: Settings) -> list[str]:
    """Which variable a chosen or half-set provider lacks."""
    needs: dict[str, list[tuple[str, object]]] = {
        "sendgrid": [("SENDGRID_API_KEY", s.SENDGRID_API_KEY), ("SENDGRID_FROM_EMAIL", s.SENDGRID_FROM_EMAIL)],
        "ses": [("SES_FROM_EMAIL", s.SES_FROM_EMAIL)],
        "smtp": [("SMTP_HOST", s.SMTP_HOST), ("SMTP_FROM_EMAIL", s.SMTP_FROM_EMAIL)],
    }
    chosen = s.EMAIL_PROVIDER
    begun = {"sendgrid": s.SENDGRID_API_KEY, "ses": s.SES_FROM_EMAIL, "smtp": s.SMTP_HOST}
    asked = [chosen] if chosen in needs else [name for name, value in begun.items() if value and chosen == "auto"]
    problems = [
        f"{variable}: needed to send by {provider}." for provider in asked for variable, v in needs[provider] if not v
    ]
    if bool(s.AWS_ACCESS_KEY_ID) != bool(s.AWS_SECRET_ACCESS_KEY):
        lacking = "AWS_SECRET_ACCESS_KEY" if s.AWS_ACCESS_KEY_ID else "AWS_ACCESS_KEY_ID"
        problems.append(f"{lacking}: the two AWS keys belong together.")
    return problems


def _secret_problems(s: Settings) -> list[str]:
    needed = {"JWT_SECRET_KEY": s.jwt_secret}
    if s.FIELD_ENCRYPTION_KEY is not None:
        needed["FIELD_ENCRYPTION_KEY"] = s.field_key
    if s.PSEUDONYM_KEY is not None:
        needed["PSEUDONYM_KEY"] = s.pseudonym_key or ""
    for number, former in enumerate(_lines(s.FIELD_ENCRYPTION_KEY_PREVIOUS), 1):
        needed[f"FIELD_ENCRYPTION_KEY_PREVIOUS, line {number}"] = former
    problems = []
    for name, secret in needed.items():
        if secret in SAMPLE_SECRETS:
            problems.append(f"{name}: this is the sample of the deployment guide; make one of 32 random bytes or more.")
        elif len(secret.encode()) < MIN_SECRET_BYTES:
            problems.append(f"{name}: needed, {MIN_SECRET_BYTES} bytes or more (e.g. `openssl rand -hex 32`).")
        elif len(set(secret)) < MIN_DISTINCT:
            problems.append(f"{name}: too easy to guess; make another (e.g. `openssl rand -hex 32`).")
    return problems


def _lines(secret: SecretStr | None) -> list[str]:
    given = secret.get_secret_value() if secret else ""
    return [line.strip() for line in given.splitlines() if line.strip()]


def _address_problems(s: Settings) -> list[str]:
    problems = []
    for name in ("SMTP_FROM_EMAIL", "SENDGRID_FROM_EMAIL", "SES_FROM_EMAIL"):
        if not _is_sender(getattr(s, name)):
            problems.append(f"{name}: must be one e-mail address without a name.")
    if not s.SENDGRID_FROM_NAME.isprintable():
        problems.append("SENDGRID_FROM_NAME: must not hold control characters.")
    try:
        Guard(s.WEBHOOK_ALLOWED_NETWORKS)
    except ValueError:
        problems.append('WEBHOOK_ALLOWED_NETWORKS: must be a list of CIDR networks, e.g. ["10.1.0.0/16"].')
    for origin in s.CORS_ORIGINS:
        if origin != "*" and not re.fullmatch(ORIGIN_PATTERN, origin):
            problems.append(
                'CORS_ORIGINS: must be a list of origins, e.g. ["https://app.example.org"], without a path.'
            )
            break
    try:
        for network in s.TRUSTED_PROXIES:
            ip_network(network)
    except ValueError:
        problems.append('TRUSTED_PROXIES: must be a list of CIDR networks, e.g. ["10.1.0.0/16"].')
    return problems


def _feedback_problems(s: Settings) -> list[str]:
    problems = []
    if s.SENDGRID_WEBHOOK_PUBLIC_KEY is not None:
        try:
            SendGridSignature(s.SENDGRID_WEBHOOK_PUBLIC_KEY)
        except ValueError as error:
            problems.append(f"SENDGRID_WEBHOOK_PUBLIC_KEY: {error}; copy it from SendGrid's mail settings.")
    if s.PUBLIC_URL is not None and not s.development and not s.PUBLIC_URL.startswith("https://"):
        problems.append("PUBLIC_URL: must begin with https:// with ENVIRONMENT=production.")
    return problems


def _is_sender(address: str | None) -> bool:
    """Whether it can stand in a From header as it is; `engine@localhost` can."""
    if address is None:
        return True
    try:
        return address.isascii() and Address(addr_spec=address).addr_spec == address and "@" in address
    except (MessageError, ValueError, IndexError):  # the last: the standard library's answer to an empty part
        return False


def _writable(path: Path) -> bool:
    return os.access(path if path.exists() else path.parent, os.W_OK) and not path.is_dir()


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
