"""Secrets that are given as files: what wins, what is refused, and that none is shown."""

from pathlib import Path

import pytest
from tests.unit.test_settings import PLAIN

from notification_engine.domain.errors import ConfigurationError
from notification_engine.settings import SECRETS, Settings, load_settings, masked

CANARY = "canary-5ab1-0123456789-of-the-tests"
MASTER = "a master key for the tests, of 32 bytes or more"


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(f"{name}_FILE", raising=False)
    for name, value in PLAIN.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)


def file(path: Path, text: str, name: str = "secret") -> str:
    (path / name).write_text(text)
    return str(path / name)


def refusal() -> list[str]:
    with pytest.raises(ConfigurationError) as error:
        load_settings()
    assert CANARY not in str(error.value)
    return str(error.value).splitlines()


@pytest.mark.parametrize("name", sorted(set(SECRETS) - {"MONGODB_URL", "REDIS_URL", *PLAIN}))
def test_every_secret_can_stand_in_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str) -> None:
    monkeypatch.setenv(f"{name}_FILE", file(tmp_path, CANARY + "\n"))
    if name.startswith("AWS_"):
        monkeypatch.setenv("AWS_ACCESS_KEY_ID_FILE", file(tmp_path, CANARY + "\n"))
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY_FILE", file(tmp_path, CANARY + "\n"))
    if name == "SENDGRID_API_KEY":
        monkeypatch.setenv("SENDGRID_FROM_EMAIL", "engine@example.org")
    settings = load_settings()
    assert getattr(settings, name).get_secret_value() == CANARY
    assert CANARY not in repr(settings) + str(masked(settings)) + settings.model_dump_json()


def test_addresses_can_stand_in_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("MONGODB_URL", raising=False)
    monkeypatch.setenv("MONGODB_URL_FILE", file(tmp_path, f"mongodb://engine:{CANARY}@db.example.org/\n", "m"))
    monkeypatch.setenv("REDIS_URL_FILE", file(tmp_path, f"redis://:{CANARY}@redis.example.org\n", "r"))
    settings = load_settings()
    assert f"mongodb://engine:{CANARY}@db.example.org/" == settings.MONGODB_URL
    assert settings.redis_address is not None
    assert CANARY not in repr(settings) + str(masked(settings))


def test_a_value_and_a_file_at_once_are_refused_by_both_names(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("JWT_SECRET_KEY", CANARY)
    monkeypatch.setenv("JWT_SECRET_KEY_FILE", file(tmp_path, CANARY))
    assert refusal() == ["JWT_SECRET_KEY: JWT_SECRET_KEY_FILE is given too; give one of the two."]


def test_the_environment_wins_over_the_dotenv_file_as_a_whole(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(f"JWT_SECRET_KEY_FILE={tmp_path}/absent\nSMTP_PASSWORD_FILE={tmp_path}/password\n")
    file(tmp_path, CANARY, "password")
    settings = load_settings()
    assert settings.jwt_secret == PLAIN["JWT_SECRET_KEY"]
    assert settings.SMTP_PASSWORD is not None
    assert settings.SMTP_PASSWORD.get_secret_value() == CANARY


def test_an_empty_variable_counts_as_not_given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SMTP_PASSWORD_FILE", "")
    assert load_settings().SMTP_PASSWORD is None
    monkeypatch.setenv("SMTP_PASSWORD", "")
    monkeypatch.setenv("SMTP_PASSWORD_FILE", file(tmp_path, CANARY))
    assert load_settings().SMTP_PASSWORD is not None


def test_each_unreadable_file_has_a_line_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SMTP_PASSWORD_FILE", str(tmp_path / "absent"))
    monkeypatch.setenv("SENDGRID_API_KEY_FILE", file(tmp_path, "\n"))
    assert [line.partition(":")[0] for line in refusal()] == ["SENDGRID_API_KEY_FILE", "SMTP_PASSWORD_FILE"]


def test_what_a_file_holds_is_checked_like_any_value(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FIELD_ENCRYPTION_KEY_FILE", file(tmp_path, "short"))
    assert refusal() == ["FIELD_ENCRYPTION_KEY: needed, 32 bytes or more (e.g. `openssl rand -hex 32`)."]


@pytest.mark.parametrize(
    ("name", "value"),
    [("VAULT_TOKEN", "vault:secret/engine#token"), ("AWS_SECRET_ACCESS_KEY", "aws-secretsmanager:engine#key")],
)
def test_what_opens_a_store_cannot_stand_in_it(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    assert refusal() == [f"{name}: it opens the secret store, so it cannot stand there; give {name}_FILE."]


def test_former_master_keys_stand_one_a_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FIELD_ENCRYPTION_KEY", MASTER)
    monkeypatch.setenv("FIELD_ENCRYPTION_KEY_PREVIOUS_FILE", file(tmp_path, f"{CANARY}\n\n{CANARY}-older\n"))
    settings = load_settings()
    assert settings.former_field_keys == (CANARY, f"{CANARY}-older", PLAIN["JWT_SECRET_KEY"])
    file(tmp_path, f"{CANARY}\nshort\n")
    assert [line.partition(":")[0] for line in refusal()] == ["FIELD_ENCRYPTION_KEY_PREVIOUS, line 2"]


def test_a_keeper_of_the_master_key_names_what_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MASTER_KEY_PROVIDER", "aws_kms")
    assert refusal() == ["AWS_KMS_KEY_ID: needed with MASTER_KEY_PROVIDER=aws_kms."]
    monkeypatch.setenv("MASTER_KEY_PROVIDER", "vault")
    monkeypatch.setenv("VAULT_ADDR", "http://vault.example.org:8200")
    assert [line.partition(":")[0] for line in refusal()] == ["VAULT_TOKEN", "VAULT_TRANSIT_KEY", "VAULT_ADDR"]


def test_new_values_are_checked_before_they_are_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FIELD_ENCRYPTION_KEY_FILE", file(tmp_path, MASTER))
    settings = load_settings()
    assert settings.sources.names == {"FIELD_ENCRYPTION_KEY"}
    assert settings.renewed({"FIELD_ENCRYPTION_KEY": MASTER}) == (settings, set())
    renewed, changed = settings.renewed({"FIELD_ENCRYPTION_KEY": CANARY})
    assert (renewed.field_key, changed) == (CANARY, {"FIELD_ENCRYPTION_KEY"})
    with pytest.raises(ConfigurationError, match=r"^FIELD_ENCRYPTION_KEY: needed"):
        settings.renewed({"FIELD_ENCRYPTION_KEY": "short"})
