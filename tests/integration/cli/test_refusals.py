"""What a person has to change before a start: exit code 2, the variable's name on standard error, no traceback."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from tests.integration.cli.conftest import SECRET, Ended, Run
from tests.integration.conftest import FAST

from notification_engine.domain.errors import ConfigurationError
from notification_engine.realtime import redis_bus
from notification_engine.settings import Settings
from notification_engine.storage.connection import Database
from notification_engine.storage.embedded import find_binary
from notification_engine.wiring import Engine, life

NOWHERE = "mongodb://127.0.0.1:1/?replicaSet=rs0"
GOOD = {"MONGODB_URL": NOWHERE, "JWT_SECRET_KEY": SECRET}


def assert_refused(ended: Ended, *names: str) -> None:
    assert ended.code == 2, ended
    assert "Traceback" not in ended.out + ended.err
    for name in names:
        assert name in ended.err, ended.err
    assert SECRET not in ended.err


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"MONGODB_URL": ""}, "MONGODB_URL"),
        ({"MONGODB_URL": "nonsense"}, "MONGODB_URL"),
        ({"JWT_SECRET_KEY": ""}, "JWT_SECRET_KEY"),
        ({"JWT_SECRET_KEY": "short"}, "JWT_SECRET_KEY"),
        ({"JWT_SECRET_KEY": "a" * 64}, "JWT_SECRET_KEY"),
        ({"JWT_SECRET_KEY": "your-secret-key-here"}, "sample"),
        ({"JWT_SECRET_KEY": "your-production-secret-key-256-bits"}, "sample"),
        ({"JWT_ALGORITHM": "none"}, "JWT_ALGORITHM"),
        ({"DEBUG": "true"}, "DEBUG"),
        ({"DEBUG": "perhaps"}, "DEBUG"),
        ({"ENVIRONMENT": "staging"}, "ENVIRONMENT"),
        ({"EMAIL_PROVIDER": "pigeon"}, "EMAIL_PROVIDER"),
        ({"EMAIL_PROVIDER": "sendgrid"}, "SENDGRID_API_KEY"),
        ({"EMAIL_PROVIDER": "smtp"}, "SMTP_HOST"),
        ({"SMTP_HOST": "mail.example.org"}, "SMTP_FROM_EMAIL"),
        ({"SMTP_PORT": "70000"}, "SMTP_PORT"),
        ({"CORS_ORIGINS": "https://a.example,https://b.example"}, "CORS_ORIGINS"),
        ({"LOG_FILE": "no/such/directory/engine.log"}, "LOG_FILE"),
        ({"LOG_FILE": "."}, "LOG_FILE"),
        ({"LOG_FORMAT": "console", "STRUCTURED_LOGGING": "true"}, "LOG_FORMAT"),
        ({"NOTIFICATION_QUEUE_SIZE": "0"}, "NOTIFICATION_QUEUE_SIZE"),
        ({"REDIS_URL": "nonsense"}, "REDIS_URL"),
        ({"REDIS_URL": "redis+sentinel://a,b"}, "REDIS_URL"),
        ({"REDIS_URL": "redis://a?ssl_ca_certs=ca.pem"}, "REDIS_URL"),
        ({"REDIS_URL": "rediss://a?ssl_ca_certs=no/such/file.pem"}, "REDIS_URL"),
        ({"LIVE_POLL_SECONDS": "0"}, "LIVE_POLL_SECONDS"),
    ],
)
def test_a_wrong_setting_is_named(invoke: Callable[..., Ended], change: dict[str, str], name: str) -> None:
    for arguments in (("serve", "--port", "0"), ("check-config",)):
        assert_refused(invoke(*arguments, **(GOOD | change)), name)


async def test_every_fault_is_said_at_once(command: Run) -> None:
    ended = await (await command("serve", DEBUG="true", EMAIL_PROVIDER="ses")).ended()
    assert_refused(ended, "MONGODB_URL", "DEBUG", "SES_FROM_EMAIL", "JWT_SECRET_KEY")


async def test_a_disabled_daemon_is_no_daemon(command: Run) -> None:
    ended = await (await command("serve", "--role", "daemon", NOTIFICATION_DAEMON_ENABLED="false", **GOOD)).ended()
    assert_refused(ended, "NOTIFICATION_DAEMON_ENABLED", "--role daemon")


async def test_a_taken_port_is_named(command: Run) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert_refused(await (await command("serve", "--port", port, **GOOD)).ended(), f"--port {port}")
        assert_refused(await (await command("dev", "--port", port)).ended(), f"--port {port}")


async def test_a_host_that_is_not_ours_is_named(command: Run) -> None:
    for host in ("192.0.2.1", "no such host"):
        assert_refused(await (await command("serve", "--port", "0", "--host", host, **GOOD)).ended(), host)


@pytest.fixture
async def standalone(tmp_path: Path) -> AsyncIterator[str]:
    """A mongod that is no member of a replica set."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    data = tmp_path / "standalone"
    data.mkdir()
    process = await asyncio.create_subprocess_exec(
        *(str(find_binary(None)), "--dbpath", str(data), "--port", str(port), "--bind_ip", "127.0.0.1"),
        *("--nounixsocket", "--logpath", str(data / "log"), "--wiredTigerCacheSizeGB", "0.25"),
        stdout=asyncio.subprocess.DEVNULL,
    )
    yield f"mongodb://127.0.0.1:{port}/"
    process.terminate()
    await process.wait()


async def test_a_standalone_database_is_refused(command: Run, standalone: str) -> None:
    ended = await (await command("serve", "--port", "0", **(GOOD | {"MONGODB_URL": standalone}))).ended(60)
    assert_refused(ended, "MONGODB_URL", "standalone", "replica set")


async def test_a_redis_that_never_worked_is_named(
    mongod: str, monkeypatch: pytest.MonkeyPatch, database: Database
) -> None:
    monkeypatch.setattr(redis_bus, "START_SECONDS", 0.2)
    settings = Settings(**FAST, MONGODB_DATABASE=database.name, REDIS_URL="redis://u:geheim@127.0.0.1:1")
    engine = Engine(settings, mongod)
    with pytest.raises(ConfigurationError, match="REDIS_URL") as refused:
        await engine.start()
    assert "geheim" not in str(refused.value)
    await engine.stop()


async def test_no_database_is_said_with_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(life, "DATABASE_SECONDS", 0.3)
    engine = Engine(Settings(**FAST), NOWHERE)
    with pytest.raises(ConfigurationError, match="MONGODB_URL"):
        await engine.start()
    await engine.stop()
