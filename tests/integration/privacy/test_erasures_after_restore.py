"""After a restore nobody is there again who was erased since the backup, and whoever came back before it is."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.integration.cli.conftest import Ended
from tests.integration.cli.test_backup import Quiet
from tests.integration.conftest import SECRET, Running, Start, drop, message, token

from notification_engine.domain.caller import Role
from notification_engine.storage.backup import backup
from notification_engine.storage.connection import Database

ADMIN = token("the-admin", Role.ADMIN)


@dataclass
class Place:
    """An empty database for the backup, and the command against it."""

    url: str
    name: str
    invoke: Callable[..., Ended]

    async def run(self, *arguments: str | Path, **environment: str) -> Ended:
        given = {"MONGODB_URL": self.url, "MONGODB_DATABASE": self.name, "JWT_SECRET_KEY": SECRET} | environment
        return await asyncio.to_thread(self.invoke, *map(str, arguments), **given)

    async def users(self) -> set[str]:
        database = Database(self.url, self.name, pool_size=1)
        found = await database.majority("notifications").distinct("user_id", {})
        await database.close()
        return set(found)


@pytest.fixture
async def place(mongod: str, invoke: Callable[..., Ended]) -> AsyncIterator[Place]:
    name = f"other_{uuid.uuid4().hex[:12]}"
    yield Place(mongod, name, invoke)
    await drop(mongod, name)


@pytest.fixture
async def saved(start: Start, tmp_path: Path) -> tuple[Path, Path]:
    """A backup, and the list of erasures: `back` was erased before it and came back, `gone` was erased after it."""
    listed, file = tmp_path / "erasures.jsonl", tmp_path / "backup"
    running = await start(ERASURE_LOG_FILE=listed)
    await erase(running, "back")
    earlier = (datetime.now(UTC) - timedelta(minutes=5)).isoformat()
    lines = [json.loads(line) | {"at": earlier} for line in listed.read_text().splitlines()]
    listed.write_text("".join(json.dumps(line) + "\n" for line in lines))
    for user in ("back", "gone", "stays"):
        await running.settled(await running.accept(message(user)))
    await backup(running.engine.database, file, engine="test", progress=Quiet())
    await erase(running, "gone")
    return file, listed


async def erase(running: Running, user: str) -> None:
    status, body = await running.call("DELETE", f"/users/{user}/data", as_=ADMIN)
    assert status == 200, body


async def test_a_restore_erases_again(saved: tuple[Path, Path], place: Place) -> None:
    file, listed = saved
    before = listed.read_text()
    ended = await place.run("restore", file, ERASURE_LOG_FILE=str(listed))
    assert ended.code == 0, ended
    assert "Erasures applied again: 1 users, of 1 listed" in ended.out
    assert await place.users() == {"back", "stays"}
    assert listed.read_text() == before, "a drill would else erase whom a later backup holds rightly"
    rows = (await place.run("audit", "export")).out.splitlines()
    assert "database.restore" in [json.loads(row)["action"] for row in rows]
    verified = await place.run("audit", "verify")
    assert verified.code == 0, verified


async def test_a_restore_without_the_list_says_so_and_the_command_erases_later(
    saved: tuple[Path, Path], place: Place
) -> None:
    file, listed = saved
    moment = datetime.now(UTC) - timedelta(seconds=30)
    ended = await place.run("restore", file)
    assert (ended.code, "ERASURE_LOG_FILE is not set" in ended.out) == (0, True)
    assert await place.users() == {"back", "gone", "stays"}
    applied = await place.run("erasures", "apply", "--as-of", moment.isoformat(), listed)
    assert applied.code == 0, applied
    assert await place.users() == {"back", "stays"}
    again = await place.run("erasures", "apply", "--as-of", moment.isoformat(), ERASURE_LOG_FILE=str(listed))
    assert "Erasures applied again: 0 users" in again.out


async def test_an_erasure_that_was_broken_off_is_completed(saved: tuple[Path, Path], place: Place) -> None:
    """Begun at any time and never done: nobody knows how far it came."""
    file, listed = saved
    lines = [line for line in listed.read_text().splitlines() if json.loads(line)["state"] == "begun"]
    listed.write_text("\n".join(lines) + "\n")
    await place.run("restore", file, ERASURE_LOG_FILE=str(listed))
    assert await place.users() == {"stays"}


async def test_an_erasure_that_was_repeated_counts_as_completed_then(saved: tuple[Path, Path], place: Place) -> None:
    """The first died half-way, the second did not, and `back` came back after it."""
    file, listed = saved
    lines = [json.loads(line) for line in listed.read_text().splitlines()]
    broken_off = lines[0] | {"receipt": "ers_broken_off"}
    listed.write_text("".join(json.dumps(line) + "\n" for line in [broken_off, *lines]))
    await place.run("restore", file, ERASURE_LOG_FILE=str(listed))
    assert await place.users() == {"back", "stays"}


async def test_a_list_under_another_key_is_refused_and_not_taken_for_empty(
    saved: tuple[Path, Path], place: Place
) -> None:
    file, listed = saved
    other = {"ERASURE_LOG_FILE": str(listed), "PSEUDONYM_KEY": "another key of 32 bytes or more, really"}
    ended = await place.run("restore", file, **other)
    assert ended.code == 2
    assert "PSEUDONYM_KEY" in ended.err
    assert "Before any engine: notification-engine erasures apply --as-of" in ended.err


@pytest.mark.parametrize("moment", ["yesterday", "2026-11-25T08:00:00"])
async def test_a_moment_without_its_offset_is_refused(place: Place, moment: str) -> None:
    ended = await place.run("erasures", "apply", "--as-of", moment)
    assert (ended.code, "--as-of" in ended.err) == (2, True)


async def test_no_list_is_an_error_of_the_command(place: Place, tmp_path: Path) -> None:
    moment = "2026-11-25T08:00:00+00:00"
    assert (await place.run("erasures", "apply", "--as-of", moment)).code == 2
    missing = await place.run("erasures", "apply", "--as-of", moment, tmp_path / "nowhere")
    assert (missing.code, "cannot be read" in missing.err) == (2, True)
