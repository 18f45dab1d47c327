"""The runbooks are true: every command runs as printed against a real engine, or says why it is not run."""

import asyncio
import os
import re
import stat
import sys
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from aiohttp import ClientSession
from tests.canaries import canary, here, watch
from tests.deploy.runbook import Block, blocks, pages, text
from tests.integration.conftest import API, drop, message
from tests.integration.replicas.fleet import SETTINGS, SOURCE, Fleet, Replica, accept, bearer, endpoint, until
from tests.servers.debian import program
from tests.servers.receiver import Answer, Receiver
from tests.servers.smtp import CUT, Mailbox

PRINTED = "http://localhost:8000"
LOGS, BACKUPS, DRILL = "/var/log/intellibrowse", "/backups", "=drill"
ALERTS = [
    *("delivery-success-low", "delivery-slow", "queue-backlog", "error-rate-high"),
    *("engine-down", "conservation-breach", "dead-letters-growing", "unknown-held"),
    *("breaker-open", "no-primary", "clock-skew", "websocket-connections-high"),
    *("redis-degraded", "disk-filling"),
]
ISSUES = ["high-memory-usage", "database-connection-issues", "email-delivery-failures", "log-analysis"]
PLANS = ["incident-response", "escalation", "disaster-recovery", "quarterly-and-annual", "slos"]
SECTIONS = ["What it means", "What users notice", "Look", "Do", "Verify", "Afterwards"]
NOT_RUN = {
    "needs a container engine": 5,
    "needs a cluster": 3,
    "needs another host": 1,
    "needs the vendor's account": 1,
    "needs mongosh and a replica set of several members": 2,
    "ends with Ctrl-C": 1,
    "stops the engine": 1,
}
TOOLS = {"curl": "curl", "jq": "jq", "ps": "procps", "ss": "iproute2"}
# One member, as here, is a warning with what to do below it.
DOCTOR = [r"^ok    database +answers", r"^warn  replica set +\w+: 1 member", r"^ok \d+, warn \d+, fail 0$"]
EXPECTED: dict[str, list[str]] = {
    "delivery-success-low": [r"^\d+ webhook server_error$", r"success rate 0\.\d+"],
    "delivery-slow": [r"\d+\s+webhook\s+ntfy_", "Accepted by the provider", r"^true$"],
    "queue-backlog": ["sweeper errors=0 late=false", "NOTIFICATION_DAEMON_ENABLED=True", r"^true$"],
    "error-rate-high": [r"error rate 0\.\d+ of \d+", "Notification accepted by the provider", r"^0$"],
    "engine-down": ["alive: 200", "ready: 200", "settings: good", *DOCTOR, "ready: true"],
    "conservation-breach": ['"missing": 0', "Accepted and stored", "breach_.*backup", r"^true$"],
    "dead-letters-growing": [r"^\d+ webhook whk_\w+ server_error$", '"delivered":true', '"changed":[1-9]'],
    "unknown-held": [r"^dlv_\w+ run\.mailed connection_lost", '"status": "unknown"', '"changed":1', r"^true$"],
    "breaker-open": ['"state": "closed"', r"^true$"],
    "no-primary": ['"status": "up"', "MONGODB_URL=", DOCTOR[1], "-> For production", r"^true$", "delivered"],
    "clock-skew": ['"skew_seconds"', r"^ok    clock +\d\.\d+ s ", r"^true$"],
    "websocket-connections-high": ['"max": 1000', "Max open files", r"^true$"],
    "redis-degraded": ['"status": "up"', r"^ok    redis +not set", "no loss in this log", r"^true$"],
    "disk-filling": [
        "Use%",
        r"^(ok|warn) +disk +",
        r"^ok    log file +",
        "NOTIFICATION_RETENTION_DAYS=365",
        r"notifications_\d+_\d+\.backup",
        "healthy",
    ],
    "high-memory-usage": ["NOTIFICATION_QUEUE_SIZE=1000", r"^\d+ MiB$"],
    "database-connection-issues": [
        *DOCTOR,
        r"^ok    indexes +all are there",
        "every migration has run",
        '"pool"',
        r"^true$",
    ],
    "email-delivery-failures": [
        r"^ok    e-mail smtp +",
        "attempt_accepted",
        "connection_lost",
        "sup_",
        r"^204$",
        r"^true$",
    ],
    "log-analysis": [r"Average delivery time: [\d.]+ ms", r"^ *\d+ webhook$", r"^\d+$"],
    "incident-response": ['"ready":true', r"incident_\w+\.backup", "webhook.create|database.restore", r"^true$"],
    "escalation": [r"^\d{2,}$"],
    "disaster-recovery": ["checksum: good", r"^true$", "delivered"],
    "quarterly-and-annual": ["ENVIRONMENT=development", "whk_\\w+ enabled: true"],
    "slos": [r"success 0\.\d+", r"uptime share (1|0\.\d+)", r"budget used: \d+ %"],
}
pytestmark = pytest.mark.timeout(180)


@dataclass
class World:
    """One engine under the runbooks' eyes, and what there is to be seen: deliveries, a dead letter, a held e-mail."""

    replica: Replica
    session: ClientSession
    receiver: Receiver
    mailbox: Mailbox
    directory: Path
    environment: dict[str, str]

    async def seed(self) -> None:
        webhook = {"notification_type": "run.finished", "channels": ["in_app", "webhook"]}
        email = {"notification_type": "run.mailed", "channels": ["email"]}
        self.receiver.answers.append(Answer(status=500))
        await self._ended(message("u1", **webhook), "failed")
        await self._ended(message("u1", **webhook), "delivered")
        self.mailbox.replies.append(CUT)
        await self._ended(message("u1", **email), "unknown")
        for _ in range(2):  # with one, half of the e-mails fail: a fast run of all pages opens the breaker
            await self._ended(message("u1", **email), "accepted")

    async def _ended(self, body: dict[str, object], status: str) -> None:
        [notification_id] = await accept(self.session, self.replica, body)

        async def over() -> bool:
            where = f"{self.replica.address}{API}/{notification_id}"
            async with self.session.get(where, headers=bearer()) as answer:
                shown = await answer.json()
            return [d["status"] for d in shown["deliveries"]][-1:] == [status]

        await until(over, 30, f"{status} as seeded")

    def here(self, script: str) -> str:
        places = {
            PRINTED: self.replica.address,
            LOGS: str(self.directory / "log"),
            BACKUPS: str(self.directory / "backups"),
            DRILL: f"={self.environment['MONGODB_DATABASE']}_drill",
        }
        for printed, real in places.items():
            script = script.replace(printed, real)
        return script

    async def shell(self, script: str) -> str:
        """As one shell, which stops at the first command that fails. Commands hear of failures inside pipes too."""
        process = await asyncio.create_subprocess_exec(
            *("bash", "-euo", "pipefail", "-c", self.here(script)),
            cwd=self.directory,
            env=self.environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = (part.decode() for part in await process.communicate())
        watch.look("errors of a runbook", here(), err)
        assert process.returncode == 0, f"exit code {process.returncode}\n{out[-3000:]}\n{err[-3000:]}"
        for bad in ("jq: error", "curl: ("):
            assert bad not in err, err
        return out


def command(directory: Path) -> Path:
    """A folder with `notification-engine`, as an installation has it on its PATH."""
    folder = directory / "bin"
    folder.mkdir()
    program = folder / "notification-engine"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m notification_engine.cli.main "$@"\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return folder


@pytest.fixture(scope="module")
async def world(mongod: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    for name, package in TOOLS.items():
        await asyncio.to_thread(program, name, package)
    directory = tmp_path_factory.mktemp("runbooks")
    for name in ("log", "backups"):
        (directory / name).mkdir()
    mailbox, receiver = Mailbox(), Receiver()
    await mailbox.start()
    await receiver.start()
    name = f"runbooks_{uuid.uuid4().hex[:12]}"
    settings = {"MONGODB_URL": mongod, "MONGODB_DATABASE": name, "LOG_FILE": f"{directory}/log/notifications.log"}
    settings |= {"EMAIL_PROVIDER": "smtp", "SMTP_HOST": "127.0.0.1", "SMTP_PORT": str(mailbox.port)}
    settings |= {"SMTP_STARTTLS": "false", "SMTP_FROM_EMAIL": "engine@example.org", "HEALTH_CHECK_INTERVAL": "1"}
    settings |= {"WEBHOOK_MAX_RETRIES": "0", "FIELD_ENCRYPTION_KEY": canary("master-key-of-the-runbooks")}
    replica = Replica("runbooks", directory, settings)
    path = f"{command(directory)}:{os.environ['PATH']}"
    environment = {
        "PATH": path,
        "HOME": str(directory),
        "PYTHONPATH": str(SOURCE),
        "COLUMNS": "120",
        "LC_ALL": "C.UTF-8",
    }
    async with ClientSession() as session:
        await replica.start()
        await replica.serving(session)
        made = World(replica, session, receiver, mailbox, directory, environment | SETTINGS | settings)
        await endpoint(Fleet(directory, settings, session), replica, receiver)
        yield made
        assert await replica.terminate() == 0, replica.log()
        await replica.kill()
    await mailbox.stop()
    await receiver.stop()
    for database in (name, f"{name}_drill"):
        await drop(mongod, database)


def test_there_is_a_page_for_each_alert_issue_and_plan() -> None:
    assert set(pages()) == {*ALERTS, *ISSUES, *PLANS}
    start = text("README")
    for page in pages():
        assert f"({page}.md)" in start, page


@pytest.mark.parametrize("page", pages())
def test_every_page_goes_the_same_way(page: str) -> None:
    assert re.findall(r"^## (.+)$", text(page), re.MULTILINE) == SECTIONS


def test_what_is_not_run_says_why() -> None:
    """Counted, so that nobody takes a command out of the run without being seen."""
    rest = [b for page in pages() for b in blocks(page) if not b.runs]
    assert all(b.reason for b in rest), [b for b in rest if not b.reason]
    assert Counter(b.reason for b in rest) == NOT_RUN


@pytest.mark.parametrize("page", pages())
async def test_its_commands_run_as_printed(world: World, page: str) -> None:
    await world.seed()
    run = [Block("README", "bash", b.script) for b in blocks("README")] + [b for b in blocks(page) if b.runs]
    out = await world.shell("\n".join(b.script for b in run))
    assert "urn:notification-engine:problem" not in out, out
    assert not re.search(r"(?<![\w\"])null(?![\w\"])", re.sub(r'"(reason|user_id|notification_id)": ?null', "", out)), (
        out
    )
    for expected in EXPECTED[page]:
        assert re.search(expected, out, re.MULTILINE), f"{expected} is not in\n{out}"
