"""The command as a person or a supervisor starts it: a process of its own, with an environment of its own."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.canaries import canary, here, logged, watch
from typer.testing import CliRunner

import notification_engine
from notification_engine.cli.main import app
from notification_engine.settings import Settings

SOURCE = Path(notification_engine.__file__).parents[1]
SECRET = canary("signing-key-of-the-suite")


@dataclass
class Ended:
    code: int
    out: str
    err: str


@dataclass
class Command:
    """One running `notification-engine`; `lines` is its standard output so far."""

    process: asyncio.subprocess.Process
    lines: list[str] = field(default_factory=list)

    @property
    def pid(self) -> int:
        return self.process.pid

    async def until(self, text: str, seconds: float = 60) -> str:
        """The next line that holds the text. Fails with everything read when none comes."""
        assert self.process.stdout is not None
        try:
            async with asyncio.timeout(seconds):
                while line := (await self.process.stdout.readline()).decode():
                    self.lines.append(line.rstrip("\n"))
                    if text in line:
                        return line.rstrip("\n")
        except TimeoutError:
            pytest.fail(f"{text!r} did not come:\n" + "\n".join(self.lines))
        pytest.fail(f"{text!r} did not come before the end:\n" + "\n".join(self.lines))

    async def ended(self, seconds: float = 30) -> Ended:
        async with asyncio.timeout(seconds):
            out, err = await self.process.communicate()
        self.lines += out.decode().splitlines()
        watch.look("standard error of a command", here(), err.decode())
        return Ended(self.process.returncode or 0, "\n".join(self.lines), err.decode())

    async def signalled(self, number: signal.Signals, seconds: float = 30) -> Ended:
        self.process.send_signal(number)
        return await self.ended(seconds)


Run = Callable[..., Awaitable[Command]]


@pytest.fixture
async def command(tmp_path: Path) -> AsyncIterator[Run]:
    """Starts the command in the test's own directory; the environment holds what the test names and nothing else."""
    started: list[Command] = []

    async def run(*arguments: str, **environment: str) -> Command:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "notification_engine.cli.main", *arguments),
            cwd=tmp_path,
            env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONPATH": str(SOURCE), "COLUMNS": "120"}
            | environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=1024 * 1024,
        )
        started.append(Command(process))
        return started[-1]

    yield run
    for one in started:
        if one.process.returncode is None:
            one.process.kill()
            await one.ended()
        watch.look("log of a command", here(), logged("\n".join(one.lines)))


@pytest.fixture
def invoke(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ended]:
    """The command within this process, for what ends before a server starts: a process each would take seconds."""
    monkeypatch.chdir(tmp_path)
    for name in Settings.model_fields:
        monkeypatch.delenv(name, raising=False)

    def run(*arguments: str, **environment: str) -> Ended:
        result = CliRunner().invoke(app, arguments, env=environment)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return Ended(result.exit_code, result.stdout, result.stderr)

    return run


def alive(pid: int) -> bool:
    """Whether that process runs; one that ended and waits for its parent does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


async def gone(pid: int, seconds: float = 30) -> None:
    async with asyncio.timeout(seconds):
        while alive(pid):  # noqa: ASYNC110 - it is no child of ours
            await asyncio.sleep(0.02)


def mongod_of(directory: Path) -> int:
    return int((directory / "var/mongodb/mongod.lock").read_text())
