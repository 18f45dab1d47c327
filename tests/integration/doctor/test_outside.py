"""What the doctor says of providers, Redis, the guard, the log file and the disk, and of a wrong setting."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from aiosmtpd.smtp import SMTP, AuthResult
from tests.canaries import canary
from tests.integration.doctor.conftest import Ask
from tests.servers import ses as emulator
from tests.servers.http import HttpServer
from tests.servers.jwks import LoginServer, Signer
from tests.servers.redis import RedisServer, valkey
from tests.servers.sendgrid import KEY, SendGrid
from tests.servers.ses import Ses
from typer.testing import CliRunner

from notification_engine.cli.doctor.host import judge_room
from notification_engine.cli.main import app

FROM = "engine@sender.test"
SECRET_TOO_SHORT = str(12345)


@pytest.fixture
async def sendgrid() -> AsyncIterator[SendGrid]:
    server = SendGrid()
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def ses() -> AsyncIterator[Ses]:
    server = Ses()
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def relay() -> AsyncIterator[int]:
    """An SMTP server that takes one password; its port."""
    loop = asyncio.get_running_loop()

    def check(server: object, session: object, envelope: object, mechanism: str, data: object) -> AuthResult:
        given = getattr(data, "password", b"")
        return AuthResult(success=given == canary("relay-password").encode(), handled=False)

    handler = type("Handler", (), {})()
    server = await loop.create_server(
        lambda: SMTP(handler, authenticator=check, auth_require_tls=False, loop=loop), "127.0.0.1", 0
    )
    yield server.sockets[0].getsockname()[1]
    server.close()


def by_sendgrid(address: str, key: str) -> dict[str, str]:
    return {"SENDGRID_API_KEY": key, "SENDGRID_FROM_EMAIL": FROM, "SENDGRID_BASE_URL": address}


async def test_a_sendgrid_key_is_tried_without_sending(ask: Ask, sendgrid: SendGrid) -> None:
    code, found = await ask(**by_sendgrid(sendgrid.address, KEY))
    assert (code, found["e-mail sendgrid"]["level"]) == (0, "ok")
    assert (sendgrid.calls, sendgrid.asked_scopes) == ([], 1)


async def test_a_sendgrid_key_that_is_refused_fails(ask: Ask, sendgrid: SendGrid) -> None:
    code, found = await ask(**by_sendgrid(sendgrid.address, "SG." + canary("revoked-key")))
    assert (code, found["e-mail sendgrid"]["level"]) == (1, "fail")
    assert "HTTP 401" in found["e-mail sendgrid"]["seen"]
    assert "SENDGRID_API_KEY" in found["e-mail sendgrid"]["todo"]


async def test_a_sendgrid_key_without_the_right_to_send_fails(ask: Ask, sendgrid: SendGrid) -> None:
    sendgrid.scopes = ["stats.read"]
    code, found = await ask(**by_sendgrid(sendgrid.address, KEY))
    assert (code, "mail.send" in found["e-mail sendgrid"]["seen"]) == (1, True)


async def test_a_provider_that_is_away_or_broken_fails(ask: Ask, sendgrid: SendGrid) -> None:
    code, found = await ask(**by_sendgrid("http://127.0.0.1:1", KEY))
    assert (code, found["e-mail sendgrid"]["level"]) == (1, "fail")
    assert "cannot be reached" in found["e-mail sendgrid"]["seen"]
    sendgrid.scopes_status = 500
    _, found = await ask(**by_sendgrid(sendgrid.address, KEY))
    assert (found["e-mail sendgrid"]["level"], "HTTP 500" in found["e-mail sendgrid"]["seen"]) == ("fail", True)


def by_ses(address: str) -> dict[str, str]:
    keys = {"AWS_ACCESS_KEY_ID": emulator.KEY, "AWS_SECRET_ACCESS_KEY": emulator.SECRET}
    return {"SES_FROM_EMAIL": FROM, "SES_ENDPOINT_URL": address, **keys}


class Account(HttpServer):
    """SES's GetAccount (`GET /v2/email/account`) as its API reference shows it; the emulator has none."""

    def __init__(self, body: object, status: int = 200, headers: dict[str, str] | None = None) -> None:
        super().__init__()
        self._answer = body, status, headers

    def application(self) -> web.Application:
        application = web.Application()
        application.router.add_get("/v2/email/account", self._account)
        return application

    async def _account(self, request: web.Request) -> web.Response:
        body, status, headers = self._answer
        return web.json_response(body, status=status, headers=headers)


@pytest.mark.parametrize(
    ("account", "level", "seen"),
    [
        ({"SendingEnabled": True, "ProductionAccessEnabled": True}, "ok", "may send in us-east-1"),
        ({"SendingEnabled": True, "ProductionAccessEnabled": False}, "warn", "sandbox"),
        ({"SendingEnabled": False, "ProductionAccessEnabled": True}, "fail", "paused"),
    ],
)
async def test_the_account_of_ses_is_looked_at(ask: Ask, account: dict[str, bool], level: str, seen: str) -> None:
    async with Account(account) as ses:
        code, found = await ask(**by_ses(ses.address))
    assert (code, found["e-mail ses"]["level"]) == (int(level == "fail"), level)
    assert seen in found["e-mail ses"]["seen"]


async def test_aws_keys_that_are_refused_fail(ask: Ask) -> None:
    kind = {"x-amzn-ErrorType": "UnrecognizedClientException"}
    async with Account({"message": "The security token is invalid."}, 403, kind) as ses:
        code, found = await ask(**by_ses(ses.address))
    assert (code, "UnrecognizedClientException" in found["e-mail ses"]["seen"]) == (1, True)
    assert "AWS_REGION" in found["e-mail ses"]["todo"]
    _, found = await ask(**by_ses("http://127.0.0.1:1"))
    assert "cannot be reached" in found["e-mail ses"]["seen"]


def by_smtp(port: int, password: str | None = None) -> dict[str, str]:
    user = {"SMTP_USERNAME": "engine", "SMTP_PASSWORD": password} if password else {}
    return {"SMTP_HOST": "127.0.0.1", "SMTP_PORT": str(port), "SMTP_FROM_EMAIL": FROM, "SMTP_STARTTLS": "false", **user}


async def test_a_mail_server_is_greeted_and_logged_in_to(ask: Ask, relay: int) -> None:
    code, found = await ask(**by_smtp(relay, canary("relay-password")))
    assert (code, found["e-mail smtp"]["seen"]) == (0, "logged in")
    _, found = await ask(**by_smtp(relay))
    assert found["e-mail smtp"]["seen"] == "greeted, no log-in is set"


async def test_a_mail_server_that_refuses_or_is_away_fails(ask: Ask, relay: int) -> None:
    code, found = await ask(**by_smtp(relay, canary("wrong-relay-password")))
    assert (code, found["e-mail smtp"]["level"]) == (1, "fail")
    assert "SMTP 535" in found["e-mail smtp"]["seen"]
    _, found = await ask(**by_smtp(relay) | {"SMTP_STARTTLS": "true"})
    assert (found["e-mail smtp"]["level"], "SMTP_STARTTLS" in found["e-mail smtp"]["todo"]) == ("fail", True)
    _, found = await ask(**by_smtp(1))
    assert "cannot be reached" in found["e-mail smtp"]["seen"]


async def test_the_platforms_keys_are_read(ask: Ask) -> None:
    server = LoginServer(Signer("ES256"))
    await server.start()
    by = {"ENVIRONMENT": "development", "JWT_ALGORITHM": "ES256", "JWT_JWKS_URL": server.url}
    _, found = await ask(**by)
    assert (found["signing keys"]["level"], found["signing keys"]["seen"]) == ("ok", "1 for ES256")
    code, found = await ask(**by | {"JWT_ALGORITHM": "RS256"})
    assert (code, found["signing keys"]["seen"]) == (1, "JWT_JWKS_URL: no key for RS256")
    server.status = 404
    code, found = await ask(**by)
    assert (code, found["signing keys"]["seen"]) == (1, "JWT_JWKS_URL: answered 404.")
    await server.stop()


async def test_development_is_taken_for_what_it_is(ask: Ask) -> None:
    code, found = await ask(ENVIRONMENT="development", WEBHOOK_ALLOWED_NETWORKS='["127.0.0.0/8"]')
    assert (code, found["webhook guard"]["level"]) == (0, "ok")
    assert found["e-mail console"]["level"] == "ok"
    code, found = await ask(ENVIRONMENT="development", WEBHOOK_ALLOWED_NETWORKS='["169.254.0.0/16"]')
    assert (code, found["webhook guard"]["level"]) == (1, "fail")


async def test_redis_is_asked(ask: Ask, tmp_path: Path) -> None:
    password = canary("redis-password")
    server = RedisServer(valkey(), tmp_path, "--requirepass", password)
    await server.start()
    code, found = await ask(REDIS_URL=f"redis://:{password}@127.0.0.1:{server.port}")
    assert (code, found["redis"]["seen"]) == (0, "answers (single)")
    code, found = await ask(REDIS_URL=f"redis://127.0.0.1:{server.port}")
    assert (code, found["redis"]["level"]) == (1, "fail")
    assert "password" in found["redis"]["seen"]
    await server.kill()
    code, found = await ask(REDIS_URL=f"redis://:{password}@127.0.0.1:{server.port}")
    assert (code, "cannot be reached" in found["redis"]["seen"]) == (1, True)


async def test_a_guard_that_is_open_is_told(ask: Ask) -> None:
    _, found = await ask(WEBHOOK_ALLOWED_NETWORKS='["10.0.0.0/8", "127.0.0.0/8"]')
    assert (found["webhook guard"]["level"], "loopback, 10.0.0.0/8" in found["webhook guard"]["seen"]) == ("warn", True)
    code, found = await ask(WEBHOOK_ALLOWED_NETWORKS='["0.0.0.0/0"]')
    assert (code, found["webhook guard"]["level"]) == (1, "fail")
    assert "metadata" in found["webhook guard"]["seen"]
    _, found = await ask(WEBHOOK_HTTPS_ONLY="false")
    assert found["webhook guard"]["seen"] == "webhooks may go over http"
    _, found = await ask(WEBHOOK_ALLOWED_PORTS="[]")
    assert found["webhook guard"]["seen"] == "webhooks may call every port"


async def test_a_wrong_setting_fails_by_its_name_and_nothing_else_is_tried(ask: Ask, tmp_path: Path) -> None:
    code, found = await ask(JWT_SECRET_KEY=SECRET_TOO_SHORT, MONGODB_URL=None)
    assert (code, list(found)) == (1, ["configuration"])
    assert "check-config" in found["configuration"]["todo"]
    code, found = await ask(LOG_FILE=str(tmp_path / "absent" / "notifications.log"))
    assert (code, found["configuration"]["seen"].startswith("LOG_FILE: ")) == (1, True)


async def test_the_log_file_is_tried(ask: Ask, tmp_path: Path) -> None:
    log = tmp_path / "notifications.log"
    _, found = await ask(LOG_FILE=str(log))
    assert (found["log file"]["level"], log.exists()) == ("ok", True)
    loop = tmp_path / "loop"
    os.symlink(loop, loop)
    code, found = await ask(LOG_FILE=str(loop))
    assert (code, found["log file"]["level"], "owner" in found["log file"]["todo"]) == (1, "fail", True)


async def test_a_derived_master_key_is_warned_of(ask: Ask) -> None:
    code, found = await ask(FIELD_ENCRYPTION_KEY=None)
    assert (code, found["master key"]["level"]) == (0, "warn")


async def test_the_table_says_what_to_do(ask: Ask, given: dict[str, str]) -> None:
    ended = await asyncio.to_thread(CliRunner().invoke, app, ["doctor"], env=given | {"WEBHOOK_HTTPS_ONLY": "false"})
    assert ended.exit_code == 0
    lines = ended.stdout.splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("warn  webhook guard"))
    assert lines[at + 1].strip() == "-> Set WEBHOOK_HTTPS_ONLY=true."
    assert lines[-1].startswith("ok ")
    assert not any(secret in ended.stdout for name, secret in given.items() if "KEY" in name)


@pytest.mark.parametrize(
    ("free", "total", "level"),
    [(50 * 1024**2, 10 * 1024**3, "fail"), (500 * 1024**2, 50 * 1024**3, "warn"), (500 * 1024**2, 1024**3, "ok")],
)
def test_little_room_is_told(free: int, total: int, level: str) -> None:
    assert judge_room("/somewhere", free, total).level == level
