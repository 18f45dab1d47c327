"""The documents are true: their commands run as printed, and they name every route, status and reason there is."""

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest
from tests.integration.conftest import API, Running, token
from tests.servers.debian import program
from tests.servers.receiver import Receiver

from notification_engine.domain.caller import Role
from notification_engine.domain.delivery import DeliveryStatus, NotificationStatus, Reason

ROOT = Path(__file__).parents[3]
PRINTED = "http://127.0.0.1:8000"


def blocks(document: str, language: str) -> list[str]:
    return re.findall(rf"^ *```{language}\n(.*?)^ *```", (ROOT / document).read_text(), re.MULTILINE | re.DOTALL)


def made_token() -> str:
    """What `make -s token` prints: the Makefile's own user and roles, signed with the tests' secret."""
    [line] = re.findall(r"notification-engine token (.*)", (ROOT / "Makefile").read_text())
    [sub] = re.findall(r"--sub (\w+)", line)
    return token(sub, *(Role(r) for r in re.findall(r"--role (\w+)", line)))


async def shell(running: Running, script: str) -> str:
    """The script as printed, but for the address; `make -s token` prints the tests' token."""
    given = [f"make() {{ echo '{made_token()}'; }}", f"N={running.address}{API}"]
    given += [
        'A="Authorization: Bearer $(make -s token)"',
        f'ADMIN="Authorization: Bearer {token("admin", Role.ADMIN)}"',
    ]
    given += [script.replace(PRINTED, running.address)]
    process = await asyncio.create_subprocess_exec(
        *("bash", "-euc", "\n".join(given)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    return out.decode()


def shape(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: shape(v) for k, v in value.items()}
    return [shape(v) for v in value] if isinstance(value, list) else type(value).__name__


async def test_the_readmes_first_notification_goes_as_printed(running: Running, receiver: Receiver) -> None:
    await running.register(f"{receiver.address}/hook")
    first, then = [b for b in blocks("README.md", "bash") if "curl" in b]
    printed_answer, printed_timeline = (json.loads(b) for b in blocks("README.md", "json"))
    answer = json.loads(await shell(running, first))
    assert shape(answer) == shape(printed_answer)
    notification_id = answer["notifications"][0]["notification_id"]
    await running.settled(notification_id)
    printed_id = printed_answer["notifications"][0]["notification_id"]
    script = re.sub(r"^(curl.*)$", r"\1; echo", then, flags=re.MULTILINE).replace(printed_id, notification_id)
    one, timeline = (json.loads(line) for line in (await shell(running, script)).splitlines())
    assert {d["channel"]: d["status"] for d in one["deliveries"]} == {
        "in_app": "delivered",
        "email": "accepted",
        "webhook": "delivered",
    }
    assert one["status"] == timeline["status"] == printed_timeline["status"] == "accepted"
    for entry in printed_timeline["entries"]:
        same = [e for e in timeline["entries"] if e["code"] == entry["code"] and e["channel"] == entry["channel"]]
        assert [shape(e) for e in same] == [shape(entry)]


@pytest.mark.parametrize("script", [b for b in blocks("docs/api.md", "bash") if "curl" in b])
async def test_the_examples_of_the_api_page_run(running: Running, script: str) -> None:
    answer = json.loads(await shell(running, script))
    assert "urn:notification-engine:problem" not in json.dumps(answer), answer


async def test_the_ticket_of_the_live_page_runs(running: Running) -> None:
    script = next(b for b in blocks("docs/live.md", "bash") if "ticket" in b)
    answer = json.loads(await shell(running, script.replace("   ", "")))
    async with running.session.ws_connect(f"{running.address}{API}/ws?ticket={answer['ticket']}") as socket:
        assert (await socket.receive_json(timeout=5))["type"] == "hello"


async def test_the_tutorial_goes_as_printed(running: Running, tmp_path: Path) -> None:
    await asyncio.to_thread(program, "jq", "jq")
    script = "\n".join(blocks("docs/tutorial.md", "bash"))
    out = await shell(running, f"set -o pipefail; cd {tmp_path}\n{script}")
    said = ["healthy", "ntfy_", "true", "Run 4711 passed", '"unread_count":1', "Accepted by the provider"]
    places = [out.index(word) for word in (*said, "switched email off")]
    assert places == sorted(places), out


async def test_every_route_is_on_the_api_page(shared: Running) -> None:
    text = (ROOT / "docs/api.md").read_text()
    async with shared.session.get(f"{shared.address}/openapi.json") as answer:
        document = await answer.json()
    for path, methods in document["paths"].items():
        for method in methods:
            named = f"{method.upper()} {path.removeprefix(API)}"
            assert named in text, named


def test_every_status_and_reason_is_on_the_api_page() -> None:
    text = (ROOT / "docs/api.md").read_text()
    for value in (*DeliveryStatus, *NotificationStatus, *Reason):
        assert f"`{value}`" in text, value


def test_every_link_between_the_documents_leads_somewhere() -> None:
    for document in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")):
        for link in re.findall(r"\]\((?!https?:|#)([^)#]+)", document.read_text()):
            assert (document.parent / link).exists(), f"{document.name}: {link}"
