"""The fields: every variable of the deployment guide by its exact name, with its default, its type and a sentence."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from notification_engine.domain.rate_limit import RateClass, RateLimit, parse_rate
from notification_engine.realtime.redis_address import RedisAddress, parse_redis_url
from notification_engine.security.sns import TOPIC_PATTERN

LOOPBACK = ("127.0.0.0/8", "::1/128")
DATABASE_NAME = r"^[^\x00-\x20/\\.\"$*<>:|?]{1,63}$"  # what every platform's MongoDB takes
URL_PATTERN = r"^https?://[^\s/]+"
VAULT_PATH = r"^[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*$"
PUBLIC_PATTERN = r"^https?://([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?(/[A-Za-z0-9._~/-]*)?$"
PLAIN_URL_PATTERN = r"^https?://[^\s/@#]+(/[^\s#]*)?$"


def _checked_rate(text: str) -> str:
    parse_rate(text)
    return text


Positive = Annotated[int, Field(ge=1)]
Rate = Annotated[float, Field(ge=0, le=100_000)]
Days = Annotated[int, Field(ge=0, le=36_500)]
Milliseconds = Annotated[int, Field(ge=1, le=86_400_000)]
Seconds = Annotated[float, Field(gt=0, le=86_400)]
RateText = Annotated[str, AfterValidator(_checked_rate)]


class Fields(BaseSettings):
    """What may be given, and what follows from it."""

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
        None, pattern=PLAIN_URL_PATTERN, description="Where the platform's public keys are (JWKS); https in production."
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

    OTEL_EXPORTER_OTLP_ENDPOINT: str | None = Field(
        None,
        pattern=PLAIN_URL_PATTERN,
        description="Collector of traces, OTLP by HTTP; /v1/traces follows. Unset: none.",
    )
    OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: str | None = Field(
        None, pattern=PLAIN_URL_PATTERN, description="The same as a whole address; wins over the former."
    )
    OTEL_EXPORTER_OTLP_HEADERS: SecretStr | None = Field(
        None, description="What the collector asks for: name=value, separated by commas, percent-encoded."
    )
    OTEL_EXPORTER_OTLP_TIMEOUT: Milliseconds = Field(10_000, description="For one answer of it, milliseconds.")
    OTEL_EXPORTER_OTLP_COMPRESSION: Literal["none", "gzip"] = Field("none", description="Of what is sent to it.")
    OTEL_EXPORTER_OTLP_CERTIFICATE: Path | None = Field(
        None, description="File of the authority that it is trusted by, PEM. Unset: the system's."
    )
    OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE: Path | None = Field(
        None, description="File of our own certificate, PEM, where it asks for one."
    )
    OTEL_EXPORTER_OTLP_CLIENT_KEY: Path | None = Field(
        None, description="File of its key, PEM, if that is not in the same."
    )
    OTEL_EXPORTER_OTLP_PROTOCOL: Literal["http/protobuf"] = Field("http/protobuf", description="The only one spoken.")
    OTEL_SERVICE_NAME: str = Field("notification-engine", description="Name of the service in traces.")
    OTEL_TRACES_EXPORTER: Literal["otlp", "none"] = Field("otlp", description="`none`: no traces.")
    OTEL_SDK_DISABLED: bool = Field(False, description="true: no traces.")
    OTEL_BSP_SCHEDULE_DELAY: Milliseconds = Field(5_000, description="How long a span waits for others, milliseconds.")
    OTEL_BSP_MAX_QUEUE_SIZE: Positive = Field(2_048, description="Spans that wait; past it the oldest are forgotten.")
    OTEL_BSP_MAX_EXPORT_BATCH_SIZE: Positive = Field(512, description="Spans of one request to the collector.")

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

    @property
    def redis_address(self) -> RedisAddress | None:
        """Raises ValueError, but not after `load_settings`."""
        return parse_redis_url(self.REDIS_URL) if self.REDIS_URL else None

    @property
    def traces_endpoint(self) -> str | None:
        """Where traces go; None where they are off."""
        if self.OTEL_SDK_DISABLED or self.OTEL_TRACES_EXPORTER == "none":
            return None
        base = self.OTEL_EXPORTER_OTLP_ENDPOINT
        return self.OTEL_EXPORTER_OTLP_TRACES_ENDPOINT or (f"{base.rstrip('/')}/v1/traces" if base else None)

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
        given = tuple(lines(self.FIELD_ENCRYPTION_KEY_PREVIOUS))
        return (*given, self.jwt_secret) if self.FIELD_ENCRYPTION_KEY else given


def lines(secret: SecretStr | None) -> list[str]:
    """Of a secret that is several."""
    given = secret.get_secret_value() if secret else ""
    return [line.strip() for line in given.splitlines() if line.strip()]
