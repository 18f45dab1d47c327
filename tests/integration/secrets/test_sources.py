"""Secrets that stand in files, in AWS Secrets Manager and in Vault: read at the start, and again while it runs."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from tests.integration.conftest import FAST, Running, Start, message
from tests.integration.secrets.conftest import client
from tests.integration.secrets.test_at_rest import TITLE, declared, sensitive
from tests.integration.secrets.test_rotation import READER
from tests.servers.ses import KEY, REGION, SECRET
from tests.servers.vault import Vault

from notification_engine.domain.caller import Role
from notification_engine.domain.errors import ConfigurationError
from notification_engine.security.tokens import Tokens
from notification_engine.settings import Settings, load_settings

OLD, NEW = "an old secret of the tests, 32 bytes or more", "a new secret of the tests, 32 bytes or more"
Load = Callable[..., Settings]
Begin = Callable[[Settings], Awaitable[Running]]


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Load:
    monkeypatch.chdir(tmp_path)
    for name in Settings.model_fields:
        monkeypatch.delenv(name, raising=False)

    def loaded(**variables: str) -> Settings:
        plain = {"ENVIRONMENT": "development", "JWT_SECRET_KEY": OLD} | variables
        for name, value in plain.items():
            if name == "JWT_SECRET_KEY" and "JWT_SECRET_KEY_FILE" in variables:
                continue
            monkeypatch.setenv(name, value)
        return load_settings()

    return loaded


@pytest.fixture
def begin(start: Start) -> Begin:
    """An engine with these settings, where the tests' own do not matter more."""

    async def begun(settings: Settings) -> Running:
        own = {name: getattr(settings, name) for name in settings.model_fields_set - FAST.keys()}
        running = await start(**own, JWT_SECRET_KEY=settings.JWT_SECRET_KEY)
        running.engine.settings._sources = settings.sources
        return running

    return begun


def of_vault(vault: Vault) -> dict[str, str]:
    return {"VAULT_ADDR": vault.address, "VAULT_TOKEN": vault.token}


async def test_each_value_comes_from_where_its_reference_points(load: Load, aws: str, vault: Vault) -> None:
    async with client(aws, "secretsmanager") as manager:
        await manager.create_secret(Name="engine/mail", SecretString=json.dumps({"key": "SG.1", "password": "p"}))
        await manager.create_secret(Name="engine/jwt", SecretString=NEW)
    vault.put("kv", "prod/engine", master=OLD, url="mongodb://u:p@db/")
    asked = len(vault.requests)
    settings = await asyncio.to_thread(
        load,
        JWT_SECRET_KEY="aws-secretsmanager:engine/jwt",
        SENDGRID_API_KEY="aws-secretsmanager:engine/mail#key",
        SENDGRID_FROM_EMAIL="engine@example.org",
        SMTP_PASSWORD="aws-secretsmanager:engine/mail#password",
        FIELD_ENCRYPTION_KEY="vault:kv/prod/engine#master",
        MONGODB_URL="vault:kv/prod/engine#url",
        AWS_SECRETS_ENDPOINT_URL=aws,
        AWS_REGION=REGION,
        AWS_ACCESS_KEY_ID=KEY,
        AWS_SECRET_ACCESS_KEY=SECRET,
        **of_vault(vault),
    )
    assert (settings.jwt_secret, settings.field_key, settings.MONGODB_URL) == (NEW, OLD, "mongodb://u:p@db/")
    revealed = [s.get_secret_value() if s else None for s in (settings.SENDGRID_API_KEY, settings.SMTP_PASSWORD)]
    assert revealed == ["SG.1", "p"]
    assert vault.requests[asked:] == ["GET kv/data/prod/engine"], "one request for two values"


async def test_each_reference_that_fails_has_a_line_and_shows_no_secret(load: Load, aws: str, vault: Vault) -> None:
    async with client(aws, "secretsmanager") as manager:
        await manager.create_secret(Name="engine/plain", SecretString="canary-no-json")
        await manager.create_secret(Name="engine/other", SecretString='{"other": "canary"}')
    vault.put("kv", "gone", key="canary")
    vault.delete("kv", "gone")
    vault.put("kv", "there", key={"nested": "canary"})
    with pytest.raises(ConfigurationError) as error:
        await asyncio.to_thread(
            load,
            JWT_SECRET_KEY="vault:kv/gone#key",
            FIELD_ENCRYPTION_KEY="vault:kv/there#key",
            FIELD_ENCRYPTION_KEY_PREVIOUS="vault:kv/absent#key",
            SENDGRID_API_KEY="aws-secretsmanager:engine/plain#key",
            SMTP_PASSWORD="aws-secretsmanager:engine/other#key",
            REDIS_URL="aws-secretsmanager:engine/absent",
            AWS_SECRETS_ENDPOINT_URL=aws,
            AWS_ACCESS_KEY_ID=KEY,
            AWS_SECRET_ACCESS_KEY=SECRET,
            **of_vault(vault),
        )
    lines = str(error.value).splitlines()
    assert [line.partition(":")[0] for line in lines] == [
        "FIELD_ENCRYPTION_KEY",
        "FIELD_ENCRYPTION_KEY_PREVIOUS",
        "JWT_SECRET_KEY",
        "REDIS_URL",
        "SENDGRID_API_KEY",
        "SMTP_PASSWORD",
    ]
    assert "canary" not in str(error.value)
    assert not any("does not answer" in line for line in lines)


async def test_no_token_goes_to_a_vault_without_tls_in_production(load: Load, vault: Vault) -> None:
    with pytest.raises(ConfigurationError, match=r"^VAULT_ADDR: must begin with https://"):
        await asyncio.to_thread(
            load, ENVIRONMENT="production", FIELD_ENCRYPTION_KEY="vault:kv/engine#key", **of_vault(vault)
        )
    assert vault.requests == []


async def test_a_token_of_before_is_good_for_the_overlap(begin: Begin, load: Load, tmp_path: Path) -> None:
    file = tmp_path / "jwt"
    file.write_text(OLD)
    running = await begin(load(JWT_SECRET_KEY_FILE=str(file)))
    old = Tokens(OLD, "HS256").issue("u1", [Role.USER], 10)
    file.write_text(NEW)
    await running.engine._refresh().run_once()
    new = Tokens(NEW, "HS256").issue("u1", [Role.USER], 10)
    assert [(await running.call("GET", "/unread-count", as_=t))[0] for t in (old, new)] == [200, 200]
    wrong = Tokens("a third secret of the tests, 32 bytes or more", "HS256").issue("u1", [Role.USER], 10)
    assert (await running.call("GET", "/unread-count", as_=wrong))[0] == 401
    running.engine.tokens._former = [(0.0, key) for _, key in running.engine.tokens._former]
    assert [(await running.call("GET", "/unread-count", as_=t))[0] for t in (old, new)] == [401, 200]


async def test_a_new_master_key_wraps_at_once_so_that_the_next_start_needs_only_it(
    begin: Begin, load: Load, tmp_path: Path, start: Start
) -> None:
    file = tmp_path / "master"
    file.write_text(OLD)
    running = await begin(load(FIELD_ENCRYPTION_KEY_FILE=str(file)))
    dev = Tokens(OLD, "HS256").issue("dev", [Role.USER, Role.SERVICE, Role.OPERATOR], 10)
    status, _ = await running.call("PUT", "/types/account.secret_note", {"sensitive": True}, as_=dev)
    assert status == 200
    status, answer = await running.call("POST", "", sensitive(channels=["in_app"]), as_=dev)
    assert status == 202
    file.write_text(NEW)
    await running.engine._refresh().run_once()
    assert all(state.current for state in await running.engine.data_keys.status())
    alone = await start(FIELD_ENCRYPTION_KEY=NEW)
    notification_id = answer["notifications"][0]["notification_id"]
    assert (await alone.engine.notifications.get(READER, notification_id)).title == TITLE


async def test_what_cannot_take_a_new_value_says_restart_needed(begin: Begin, load: Load, tmp_path: Path) -> None:
    file = tmp_path / "redis"
    file.write_text("redis://one.example.org")
    settings = load(REDIS_URL_FILE=str(file))
    running = await begin(settings.model_copy(update={"REDIS_URL": None}))
    running.engine.settings._sources = settings.sources
    file.write_text("redis://two.example.org")
    with capture_logs() as logs:
        await running.engine._refresh().run_once()
    told = [(line["event"], line["variable"]) for line in logs if "variable" in line]
    assert told == [("A secret has changed: restart needed", "REDIS_URL")]
    assert "example.org" not in str(logs)


async def test_a_bad_or_absent_new_value_changes_nothing(begin: Begin, load: Load, tmp_path: Path) -> None:
    file = tmp_path / "jwt"
    file.write_text(OLD)
    running = await begin(load(JWT_SECRET_KEY_FILE=str(file)))
    refresh, old = running.engine._refresh(), Tokens(OLD, "HS256").issue("u1", [Role.USER], 10)
    for bad in ("canary-short", ""):
        file.write_text(bad)
        with capture_logs() as logs:
            await refresh.run_once()
        assert any("JWT_SECRET_KEY" in str(line.get("reason")) for line in logs)
        assert "canary" not in str(logs)
    file.unlink()
    await refresh.run_once()
    assert (await running.call("GET", "/unread-count", as_=old))[0] == 200


async def test_a_new_password_of_the_mail_server_is_used(start: Start, tmp_path: Path, load: Load) -> None:
    file = tmp_path / "password"
    file.write_text("one")
    running = await start()
    running.engine.settings._sources = load(SMTP_PASSWORD_FILE=str(file)).sources
    file.write_text("two\n")
    await running.engine._refresh().run_once()
    (relay,) = running.engine.email.relays
    assert relay.provider._config.password == "two"  # type: ignore[attr-defined]
    await running.settled(await running.accept(message(channels=["email"])))


async def test_the_loop_runs_only_where_something_can_change(start: Start, load: Load, tmp_path: Path) -> None:
    running = await start()
    assert not any(loop.name == "secret-refresh" for loop in running.engine._loops)
    await declared(running)
