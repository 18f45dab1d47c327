"""`notification-engine dev`: one command shows everything, ends everything, and keeps its data."""

import asyncio
import json
import re
import signal
from pathlib import Path
from typing import Any

from aiohttp import ClientSession
from tests.integration.cli.conftest import SECRET, Command, Run, alive, gone, mongod_of
from tests.integration.conftest import API

from notification_engine.storage.embedded import EmbeddedMongod, find_binary

LAST_LINE = "Stop        Ctrl-C"


async def shown(running: Command) -> tuple[str, str]:
    """Everything that the welcome printed, and the engine's address."""
    await running.until(LAST_LINE)
    text = "\n".join(running.lines)
    found = re.search(r"Inbox page  (http://\S+)/", text)
    assert found, text
    return text, found[1]


async def shell(line: str) -> str:
    process = await asyncio.create_subprocess_exec("sh", "-c", line, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    assert process.returncode == 0
    return out.decode()


async def inbox(run: Run, address: str) -> list[dict[str, Any]]:
    """As the user `dev`, with a token of the command `token`."""
    token = (await (await run("token")).ended()).out.strip()
    headers = {"Authorization": f"Bearer {token}"}
    async with ClientSession() as session, session.get(address + API, headers=headers) as answer:
        assert answer.status == 200
        return list((await answer.json())["notifications"])


async def test_one_command_shows_what_arrived_where(command: Run) -> None:
    running = await command("dev", "--port", "0")
    text, _ = await shown(running)
    assert re.search(r"accepted +[\d.]+ ms  durably stored as ntfy_\w{26}", text)
    assert re.search(r"in_app +[\d.]+ ms  inbox of dev, WebSocket", text)
    assert re.search(r"email +[\d.]+ ms  console, see above", text)
    assert re.search(r"webhook +[\d.]+ ms  http://127.0.0.1:\d+/hook, signature verified", text)
    assert "Subject: Welcome to the notification engine" in text
    assert "did not arrive" not in text
    ended = await running.signalled(signal.SIGINT)
    assert (ended.code, ended.err) == (0, "")


async def test_the_curl_line_that_is_printed_works_and_arrives(command: Run) -> None:
    running = await command("dev", "--port", "0")
    text, _ = await shown(running)
    line = text[text.index("curl -sS") : text.index("\n\n", text.index("curl -sS"))]
    answer = json.loads(await shell(line))
    notification_id = answer["notifications"][0]["notification_id"]
    assert answer["notifications"][0]["user_id"] == "dev"
    seen: set[str] = set()
    while seen != {"webhook", "email"}:
        arrived = await running.until("")
        if arrived.strip().startswith("webhook") and notification_id in arrived:
            assert "signature verified" in arrived
            seen.add("webhook")
        if "Subject: Run 4711 passed" in arrived:
            seen.add("email")


async def test_ctrl_c_ends_everything_and_a_second_start_has_the_data(command: Run, tmp_path: Path) -> None:
    running = await command("dev", "--port", "0")
    _, address = await shown(running)
    [first] = await inbox(command, address)
    mongod = mongod_of(tmp_path)
    assert alive(mongod)
    ended = await running.signalled(signal.SIGINT)
    assert (ended.code, ended.err) == (0, "")
    assert "The engine has stopped" in ended.out
    assert not alive(mongod)
    again = await command("dev", "--port", "0")
    _, address = await shown(again)
    assert first["notification_id"] in [n["notification_id"] for n in await inbox(command, address)]


async def test_a_killed_engine_takes_its_database_along_and_starts_again(command: Run, tmp_path: Path) -> None:
    running = await command("dev", "--port", "0")
    await shown(running)
    mongod = mongod_of(tmp_path)
    await running.signalled(signal.SIGKILL)
    await gone(mongod)
    again = await command("dev", "--port", "0")
    text, _ = await shown(again)
    assert "signature verified" in text


async def test_a_second_ctrl_c_does_not_wait(command: Run, tmp_path: Path) -> None:
    running = await command("dev", "--port", "0", DRAIN_DELAY_SECONDS="600")
    await shown(running)
    mongod = mongod_of(tmp_path)
    running.process.send_signal(signal.SIGINT)
    await running.until("The engine drains")
    ended = await running.signalled(signal.SIGINT)
    assert ended.code == 130
    assert "Traceback" not in ended.out + ended.err
    assert not alive(mongod)


async def test_with_an_address_no_database_is_started(command: Run, tmp_path: Path, mongod: str) -> None:
    running = await command("dev", "--port", "0", MONGODB_URL=mongod, MONGODB_DATABASE=f"dev_{tmp_path.name}"[:60])
    await shown(running)
    assert not (tmp_path / "var" / "mongodb").exists()
    assert (await running.signalled(signal.SIGINT)).code == 0


async def test_a_second_engine_in_the_directory_is_refused(command: Run, tmp_path: Path) -> None:
    taken = EmbeddedMongod(tmp_path / "var" / "mongodb", find_binary(None))
    await taken.start()
    try:
        ended = await (await command("dev", "--port", "0")).ended()
    finally:
        await taken.stop()
    assert ended.code == 2
    assert "MONGODB_DATA_DIR" in ended.err
    assert "Traceback" not in ended.out + ended.err


async def test_production_is_not_overruled(command: Run, tmp_path: Path) -> None:
    settings = {"ENVIRONMENT": "production", "MONGODB_URL": "mongodb://127.0.0.1:1/", "JWT_SECRET_KEY": SECRET}
    ended = await (await command("dev", **settings)).ended()
    assert (ended.code, ended.out) == (2, "")
    assert "ENVIRONMENT" in ended.err
    assert not (tmp_path / "var").exists()
