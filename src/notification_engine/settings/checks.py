"""What no single field can tell: which variables contradict or lack each other. No line repeats a secret."""

import os
import re
from email.errors import MessageError
from email.headerregistry import Address
from ipaddress import ip_network
from pathlib import Path

from notification_engine.net.guard import Guard
from notification_engine.security.sendgrid import SendGridSignature
from notification_engine.security.tokens import SYMMETRIC
from notification_engine.settings.fields import Fields, lines

MIN_DISTINCT = 8  # characters; 32 random hexadecimal digits have fewer once in 25 million
MIN_SECRET_BYTES = 32
SAMPLE_SECRETS = frozenset({"your-secret-key-here", "your-production-secret-key-256-bits"})
ORIGIN_PATTERN = r"https?://([a-z0-9.-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?"  # as browsers write it


def problems_of(s: Fields) -> list[str]:
    """One line for every variable that is wrong, its name first."""
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
    return problems + _trace_problems(s)


def _trace_problems(s: Fields) -> list[str]:
    problems = []
    if s.OTEL_BSP_MAX_EXPORT_BATCH_SIZE > s.OTEL_BSP_MAX_QUEUE_SIZE:
        problems.append("OTEL_BSP_MAX_EXPORT_BATCH_SIZE: not above OTEL_BSP_MAX_QUEUE_SIZE.")
    if s.OTEL_EXPORTER_OTLP_CLIENT_KEY is not None and s.OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE is None:
        problems.append("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE: needed with OTEL_EXPORTER_OTLP_CLIENT_KEY.")
    return problems


def _token_problems(s: Fields) -> list[str]:
    if s.JWT_ALGORITHM in SYMMETRIC:
        return [f"JWT_JWKS_URL: contradicts JWT_ALGORITHM={s.JWT_ALGORITHM}."] if s.JWT_JWKS_URL else []
    if s.JWT_JWKS_URL is None:
        return [f"JWT_JWKS_URL: needed with JWT_ALGORITHM={s.JWT_ALGORITHM}."]
    if not s.development and not s.JWT_JWKS_URL.startswith("https://"):
        return ["JWT_JWKS_URL: must begin with https:// with ENVIRONMENT=production."]
    return []


def _keeper_problems(s: Fields) -> list[str]:
    """Which variable the keeper of the master key lacks."""
    needs: dict[str, list[tuple[str, object]]] = {
        "local": [],
        "aws_kms": [("AWS_KMS_KEY_ID", s.AWS_KMS_KEY_ID)],
        "vault": [(name, getattr(s, name)) for name in ("VAULT_ADDR", "VAULT_TOKEN", "VAULT_TRANSIT_KEY")],
    }
    provider = s.MASTER_KEY_PROVIDER
    problems = [f"{name}: needed with MASTER_KEY_PROVIDER={provider}." for name, v in needs[provider] if not v]
    insecure = vault_problem(s)
    return [*problems, insecure] if insecure else problems


def vault_problem(s: Fields) -> str | None:
    if s.VAULT_ADDR is None or s.development or s.VAULT_ADDR.startswith("https://"):
        return None
    return "VAULT_ADDR: must begin with https:// with ENVIRONMENT=production."


def _redis_problems(s: Fields) -> list[str]:
    try:
        address = s.redis_address
    except ValueError as error:
        return [f"REDIS_URL: {error}."]
    files = [value for _, value in address.tls_options if isinstance(value, str)] if address else []
    return [f"REDIS_URL: {file} cannot be read." for file in files if not os.access(file, os.R_OK)]


def _email_problems(s: Fields) -> list[str]:
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


def _secret_problems(s: Fields) -> list[str]:
    needed = {"JWT_SECRET_KEY": s.jwt_secret}
    if s.FIELD_ENCRYPTION_KEY is not None:
        needed["FIELD_ENCRYPTION_KEY"] = s.field_key
    if s.PSEUDONYM_KEY is not None:
        needed["PSEUDONYM_KEY"] = s.pseudonym_key or ""
    for number, former in enumerate(lines(s.FIELD_ENCRYPTION_KEY_PREVIOUS), 1):
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


def _address_problems(s: Fields) -> list[str]:
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


def _feedback_problems(s: Fields) -> list[str]:
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
