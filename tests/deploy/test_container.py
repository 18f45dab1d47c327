"""The image, built from the Dockerfile by following it, and what it does with a read-only root."""

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path

import pytest
from aiohttp import ClientSession
from tests.deploy.dockerfile import Ignore, parse
from tests.deploy.image import LOCKS, Stage, build
from tests.integration.conftest import API, SECRET, drop, message, token
from tests.integration.replicas.fleet import free_port

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "deploy/container/Dockerfile"
pytestmark = pytest.mark.timeout(600)  # the first run fetches the packages


@pytest.fixture(scope="module")
def image() -> Iterator[Stage]:
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.fail("following the Dockerfile needs root, unshare and chroot")
    memory = Path("/dev/shm")  # quicker by far: an image is tens of thousands of small files
    room = memory.is_dir() and shutil.disk_usage(memory).free > 2 * 1024**3
    directory = Path(tempfile.mkdtemp(prefix="image-", dir=memory if room else None))
    directory.chmod(0o755)
    yield build(DOCKERFILE, ROOT, directory)
    shutil.rmtree(directory)


class Container:
    """The image's own command with a read-only root; `written` are the only folders it can write to."""

    def __init__(self, image: Stage, directory: Path, environment: dict[str, str]) -> None:
        self._image = image
        self._environment = environment
        self._log = directory / "container.log"
        self.written = {"/tmp": directory / "tmp", "/var/log/intellibrowse": directory / "logs"}
        self.files: dict[str, Path] = {}
        for folder in self.written.values():
            folder.mkdir()
            os.chown(folder, 10001, 10001)

    def words(self, command: list[str]) -> list[str]:
        mounts = self.written | self.files
        return self._image.words(command, mounts=mounts, read_only=True, environment=self._environment)

    @asynccontextmanager
    async def started(self, port: int) -> AsyncIterator[asyncio.subprocess.Process]:
        """Until its health check passes."""
        command = [str(port) if word == "8000" else word for word in self._image.command]
        with self._log.open("wb") as log:
            process = await asyncio.create_subprocess_exec(*self.words(command), stdout=log, stderr=log)
        try:
            async with asyncio.timeout(60):
                while await self.health(port) != 0:
                    assert process.returncode is None, self.log()
                    await asyncio.sleep(0.1)
            yield process
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()

    async def health(self, port: int) -> int:
        command = [word.replace(":8000", f":{port}") for word in self._image.health]
        quiet = asyncio.subprocess.DEVNULL
        process = await asyncio.create_subprocess_exec(*self.words(command), stdout=quiet, stderr=quiet)
        return await process.wait()

    def log(self) -> str:
        return self._log.read_text()


@pytest.fixture
async def container(image: Stage, mongod: str, tmp_path: Path) -> AsyncIterator[Container]:
    name = f"image_{uuid.uuid4().hex[:12]}"
    given = {
        "MONGODB_URL": mongod,
        "MONGODB_DATABASE": name,
        "EMAIL_PROVIDER": "console",
        "DRAIN_DELAY_SECONDS": "0",
        "LOG_FILE": "/var/log/intellibrowse/notifications.log",
    }
    container = Container(image, tmp_path, given)
    secrets = tmp_path / "env"
    secrets.write_text(f"JWT_SECRET_KEY={SECRET}\nMONGODB_DATABASE=the_environment_wins\n")
    os.chown(secrets, 10001, 10001)
    secrets.chmod(0o400)
    (image.root / "app/.env").touch()  # where the mount goes; an engine makes it in the layer above
    container.files["/app/.env"] = secrets
    yield container
    (image.root / "app/.env").unlink()
    await drop(mongod, name)


def owner(pid: int) -> tuple[int, int]:
    found = Path(f"/proc/{pid}").stat()
    return found.st_uid, found.st_gid


async def test_the_image_serves_from_a_read_only_root_as_nobody_special(container: Container) -> None:
    """A template makes it start its rendering processes; a log file and `/tmp` are all that is written."""
    port = free_port()
    async with container.started(port) as process, ClientSession(f"http://127.0.0.1:{port}") as session:
        assert owner(process.pid) == (10001, 10001)
        body = message(notification_type="system.maintenance", channels=["in_app", "email"])
        async with session.post(API, json=body, headers={"Authorization": f"Bearer {token()}"}) as answer:
            assert answer.status == 202, await answer.text()
        async with session.get(f"{API}/health/status") as answer:
            assert answer.status == 200
        process.terminate()
        async with asyncio.timeout(60):
            assert await process.wait() == 0, container.log()
    assert await container.health(port) != 0, "the health check fails once nobody answers"
    assert "Read-only file system" not in container.log()
    assert (container.written["/var/log/intellibrowse"] / "notifications.log").stat().st_size > 0
    assert [p.name for p in container.written["/tmp"].iterdir()] == [], "nothing is left behind"


def test_writing_elsewhere_fails(container: Container) -> None:
    for path in ("/app/x", "/opt/engine/x", "/etc/x", "/usr/local/x", "/backups/x"):
        words = container.words(["/bin/sh", "-c", f"echo 1 > {path}"])
        ended = subprocess.run(words, capture_output=True, text=True, check=False)
        assert ended.returncode != 0, path


async def test_several_processes_run_in_the_image(container: Container) -> None:
    port = free_port()
    container._image = Stage(**{**vars(container._image), "command": [*container._image.command, "--processes", "2"]})
    async with container.started(port) as process, ClientSession(f"http://127.0.0.1:{port}") as session:
        async with session.get(f"{API}/health/metrics") as answer:
            assert len((await answer.json())["processes"]) == 2
        process.terminate()
        async with asyncio.timeout(60):
            assert await process.wait() == 0, container.log()
    assert "Read-only file system" not in container.log()
    assert [p.name for p in container.written["/tmp"].iterdir()] == [], "nothing is left behind"


def test_the_image_holds_the_engine_and_nothing_it_does_not_need(image: Stage) -> None:
    listed = json.loads((image.root / image.labels["com.intellibrowse.sbom.path"].lstrip("/")).read_text())
    packages = [package["metadata"] for package in listed["installed"]]
    installed = {re.sub(r"[-_.]+", "-", p["name"]).lower(): p["version"] for p in packages}
    locked = dict(re.findall(r"^([a-z0-9-]+)(?:\[[^]]*])?==(\S+)", (ROOT / LOCKS[1]).read_text(), re.MULTILINE))
    assert installed == locked | {"notification-engine": version("notification-engine")}
    assert image.labels["org.opencontainers.image.version"] == version("notification-engine")
    own = [
        p.relative_to(image.root)
        for top in ("app", "build", "root", "home", "tmp")
        for p in image.root.glob(f"{top}/**/*")
    ]
    assert own == []
    assert not list((image.root / "opt/engine").glob("**/.env*"))
    assert not (image.root / "opt/engine/bin/pip").exists()


def test_the_base_image_is_the_one_that_the_label_names() -> None:
    names = {i.text.split()[0] for i in parse(DOCKERFILE) if i.name == "FROM"}
    labels = next(i.text for i in parse(DOCKERFILE) if i.name == "LABEL")
    assert names == {"python:3.11-slim"}
    assert 'org.opencontainers.image.base.name="python:3.11-slim"' in labels


def test_hadolint_finds_nothing() -> None:
    program = Path(sys.executable).with_name("hadolint")
    ended = subprocess.run([program, "--no-color", DOCKERFILE], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (0, "")


def test_no_secret_and_no_work_in_progress_reaches_the_build() -> None:
    ignore = Ignore((ROOT / ".dockerignore").read_text().splitlines())
    kept = ("pyproject.toml", "src/notification_engine/api/page.html", "requirements/engine.txt", "README.md")
    left_out = (".env", ".git/config", "var/dev-secret", "src/.env.production", "deploy/compose/secrets/jwt_secret")
    left_out += ("src/notification_engine/__pycache__/wiring.cpython-311.pyc", "tests/conftest.py", ".venv/bin/python")
    assert [p for p in kept if ignore.ignores(p)] == []
    assert [p for p in left_out if not ignore.ignores(p)] == []


def test_the_build_lock_agrees_with_the_others() -> None:
    """`build.txt` is what installs the project in the image; `run.txt` and `dev.txt` hold the same pins."""
    wanted = set(re.findall(r"^\S+==\S+", (ROOT / LOCKS[0]).read_text(), re.MULTILINE))
    assert wanted <= set(re.findall(r"^\S+==\S+", (ROOT / "requirements/run.txt").read_text(), re.MULTILINE))
