"""Logs of a real engine: the guide's lines of analysis run on them as printed, and its rotation loses none of them."""

import asyncio
import json
import os
import pty
import re
import signal
import subprocess
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from tests.deploy.engine_log import Logged, delivered
from tests.integration.conftest import API
from tests.servers.debian import program
from tests.servers.receiver import Receiver

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs/deployment-guide.md").read_text()
PRINTED = "/var/log/intellibrowse/notifications.log"
FIELDS = list(
    json.loads(re.findall(r"```json\n(.*?)```", GUIDE.partition("#### Structured Logging Format")[2], re.DOTALL)[0])
)
LINES = re.findall(r"```bash\n(.*?)```", GUIDE.partition("### Log Analysis")[2], re.DOTALL)[0]
ERRORS, FOLLOWED, AVERAGE = (
    "\n".join(line for line in part.splitlines() if not line.startswith("#")) for part in LINES.split("\n\n")
)


async def with_an_error(logged: Logged) -> None:
    """A process dies, which its supervisor calls an error."""
    async with logged.session.get(f"{API}/health/daemon", headers={"Accept": "application/json"}) as answer:
        victim = (await answer.json())["processes"][1]["pid"]
    os.kill(victim, signal.SIGKILL)
    await logged.until(lambda lines: any(line["level"] == "ERROR" for line in lines))


def shell(script: str, file: Path) -> str:
    """As printed, but for the log's place. bash, because the guide's blocks are bash."""
    ended = subprocess.run(
        ["bash", "-o", "pipefail", "-ec", script.replace(PRINTED, str(file))],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr == ""
    return ended.stdout


async def test_the_guides_search_for_errors_finds_them_and_nothing_else(logged: Logged, receiver: Receiver) -> None:
    await delivered(logged, receiver)
    await with_an_error(logged)
    assert f'grep "ERROR" {PRINTED}' == ERRORS
    found = [json.loads(line) for line in shell(ERRORS, logged.file).splitlines()]
    assert found == [line for line in logged.lines() if line["level"] == "ERROR"]
    assert "A process died" in {line["message"] for line in found}


@pytest.mark.parametrize("awk", ["mawk", "gawk"])
async def test_the_guides_analysis_of_deliveries_gives_their_average(
    logged: Logged, receiver: Receiver, tmp_path: Path, awk: str
) -> None:
    await delivered(logged, receiver)
    assert AVERAGE.count(PRINTED) == 1
    program("jq", "jq")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/awk").symlink_to(program(awk, awk))  # the guide's `awk` is this one here
    found = shell(f'PATH="{tmp_path}/bin:$PATH"\n{AVERAGE}', logged.file)
    times = [line["metadata"]["delivery_time_ms"] for line in logged.lines() if "delivered success" in line["message"]]
    assert len(times) == 2, "in the app and by webhook; of e-mail it is only known that the provider took it"
    shown = re.fullmatch(r"Average delivery time: ([\d.]+) ms\n", found)
    assert shown is not None, found
    assert float(shown[1]) == pytest.approx(sum(times) / len(times), rel=1e-4)


async def test_the_guides_monitor_shows_lines_as_they_come(logged: Logged) -> None:
    """On a terminal of its own, as an operator has one: grep then writes line by line."""
    assert f'tail -f {PRINTED} | grep "notification_id"' == FOLLOWED
    operator, terminal = pty.openpty()
    script = FOLLOWED.replace(PRINTED, str(logged.file))
    monitor = await asyncio.create_subprocess_exec(
        "bash", "-c", script, stdout=terminal, stderr=terminal, start_new_session=True
    )
    os.close(terminal)
    try:
        before = logged.lines()[0]["message"]
        await shown_on(operator, before)
        notification_id = await logged.accept("u1")
        assert notification_id in await shown_on(operator, notification_id)
    finally:
        os.killpg(monitor.pid, signal.SIGTERM)
        await monitor.wait()
        os.close(operator)


async def shown_on(operator: int, text: str) -> str:
    seen = b""
    async with asyncio.timeout(20):
        while text.encode() not in seen:
            seen += await asyncio.to_thread(os.read, operator, 65536)
    return seen.decode()


async def test_every_line_of_every_component_has_the_guides_form(logged: Logged, receiver: Receiver) -> None:
    """Also the server's own: its access lines are the engine's, its errors pass through the same form."""
    await delivered(logged, receiver)
    await with_an_error(logged)
    assert await logged.get(f"{API}/ntfy_unknown", **{"X-Request-ID": "req_of-the-test"}) == 404
    reader, writer = await asyncio.open_connection("127.0.0.1", logged.session._base_url.port)  # type: ignore[union-attr]
    writer.write(b"NO HTTP\r\n\r\n")
    await reader.read()
    writer.close()
    lines = await logged.until(lambda found: any(line["component"] == "uvicorn.error" for line in found))
    for line in lines:
        assert list(line) == FIELDS
        assert line["service"] == "notification-engine"
        assert line["level"] in {"DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"}
        assert datetime.fromisoformat(line["timestamp"]).utcoffset() is not None
        assert isinstance(line["metadata"], dict)
    assert {"engine", "api", "service-layer", "delivery-daemon", "uvicorn.error"} <= {o["component"] for o in lines}
    access = [line for line in lines if line["request_id"] == "req_of-the-test"]
    assert [(line["metadata"]["method"], line["metadata"]["status"]) for line in access] == [("GET", 404)]
    told = [line for line in lines if line["message"] == "Request answered"]
    assert "uvicorn.access" not in {line["component"] for line in lines}, "each request has one line, not two"
    assert {line["metadata"]["path"] for line in told} >= {API, f"{API}/ntfy_unknown"}


async def test_a_delivery_has_the_fields_of_the_guides_example(logged: Logged, receiver: Receiver) -> None:
    await delivered(logged, receiver)
    [line] = [line for line in logged.lines() if line["message"] == "Notification delivered successfully"]
    example = json.loads(
        re.findall(r"```json\n(.*?)```", GUIDE.partition("Structured Logging Format")[2], re.DOTALL)[0]
    )
    assert line["component"] == example["component"]
    assert (line["user_id"], line["notification_id"]) == ("u2", logged.sent[-1])
    assert set(example["metadata"]) <= set(line["metadata"])
    assert (line["metadata"]["channel"], line["metadata"]["retry_count"]) == ("webhook", 0)


def logrotate(file: Path, *how: str) -> None:
    """By a file as Debian's packages bring them, with a state of its own, now."""
    configuration = file.parent / "logrotate.conf"
    configuration.write_text("\n".join([f"{file} {{", "  su root root", "  rotate 5", *how, "}"]) + "\n")
    state = str(file.parent / "logrotate.state")
    words = [program("logrotate", "logrotate"), "--force", "--state", state, str(configuration)]
    ended = subprocess.run(words, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize("how", ["create 0640", "nocreate", "copytruncate"])
async def test_a_rotation_under_load_keeps_every_line_whole(logged: Logged, how: str) -> None:
    """Two processes and their supervisor write the one file. Moved: nothing is lost. Copied and cut off: logrotate's
    own manual says that what is written in between may be, and no line is cut or mixed."""
    if os.geteuid() != 0:
        pytest.fail("logrotate's `su root root` needs root, as on a host")
    logged.file.parent.chmod(0o755)
    stop = asyncio.Event()

    async def load() -> None:
        while not stop.is_set():
            await logged.accept("u1", channels=["in_app"])

    loads = [asyncio.create_task(load()) for _ in range(4)]
    for turn in range(1, 4):
        begun = len(logged.sent)
        while len(logged.sent) < begun + 40:  # noqa: ASYNC110 - what is accepted changes
            await asyncio.sleep(0.02)
        await asyncio.to_thread(logrotate, logged.file, how)
        assert (logged.file.parent / f"{logged.file.name}.{turn}").exists()
    begun = len(logged.sent)
    while len(logged.sent) < begun + 40:  # noqa: ASYNC110 - what is accepted changes
        await asyncio.sleep(0.02)
    stop.set()
    await asyncio.gather(*loads)
    files = sorted(logged.file.parent.glob("notifications.log*"))
    assert len(files) == 4

    def accepted(lines: list[dict[str, Any]]) -> Counter[str]:
        return Counter(line["notification_id"] for line in lines if line["message"].startswith("Notification accepted"))

    last = logged.sent[-1]
    lines = await logged.until(lambda found: last in accepted(found), *files)
    assert all(list(line) == FIELDS for line in lines)
    assert max(accepted(lines).values()) == 1, "no line is there twice"
    lost = set(logged.sent) - set(accepted(lines))
    if how == "copytruncate":
        assert len(lost) <= len(logged.sent) // 10
        assert accepted(logged.lines())[last] == 1, "the file begins anew where it was cut off"
    else:
        assert lost == set()
