"""Settings as a process finds them: through the environment and a `.env` in the working directory."""

import json
import os
import re
from pathlib import Path

import pytest
from pydantic import SecretStr

from notification_engine.domain.errors import ConfigurationError
from notification_engine.domain.rate_limit import RateClass, RateLimit
from notification_engine.settings import MIN_SECRET_BYTES, SAMPLE_SECRETS, Settings, load_settings, masked

GUIDE = Path(__file__).parents[2] / "docs" / "deployment-guide.md"
SECRET = "a secret of the tests, 32 bytes or more"
PLAIN = {"JWT_SECRET_KEY": SECRET, "MONGODB_URL": "mongodb://mongo:27017/?replicaSet=rs0"}


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing of the machine that runs the tests."""
    for name in Settings.model_fields:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


def given(monkeypatch: pytest.MonkeyPatch, **variables: str) -> None:
    for name, value in (PLAIN | variables).items():
        monkeypatch.setenv(name, value)


def loaded(monkeypatch: pytest.MonkeyPatch, **variables: str) -> Settings:
    given(monkeypatch, **variables)
    return load_settings()


def refusal(monkeypatch: pytest.MonkeyPatch, **variables: str) -> list[str]:
    given(monkeypatch, **variables)
    with pytest.raises(ConfigurationError) as error:
        load_settings()
    return str(error.value).splitlines()


def guides_blocks() -> dict[str, dict[str, str]]:
    """The variables of each environment of the guide, by the heading of its section."""
    section = GUIDE.read_text().partition("## Environment Configuration")[2].partition("\n## ")[0]
    blocks = re.findall(r"### (.+?)\n\n```bash\n(.*?)```", section, re.DOTALL)
    return {title: dict(re.findall(r"^([A-Z][A-Z0-9_]*)=(.*)$", text, re.MULTILINE)) for title, text in blocks}


def guides_other_variables() -> set[str]:
    """The tuning section writes them as Python."""
    section = GUIDE.read_text().partition("### Application Level")[2].partition("```python")[2].partition("```")[0]
    return set(re.findall(r"^([A-Z][A-Z0-9_]*) = ", section, re.MULTILINE))


GUIDES = sorted({name for block in guides_blocks().values() for name in block} | guides_other_variables())


def test_the_guide_is_read_as_it_is_written() -> None:
    assert {t: len(b) for t, b in guides_blocks().items()} == {
        "Required Environment Variables": 33,
        "Development Environment": 10,
        "Production Environment": 14,
    }
    assert "DATABASE_CONNECTION_POOL_SIZE" in guides_other_variables()


@pytest.mark.parametrize("name", GUIDES)
def test_a_variable_of_the_guide_is_a_setting_of_exactly_its_name(name: str) -> None:
    assert name in Settings.model_fields


@pytest.mark.parametrize("title", guides_blocks())
def test_a_block_of_the_guide_is_accepted_as_an_env_file_but_for_its_samples(title: str, tmp_path: Path) -> None:
    block = guides_blocks()[title]
    ours = {"JWT_SECRET_KEY": SECRET, "LOG_FILE": str(tmp_path / "notifications.log")}
    text = "\n".join(f"{name}={value}" for name, value in (block | ours).items())
    Path(".env").write_text(text)
    settings = load_settings()
    assert settings.model_fields_set == {*block, *ours}
    for name in block.keys() - ours.keys():
        assert shown(settings, name) == written(block[name]), name


def shown(settings: Settings, name: str) -> str:
    value = getattr(settings, name)
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, list):
        return "[" + ", ".join(f'"{v}"' for v in value) + "]"
    return f"{value:g}" if isinstance(value, float) else str(value).lower() if isinstance(value, bool) else str(value)


def written(text: str) -> str:
    """Without the comment and the quotation marks that a shell takes away."""
    return text.partition("  #")[0].strip().removeprefix('"').removesuffix('"')


@pytest.mark.parametrize(
    "secret", sorted({b["JWT_SECRET_KEY"] for b in guides_blocks().values() if "JWT_SECRET_KEY" in b})
)
@pytest.mark.parametrize("environment", ["production", "development"])
@pytest.mark.parametrize("name", ["JWT_SECRET_KEY", "FIELD_ENCRYPTION_KEY"])
def test_a_sample_secret_of_the_guide_is_refused(
    monkeypatch: pytest.MonkeyPatch, secret: str, environment: str, name: str
) -> None:
    assert secret in SAMPLE_SECRETS
    (line,) = refusal(monkeypatch, ENVIRONMENT=environment, **{name: secret})
    assert line.startswith(f"{name}: this is the sample")


BAD = [
    ("ENVIRONMENT", "staging"),
    ("ENVIRONMENT", "Production"),
    ("DEBUG", "maybe"),
    ("MONGODB_DATABASE", "a b"),
    ("MONGODB_DATABASE", "a.b"),
    ("MONGODB_DATABASE", "$a"),
    ("MONGODB_DATABASE", "x" * 64),
    ("DATABASE_CONNECTION_POOL_SIZE", "0"),
    ("DATABASE_CONNECTION_POOL_SIZE", "many"),
    ("JWT_SECRET_KEY", "x" * 31),
    ("JWT_ALGORITHM", "none"),
    ("JWT_ALGORITHM", "RS512"),
    ("JWT_ALGORITHM", "hs256"),
    ("JWT_JWKS_URL", "ftp://login.example/keys"),
    ("JWT_JWKS_URL", "https://user:password@login.example/keys"),
    ("JWT_JWKS_URL", "login.example/keys"),
    ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4317"),
    ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://user:password@collector.example"),
    ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "grpc://collector.example"),
    ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
    ("OTEL_TRACES_EXPORTER", "console"),
    ("OTEL_SDK_DISABLED", "perhaps"),
    ("OTEL_EXPORTER_OTLP_TIMEOUT", "0"),
    ("OTEL_EXPORTER_OTLP_COMPRESSION", "br"),
    ("OTEL_BSP_SCHEDULE_DELAY", "soon"),
    ("OTEL_BSP_MAX_QUEUE_SIZE", "511"),
    ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "0"),
    ("OTEL_EXPORTER_OTLP_CLIENT_KEY", "client.key"),
    ("JWT_LEEWAY_SECONDS", "-1"),
    ("JWT_LEEWAY_SECONDS", "301"),
    ("JWT_ACCESS_TOKEN_EXPIRE_MINUTES", "0"),
    ("FIELD_ENCRYPTION_KEY", "x" * 31),
    ("NOTIFICATION_DAEMON_ENABLED", "perhaps"),
    ("NOTIFICATION_DAEMON_WORKERS", "0"),
    ("NOTIFICATION_DAEMON_WORKERS", "-1"),
    ("NOTIFICATION_DAEMON_WORKERS", "1.5"),
    ("NOTIFICATION_DAEMON_BATCH_SIZE", "0"),
    ("NOTIFICATION_DAEMON_HEALTH_CHECK_INTERVAL", "0"),
    ("NOTIFICATION_QUEUE_SIZE", "0"),
    ("NOTIFICATION_PROCESSING_TIMEOUT", "0"),
    ("NOTIFICATION_PROCESSING_TIMEOUT", "inf"),
    ("NOTIFICATION_RETRY_MAX_ATTEMPTS", "0"),
    ("NOTIFICATION_RETRY_DELAY_SECONDS", "-1"),
    ("LEASE_SECONDS", "nan"),
    ("SWEEP_INTERVAL_SECONDS", "0"),
    ("DRAIN_DELAY_SECONDS", "-1"),
    ("DRAIN_DELAY_SECONDS", "601"),
    ("EMAIL_PROVIDER", "pigeon"),
    ("SENDGRID_FROM_EMAIL", "nobody"),
    ("SES_FROM_EMAIL", "a@b, c@d"),
    ("SENDGRID_FROM_NAME", "a\nBcc: eve@example.org"),
    ("SENDGRID_WEBHOOK_PUBLIC_KEY", "junk"),
    ("SENDGRID_WEBHOOK_PUBLIC_KEY", "-----BEGIN PUBLIC KEY-----"),
    ("SES_SNS_TOPIC_ARN", "ses-events"),
    ("SES_SNS_TOPIC_ARN", "arn:aws:sqs:us-east-1:123456789012:ses-events"),
    ("SES_SNS_TOPIC_ARN", "arn:aws:sns:us-east-1:123456789012:ses-events.fifo"),
    ("PUBLIC_URL", "notify.example.org"),
    ("PUBLIC_URL", "http://notify.example.org"),
    ("PUBLIC_URL", "https://notify.example.org/?a=b"),
    ("PUBLIC_URL", "https://user@notify.example.org"),
    ("PUBLIC_URL", "https://notify.example.org/>"),
    ("SMTP_PORT", "0"),
    ("SMTP_PORT", "65536"),
    ("SMTP_STARTTLS", "tls"),
    ("SMTP_FROM_EMAIL", "nobody"),
    ("SMTP_FROM_EMAIL", "nobody@"),
    ("SMTP_FROM_EMAIL", "@example.org"),
    ("SMTP_FROM_EMAIL", "Ada <ada@example.org>"),
    ("SMTP_FROM_EMAIL", "ada@bücher.example"),
    ("SMTP_TIMEOUT_SECONDS", "0"),
    ("WEBSOCKET_MAX_CONNECTIONS", "0"),
    ("WEBSOCKET_HEARTBEAT_INTERVAL", "0"),
    ("WEBSOCKET_CONNECTION_TIMEOUT", "0"),
    ("WEBHOOK_TIMEOUT_SECONDS", "86401"),
    ("WEBHOOK_MAX_RETRIES", "-1"),
    ("WEBHOOK_MAX_RETRIES", "101"),
    ("WEBHOOK_RETRY_DELAY_SECONDS", "0"),
    ("WEBHOOK_HTTPS_ONLY", "2"),
    ("WEBHOOK_ALLOWED_NETWORKS", "10.0.0.0/8"),
    ("WEBHOOK_ALLOWED_NETWORKS", '["junk"]'),
    ("WEBHOOK_ALLOWED_NETWORKS", '["10.0.0.1/8"]'),
    ("WEBHOOK_ALLOWED_NETWORKS", '["64:ff9b::/96"]'),
    ("LOG_LEVEL", "info"),
    ("LOG_FORMAT", "xml"),
    ("STRUCTURED_LOGGING", "yep"),
    ("LOG_FILE", "/nowhere/at/all.log"),
    ("LOG_FILE", "/"),
    ("HEALTH_CHECK_ENABLED", "x"),
    ("HEALTH_CHECK_INTERVAL", "0"),
    ("METRICS_COLLECTION_ENABLED", "x"),
    ("METRICS_RETENTION_DAYS", "0"),
    ("CORS_ENABLED", "x"),
    ("CORS_ORIGINS", "https://example.org"),
    ("CORS_ORIGINS", '{"a": 1}'),
    ("CORS_ORIGINS", "[1, 2]"),
    ("CORS_ORIGINS", '["null"]'),
    ("CORS_ORIGINS", '["https://app.example.org/"]'),
    ("CORS_ORIGINS", '["https://*.example.org"]'),
    ("TRUSTED_PROXIES", '["my-proxy"]'),
    ("TRUSTED_PROXIES", '["10.0.0.1/8"]'),
    ("FORWARDED_HEADER", "x-real-ip"),
    ("RATE_LIMITS_ENABLED", "some"),
    ("RATE_LIMIT_READ", "many"),
    ("RATE_LIMIT_SEND", "-1/second"),
    ("RATE_LIMIT_AUTH", "10/fortnight"),
    ("WEBHOOK_ALLOWED_PORTS", "[0]"),
    ("WEBHOOK_ALLOWED_PORTS", '["https"]'),
    ("WEBHOOK_ALLOWED_PORTS", "443"),
    ("TRUSTED_HOSTS", "example.org,other.org"),
]


@pytest.mark.parametrize(("name", "value"), BAD, ids=lambda v: v[:40])
def test_a_bad_value_is_refused_by_the_name_of_its_variable(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    lines = refusal(monkeypatch, **{name: value})
    assert lines
    assert all(name in line for line in lines)


@pytest.mark.parametrize(
    "url", ["https://notify.example.org", "https://n.example.org:8443/base/", "https://[2001:db8::1]/x"]
)
def test_a_public_address_may_have_a_port_and_a_path(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    assert url == loaded(monkeypatch, PUBLIC_URL=url).PUBLIC_URL


def test_a_public_address_may_be_plain_in_development(monkeypatch: pytest.MonkeyPatch) -> None:
    url = "http://127.0.0.1:8000"
    assert url == loaded(monkeypatch, PUBLIC_URL=url, ENVIRONMENT="development").PUBLIC_URL


def test_every_bad_value_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = refusal(monkeypatch, SMTP_PORT="0", LOG_FORMAT="xml", NOTIFICATION_QUEUE_SIZE="x")
    assert {line.partition(":")[0] for line in lines} == {"SMTP_PORT", "LOG_FORMAT", "NOTIFICATION_QUEUE_SIZE"}
    lines = refusal(
        monkeypatch, SMTP_PORT="1", LOG_FORMAT="json", NOTIFICATION_QUEUE_SIZE="1", DEBUG="true", LOG_FILE="/"
    )
    assert {line.partition(":")[0] for line in lines} == {"DEBUG", "LOG_FILE"}


@pytest.mark.parametrize("name", [n for n, f in Settings.model_fields.items() if "Secret" in str(f.annotation)])
def test_a_refusal_never_repeats_a_secret(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    lines = refusal(monkeypatch, **{"LOG_FORMAT": "xml", name: "hunter2+" * 9})
    assert not any("hunter2" in line for line in lines)


def test_a_weak_secret_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    (line,) = refusal(monkeypatch, JWT_SECRET_KEY="hunter2")
    assert "hunter2" not in line


def test_a_secret_is_measured_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert MIN_SECRET_BYTES == 32
    assert loaded(monkeypatch, JWT_SECRET_KEY="äbcüdéfg" * 3 + "üüüü").jwt_secret == "äbcüdéfg" * 3 + "üüüü"
    refusal(monkeypatch, JWT_SECRET_KEY="äöüßéèáà" + "ü" * 7)


def test_production_is_meant_unless_something_else_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not loaded(monkeypatch).development


def test_production_refuses_to_start_without_an_address_or_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENVIRONMENT", "production")
    with pytest.raises(ConfigurationError) as error:
        load_settings()
    assert [line.partition(":")[0] for line in str(error.value).splitlines()] == ["JWT_SECRET_KEY", "MONGODB_URL"]


def test_production_refuses_debug_and_development_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    (line,) = refusal(monkeypatch, DEBUG="true")
    assert line.startswith("DEBUG: must be false")
    assert loaded(monkeypatch, DEBUG="true", ENVIRONMENT="development").log_level == "DEBUG"


def test_the_development_command_does_not_soften_a_given_production(monkeypatch: pytest.MonkeyPatch) -> None:
    given(monkeypatch, ENVIRONMENT="production")
    settings = load_settings(development=True)
    assert (settings.development, settings.WEBHOOK_HTTPS_ONLY, settings.LOG_FORMAT) == (False, True, "json")
    monkeypatch.delenv("JWT_SECRET_KEY")
    with pytest.raises(ConfigurationError, match="JWT_SECRET_KEY"):
        load_settings(development=True)


def test_the_development_command_needs_nothing_and_keeps_its_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load_settings(development=True)
    assert (settings.development, settings.WEBHOOK_HTTPS_ONLY, settings.LOG_FORMAT) == (True, False, "console")
    assert len(settings.jwt_secret) == 64
    assert load_settings(development=True).jwt_secret == settings.jwt_secret
    assert os.stat("var/dev-secret").st_mode & 0o777 == 0o600


def test_the_development_command_changes_nothing_that_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    given(monkeypatch, WEBHOOK_HTTPS_ONLY="true", DRAIN_DELAY_SECONDS="7", LOG_FORMAT="json")
    settings = load_settings(development=True)
    assert (settings.WEBHOOK_HTTPS_ONLY, settings.DRAIN_DELAY_SECONDS, settings.LOG_FORMAT) == (True, 7, "json")
    assert settings.jwt_secret == SECRET
    assert not Path("var").exists()


def test_the_environment_wins_over_the_env_file(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text("NOTIFICATION_QUEUE_SIZE=7\nNOTIFICATION_DAEMON_WORKERS=7\nUNKNOWN=1\n")
    settings = loaded(monkeypatch, NOTIFICATION_QUEUE_SIZE="8")
    assert (settings.NOTIFICATION_QUEUE_SIZE, settings.NOTIFICATION_DAEMON_WORKERS) == (8, 7)


def test_an_empty_value_counts_as_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = loaded(monkeypatch, NOTIFICATION_QUEUE_SIZE="", LOG_FILE="", CORS_ORIGINS="")
    assert (settings.NOTIFICATION_QUEUE_SIZE, settings.LOG_FILE, settings.CORS_ORIGINS) == (1000, None, [])


def test_a_name_in_lower_case_is_another_name(monkeypatch: pytest.MonkeyPatch) -> None:
    assert loaded(monkeypatch, notification_queue_size="7").NOTIFICATION_QUEUE_SIZE == 1000


@pytest.mark.parametrize(
    ("variables", "missing"),
    [
        ({"EMAIL_PROVIDER": "sendgrid"}, ["SENDGRID_API_KEY", "SENDGRID_FROM_EMAIL"]),
        ({"SENDGRID_API_KEY": "SG.x"}, ["SENDGRID_FROM_EMAIL"]),
        ({"EMAIL_PROVIDER": "ses"}, ["SES_FROM_EMAIL"]),
        ({"SMTP_HOST": "mail"}, ["SMTP_FROM_EMAIL"]),
        ({"AWS_ACCESS_KEY_ID": "AKIA"}, ["AWS_SECRET_ACCESS_KEY"]),
        ({"AWS_SECRET_ACCESS_KEY": "x"}, ["AWS_ACCESS_KEY_ID"]),
    ],
)
def test_a_half_set_provider_is_refused(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], missing: list[str]
) -> None:
    assert [line.split(":")[0] for line in refusal(monkeypatch, **variables)] == missing


def test_the_guides_development_key_is_harmless_with_the_console(monkeypatch: pytest.MonkeyPatch) -> None:
    assert loaded(monkeypatch, EMAIL_PROVIDER="console", SENDGRID_API_KEY="test-key").EMAIL_PROVIDER == "console"


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("CORS_ORIGINS", ["https://a.example", "http://[::1]:3000"]),
        ("TRUSTED_HOSTS", ["a.example", "*.b.example"]),
        ("TRUSTED_PROXIES", ["10.0.0.0/8", "fd00::/8"]),
        ("WEBHOOK_ALLOWED_NETWORKS", ["10.0.0.0/8", "fd00::/8"]),
        ("WEBHOOK_ALLOWED_PORTS", [443, 9000]),
    ],
)
def test_a_list_is_written_as_json(monkeypatch: pytest.MonkeyPatch, name: str, values: list[str | int]) -> None:
    assert getattr(loaded(monkeypatch, **{name: json.dumps(values)}), name) == values
    (line,) = refusal(monkeypatch, **{name: "10.0.0.0/8"})
    assert "JSON" in line


def test_smtp_needs_a_host_and_a_sender(monkeypatch: pytest.MonkeyPatch) -> None:
    assert refusal(monkeypatch, EMAIL_PROVIDER="smtp")[0].startswith("SMTP_HOST: needed")
    assert refusal(monkeypatch, SMTP_HOST="mail")[0].startswith("SMTP_FROM_EMAIL: needed")
    assert loaded(monkeypatch, SMTP_FROM_EMAIL="engine@localhost").SMTP_FROM_EMAIL == "engine@localhost"


def test_structured_logging_means_json(monkeypatch: pytest.MonkeyPatch) -> None:
    assert loaded(monkeypatch, STRUCTURED_LOGGING="true").LOG_FORMAT == "json"
    assert load_settings(development=True).LOG_FORMAT == "json"
    (line,) = refusal(monkeypatch, LOG_FORMAT="console")
    assert line.startswith("LOG_FORMAT: console contradicts")


def test_a_log_file_may_be_new(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "engine.log"
    assert file == loaded(monkeypatch, LOG_FILE=str(file)).LOG_FILE


def secrets_given(monkeypatch: pytest.MonkeyPatch) -> Settings:
    hidden = {name: "hunter2+" * 9 for name, f in Settings.model_fields.items() if "Secret" in str(f.annotation)}
    return loaded(
        monkeypatch,
        MONGODB_URL="mongodb://ada:hunter2@mongo/?tlsCertificateKeyFilePassword=hunter2",
        SENDGRID_FROM_EMAIL="engine@example.org",
        **hidden,
    )


def test_no_form_of_the_settings_shows_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = secrets_given(monkeypatch)
    assert settings.jwt_secret == "hunter2+" * 9
    assert "hunter2" not in repr(settings) + str(settings)
    assert "hunter2" not in repr(masked(settings))


def test_no_password_of_redis_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    url = "redis+sentinel://ada:hunter2@a,b/main?sentinel_username=bob&sentinel_password=hunter2"
    settings = loaded(monkeypatch, REDIS_URL=url)
    assert "hunter2" not in repr(settings) + repr(masked(settings))
    assert masked(settings)["REDIS_URL"].startswith("redis+sentinel://********@a,b/main?")


@pytest.mark.parametrize("url", ["cache:6379", "redis://a,b", "redis+sentinel://a", "redis://a?x=hunter2"])
def test_an_address_of_redis_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^REDIS_URL: ") as error:
        loaded(monkeypatch, REDIS_URL=url)
    assert "hunter2" not in str(error.value)


def test_the_masked_settings_are_all_settings_with_their_effective_values(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = masked(loaded(monkeypatch, SMTP_PORT="26", SMTP_PASSWORD="hunter2"))
    assert list(shown) == list(Settings.model_fields)
    assert (shown["SMTP_PORT"], shown["SMTP_PASSWORD"], shown["AWS_SECRET_ACCESS_KEY"]) == ("26", "********", "")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("mongodb://mongo:27017", "mongodb://mongo:27017"),
        ("mongodb://mongo/engine", "mongodb://mongo/engine"),
        ("mongodb://ada:hunter2@mongo", "mongodb://********@mongo"),
        ("mongodb+srv://ada:hunter2@mongo.example.org/engine", "mongodb+srv://********@mongo.example.org/engine"),
        ("mongodb://ada:hunter2@a:1,b:2/?replicaSet=rs0", "mongodb://********@a:1,b:2/?replicaSet=rs0"),
        ("mongodb://m/?tlsCertificateKeyFilePassword=hunter2", "mongodb://m/?tlsCertificateKeyFilePassword=********"),
        ("mongodb://m/?proxyPASSWORD=hunter2&w=1", "mongodb://m/?proxyPASSWORD=********&w=1"),
        ("mongodb://m/?authMechanismProperties=AWS:hunter2", "mongodb://m/?authMechanismProperties=********"),
        ("mongodb://ada:hun@ter2@mongo", "mongodb://********@mongo"),
        ("mongodb://ada:hunter2@mongo/?a=x@y", "mongodb://********@y"),
    ],
)
def test_a_masked_address_shows_where_and_not_who(monkeypatch: pytest.MonkeyPatch, url: str, expected: str) -> None:
    assert masked(loaded(monkeypatch, MONGODB_URL=url))["MONGODB_URL"] == expected


JWKS = "https://login.example/keys"


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
def test_public_keys_need_an_address_and_in_production_https(monkeypatch: pytest.MonkeyPatch, algorithm: str) -> None:
    (line,) = refusal(monkeypatch, JWT_ALGORITHM=algorithm)
    assert line.startswith("JWT_JWKS_URL: needed")
    plain = JWKS.replace("https", "http")
    (line,) = refusal(monkeypatch, JWT_JWKS_URL=plain)
    assert "https" in line
    assert loaded(monkeypatch, JWT_JWKS_URL=JWKS).jwt_secret
    assert loaded(monkeypatch, ENVIRONMENT="development", JWT_JWKS_URL=plain).jwt_secret


def test_a_shared_secret_and_an_address_of_public_keys_contradict_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    (line,) = refusal(monkeypatch, JWT_ALGORITHM="HS256", JWT_JWKS_URL=JWKS)
    assert line.startswith("JWT_JWKS_URL: contradicts")


def test_public_keys_do_not_spare_the_engines_own_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    (line,) = refusal(monkeypatch, JWT_ALGORITHM="RS256", JWT_JWKS_URL=JWKS, JWT_SECRET_KEY="x" * 31)
    assert line.startswith("JWT_SECRET_KEY")


def test_a_rate_limit_is_read_and_nought_or_the_switch_turns_it_off(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = loaded(monkeypatch, RATE_LIMIT_SEND="100/second", RATE_LIMIT_READ="0")
    assert settings.rate_limits[RateClass.SEND] == RateLimit(100, 1)
    assert RateClass.READ not in settings.rate_limits
    assert set(settings.rate_limits) == set(RateClass) - {RateClass.READ}
    assert loaded(monkeypatch, RATE_LIMITS_ENABLED="false").rate_limits == {}


def test_sending_has_no_limit_unless_one_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    assert RateClass.SEND not in loaded(monkeypatch).rate_limits


def test_ports_are_listed_in_production_and_open_in_development_unless_given(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Settings(ENVIRONMENT="production").webhook_ports == (80, 443, 8443)
    assert Settings(ENVIRONMENT="development").webhook_ports == ()
    assert Settings(ENVIRONMENT="development", WEBHOOK_ALLOWED_PORTS=[443]).webhook_ports == (443,)
    assert Settings(WEBHOOK_ALLOWED_PORTS=[]).webhook_ports == ()


COLLECTOR = "http://collector.example:4318"


@pytest.mark.parametrize(
    ("variables", "endpoint"),
    [
        ({}, None),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": COLLECTOR}, f"{COLLECTOR}/v1/traces"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": f"{COLLECTOR}/otlp/"}, f"{COLLECTOR}/otlp/v1/traces"),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"{COLLECTOR}/here"}, f"{COLLECTOR}/here"),
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": COLLECTOR, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"{COLLECTOR}/here"},
            f"{COLLECTOR}/here",
        ),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": COLLECTOR, "OTEL_TRACES_EXPORTER": "none"}, None),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": COLLECTOR, "OTEL_SDK_DISABLED": "true"}, None),
    ],
)
def test_traces_go_where_the_standard_variables_say(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], endpoint: str | None
) -> None:
    assert loaded(monkeypatch, **variables).traces_endpoint == endpoint
