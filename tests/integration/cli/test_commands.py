"""The small commands: token, send, check-config, init-db, reference."""

import json
import re
import uuid
from collections.abc import Callable
from pathlib import Path

from tests.integration.cli.conftest import SECRET, Ended, Run
from tests.integration.conftest import Running, token

from notification_engine.domain.caller import Role
from notification_engine.security.tokens import Tokens
from notification_engine.storage.migrations import MIGRATIONS

ROOT = Path(__file__).parents[3]


def test_a_token_is_signed_with_the_given_secret(invoke: Callable[..., Ended]) -> None:
    arguments = ("token", "--sub", "u1", "--role", "service", "--role", "operator", "--minutes", "2")
    ended = invoke(*arguments, JWT_SECRET_KEY=SECRET)
    assert (ended.code, ended.err) == (0, "")
    caller = Tokens(SECRET, "HS256").verify(ended.out.strip())
    assert caller.sub == "u1"
    assert caller.roles == {Role.SERVICE, Role.OPERATOR}


def test_without_a_secret_one_is_made_once_and_kept_private(invoke: Callable[..., Ended], tmp_path: Path) -> None:
    first = invoke("token")
    secret = tmp_path / "var" / "dev-secret"
    assert secret.stat().st_mode & 0o777 == 0o600
    second = invoke("token")
    for ended in (first, second):
        assert Tokens(secret.read_text(), "HS256").verify(ended.out.strip()).roles == {Role.USER}


def test_a_token_without_a_life_is_refused(invoke: Callable[..., Ended]) -> None:
    ended = invoke("token", "--minutes", "0.01", ENVIRONMENT="development", JWT_SECRET_KEY=SECRET)
    assert (ended.code, ended.out) == (2, "")
    assert "--minutes" in ended.err


def test_in_production_no_secret_is_made_up(invoke: Callable[..., Ended], tmp_path: Path) -> None:
    ended = invoke("token", ENVIRONMENT="production")
    assert (ended.code, ended.out) == (2, "")
    assert "JWT_SECRET_KEY" in ended.err
    assert not (tmp_path / "var").exists()


async def test_send_prints_the_answer_and_it_is_in_the_inbox(command: Run, shared: Running) -> None:
    user = f"cli_{uuid.uuid4().hex[:8]}"
    arguments = ("send", "--user", user, "--title", "From the shell", "--body", "Hello.", "--priority", "high")
    ended = await (await command(*arguments, "--url", shared.address, JWT_SECRET_KEY=SECRET)).ended()
    assert (ended.code, ended.err) == (0, "")
    notification_id = json.loads(ended.out)["notifications"][0]["notification_id"]
    _, shown = await shared.call("GET", f"/{notification_id}", as_=token(user, Role.USER))
    assert (shown["title"], shown["body"], shown["priority"]) == ("From the shell", "Hello.", "high")


async def test_send_prints_a_refusal_and_exits_with_1(command: Run, shared: Running) -> None:
    arguments = ("send", "--user", "u", "--title", "x", "--channel", "pigeon", "--url", shared.address)
    ended = await (await command(*arguments, JWT_SECRET_KEY=SECRET)).ended()
    assert ended.code == 1
    assert json.loads(ended.out)["errors"][0]["field"] == "channels.0"
    other = "another secret of 32 bytes or more, indeed"
    ended = await (await command(*arguments[:5], "--url", shared.address, JWT_SECRET_KEY=other)).ended()
    assert (ended.code, json.loads(ended.out)["status"]) == (1, 401)


def test_send_without_an_engine_says_where_it_asked(invoke: Callable[..., Ended]) -> None:
    arguments = ("send", "--user", "u", "--title", "x", "--url")
    for url in ("http://127.0.0.1:1", "nonsense"):
        ended = invoke(*arguments, url)
        assert ended.code == 2
        assert f"--url {url}" in ended.err
        assert "Traceback" not in ended.err


def test_check_config_prints_every_setting_and_no_secret(invoke: Callable[..., Ended]) -> None:
    secrets = {
        "JWT_SECRET_KEY": "jwt-key-that-nobody-may-read-0123456789",
        "FIELD_ENCRYPTION_KEY": "field-key-that-nobody-may-read-0123456789",
        "SMTP_PASSWORD": "mail-password",
        "SENDGRID_API_KEY": "sendgrid-key",
        "AWS_SECRET_ACCESS_KEY": "aws-key",
    }
    url = "mongodb://engine:db-password@db.example.org/?replicaSet=rs0"
    given = secrets | {"SENDGRID_FROM_EMAIL": "engine@example.org", "AWS_ACCESS_KEY_ID": "aws-id"}
    ended = invoke("check-config", MONGODB_URL=url, **given)
    assert (ended.code, ended.err) == (0, "")
    values = dict(line.split("=", 1) for line in ended.out.splitlines())
    assert values["ENVIRONMENT"] == "production"
    assert values["MONGODB_URL"] == "mongodb://********@db.example.org/?replicaSet=rs0"
    assert values["SMTP_PORT"] == "587"
    for name, secret in secrets.items():
        assert values[name] == "********"
        assert secret not in ended.out
    assert values["AWS_ACCESS_KEY_ID"] == "********"
    assert values["SES_FROM_EMAIL"] == ""
    documented = re.findall(r"^\| `([A-Z_]+)` \|", (ROOT / "docs/configuration.md").read_text(), re.MULTILINE)
    assert list(values) == documented


def test_check_config_reads_the_env_file_and_the_environment_wins(invoke: Callable[..., Ended], tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(f"JWT_SECRET_KEY={SECRET}\nMONGODB_URL=mongodb://file/\nSMTP_PORT=26\n")
    ended = invoke("check-config", SMTP_PORT="27")
    assert ended.code == 0
    assert "MONGODB_URL=mongodb://file/" in ended.out
    assert "SMTP_PORT=27" in ended.out


def test_a_dry_run_names_what_would_run_and_changes_nothing(invoke: Callable[..., Ended], mongod: str) -> None:
    name = f"dry_{uuid.uuid4().hex[:12]}"
    given = {"MONGODB_URL": mongod, "MONGODB_DATABASE": name, "JWT_SECRET_KEY": SECRET}
    dry = invoke("init-db", "--dry-run", **given)
    assert (dry.code, dry.out.split()) == (0, [migration for migration, _ in MIGRATIONS])
    assert invoke("init-db", **given).out == dry.out
    assert invoke("init-db", "--dry-run", **given).out == "Nothing to do: every migration has run.\n"
    assert invoke("init-db", "--again", "--dry-run", **given).out == dry.out


def test_init_db_without_a_database_says_so(invoke: Callable[..., Ended]) -> None:
    ended = invoke("init-db", MONGODB_URL="mongodb://127.0.0.1:1/?replicaSet=rs0", JWT_SECRET_KEY=SECRET)
    assert (ended.code, ended.err.startswith("The database did not answer")) == (1, True)


async def test_init_db_runs_once_and_is_harmless_again(command: Run, mongod: str, tmp_path: Path) -> None:
    given = {"MONGODB_URL": mongod, "MONGODB_DATABASE": f"init_{uuid.uuid4().hex[:12]}", "JWT_SECRET_KEY": SECRET}
    first = await (await command("init-db", **given)).ended()
    again = await (await command("init-db", **given)).ended()
    assert (first.code, again.code) == (0, 0)
    assert "0001_guide_indexes" in first.out
    assert "0001_guide_indexes" not in again.out
    assert again.out.strip()
    assert not (tmp_path / "var").exists()


def test_the_configuration_page_is_the_settings(invoke: Callable[..., Ended]) -> None:
    assert invoke("reference").out == (ROOT / "docs/configuration.md").read_text(), "run make docs"


def test_the_command_line_page_is_the_commands(invoke: Callable[..., Ended]) -> None:
    page = (ROOT / "docs/cli.md").read_text()
    assert invoke("reference", "--cli").out == page, "run make docs"
    for word in ("## serve", "## keys rotate", "`--keep-days`", "## audit verify"):
        assert word in page
