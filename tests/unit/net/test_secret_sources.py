from pathlib import Path

import pytest

from notification_engine.domain.errors import ConfigurationError
from notification_engine.net.secret_sources import MAX_BYTES, Reference, SecretSources, parse_reference, read_file

SECRET = "canary-7d1f-of-the-tests"


def put(path: Path, content: bytes) -> Path:
    file = path / "secret"
    file.write_bytes(content)
    return file


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"a secret", "a secret"),
        (b"a secret\n", "a secret"),
        (b"a secret\r\n", "a secret"),
        (b"a secret\n\n", "a secret"),
        (b" kept \n", " kept "),
        (b"one\ntwo\n", "one\ntwo"),
    ],
)
def test_a_file_is_its_text_without_the_newlines_at_the_end(tmp_path: Path, content: bytes, expected: str) -> None:
    assert read_file("X_FILE", put(tmp_path, content)) == expected


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "empty"),
        (b"\n", "empty"),
        (b" \n", "empty"),
        (SECRET.encode() + b"\xff", "UTF-8"),
        (SECRET.encode() * MAX_BYTES, "larger than 64 KiB"),
    ],
)
def test_a_file_that_is_no_secret_is_refused_by_its_variable(tmp_path: Path, content: bytes, told: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^JWT_SECRET_KEY_FILE: .*{told}") as error:
        read_file("JWT_SECRET_KEY_FILE", put(tmp_path, content))
    assert SECRET not in str(error.value)


def test_a_file_that_is_not_there_or_no_file_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "absent", tmp_path):
        with pytest.raises(ConfigurationError, match=r"^X_FILE: the file cannot be read \("):
            read_file("X_FILE", path)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("vault:secret/engine#jwt", Reference("engine", "jwt", "secret")),
        ("vault:kv/prod/engine/mail#api-key", Reference("prod/engine/mail", "api-key", "kv")),
        ("aws-secretsmanager:prod/engine", Reference("prod/engine", None)),
        ("aws-secretsmanager:prod/engine#jwt", Reference("prod/engine", "jwt")),
        (
            "aws-secretsmanager:arn:aws:secretsmanager:eu-west-1:123456789012:secret:prod/engine-AbCdEf#jwt",
            Reference("arn:aws:secretsmanager:eu-west-1:123456789012:secret:prod/engine-AbCdEf", "jwt"),
        ),
    ],
)
def test_a_reference_names_a_place(value: str, expected: Reference) -> None:
    assert parse_reference("X", value) == expected


@pytest.mark.parametrize(
    "value",
    [
        "vault:",
        "vault:secret",
        "vault:secret/engine",
        "vault:secret/engine#",
        "vault:#jwt",
        "vault:secret/../sys/seal#x",
        "vault:../engine#x",
        "vault:secret//engine#x",
        "vault:secret/engine?version=1#x",
        f"vault:{SECRET}",
        "aws-secretsmanager:",
        "aws-secretsmanager:a b",
        f"aws-secretsmanager:{SECRET} #",
    ],
)
def test_what_names_no_place_is_refused_without_being_shown(value: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^X: a reference to") as error:
        parse_reference("X", value)
    assert SECRET not in str(error.value)


async def test_references_to_a_vault_that_is_not_configured_name_what_is_missing() -> None:
    values, problems = await SecretSources({}, {"JWT_SECRET_KEY": Reference("engine", "jwt", "secret")}).read()
    assert values == {}
    assert problems == {
        "JWT_SECRET_KEY": "JWT_SECRET_KEY: VAULT_ADDR: needed, with VAULT_TOKEN, for references to Vault."
    }
