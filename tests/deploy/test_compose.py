"""compose.yaml against its schema and against the real servers: what its secrets, rights and settings are good for."""

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pymongo
import pytest
import yaml
from pymongo.errors import OperationFailure
from tests.deploy.settings_used import FOREIGN, known
from tests.integration.conftest import message, serving
from tests.servers.redis import RedisServer, free_ports, redis_7

from notification_engine.domain.caller import Role
from notification_engine.kit.clock import Clock
from notification_engine.security.tokens import Tokens
from notification_engine.settings import Settings
from notification_engine.storage.backup import backup
from notification_engine.storage.connection import Database
from notification_engine.storage.embedded import find_binary
from notification_engine.storage.restore import restore
from notification_engine.wiring import drain_seconds

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "deploy/compose"
BIN = Path(sys.executable).parent
TEXT: dict[str, Any] = yaml.safe_load((COMPOSE / "compose.yaml").read_text())
SERVICES: dict[str, Any] = TEXT["services"]


def run(*words: str | Path, **options: Any) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False, **options)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `prepare.sh` makes: `secrets`, `ssl` and `logs`."""
    root = tmp_path_factory.mktemp("prepared")
    ended = run(COMPOSE / "prepare.sh", root, root / "secrets")
    assert ended.returncode == 0, ended.stderr
    return root


def test_the_files_follow_the_specification() -> None:
    files = (ROOT / "compose.yaml", COMPOSE / "compose.yaml")
    ended = run(BIN / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", *files)
    assert ended.returncode == 0, ended.stdout
    for file in files:
        ended = run(BIN / "docker-compose", "-f", file, "--profile", "*", "config", "--quiet")
        assert (ended.returncode, ended.stderr) == (0, "")
    ended = run(BIN / "yamllint", "--strict", "-c", ROOT / ".yamllint.yaml", ROOT / "compose.yaml", ROOT / "deploy")
    assert ended.returncode == 0, ended.stdout


def test_the_names_are_those_of_the_guide() -> None:
    guide = (ROOT / "docs/deployment-guide.md").read_text()
    block = next(b for b in re.findall(r"```yaml\n(.*?)```", guide, re.DOTALL) if b.startswith("version: '3.8'"))
    theirs = yaml.safe_load(block)
    assert set(theirs["services"]) <= set(SERVICES)
    assert set(theirs["volumes"]) <= set(TEXT["volumes"])
    assert SERVICES["intellibrowse-api"]["container_name"] == "intellibrowse-api"
    for name, service in theirs["services"].items():
        targets = {volume.split(":")[1] for volume in service.get("volumes", [])}
        assert targets <= {volume.split(":")[1] for volume in SERVICES[name].get("volumes", [])}, name
        assert SERVICES[name]["restart"] == service["restart"], name


def test_only_nginx_is_reached_from_outside() -> None:
    published = {n: [p for p in s.get("ports", []) if not p.startswith("127.0.0.1:")] for n, s in SERVICES.items()}
    assert {n: ports for n, ports in published.items() if ports} == {"nginx": ["80:80", "443:443"]}
    assert TEXT["networks"]["data"] == {"internal": True}
    assert {n for n, s in SERVICES.items() if "edge" in s.get("networks", [])} & {"mongo", "redis"} == set()


def test_everything_that_is_waited_for_can_come() -> None:
    """A service that others wait for to be healthy has a health check; the engine's stands in its image."""
    for name, service in SERVICES.items():
        for other, on in service.get("depends_on", {}).items():
            if on["condition"] == "service_healthy" and other != "intellibrowse-api":
                assert "healthcheck" in SERVICES[other], (name, other)
            profiles = set(SERVICES[other].get("profiles", []))
            assert profiles <= set(service.get("profiles", [])), (name, other)


def test_every_variable_is_one_that_its_reader_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, service in SERVICES.items():
        image = service["image"].partition(":")[0]
        for variable in service.get("environment", {}):
            assert known(variable) if name == "intellibrowse-api" else variable in FOREIGN[image], (name, variable)
    for variable, value in SERVICES["intellibrowse-api"]["environment"].items():
        monkeypatch.setenv(variable, value)
    assert Settings().MONGODB_DATABASE == "intellibrowse", "every value is one that its setting takes"


def test_every_file_that_is_mounted_is_there(prepared: Path) -> None:
    made = {"../../logs", "../../ssl"} | {f"secrets/{p.name}" for p in (prepared / "secrets").iterdir()}
    volumes = [v.split(":")[0] for s in SERVICES.values() for v in s.get("volumes", []) if v.startswith(".")]
    mounted = [volume.removeprefix("./") for volume in volumes]
    given = [one["file"] for kind in ("secrets", "configs") for one in TEXT[kind].values()]
    for path in (*mounted, *given):
        assert path in made or (COMPOSE / path).resolve().exists(), path


def test_prepare_keeps_what_is_there_and_tells_nobody(prepared: Path) -> None:
    def shown() -> dict[str, str]:
        return {str(p): p.read_text() for p in prepared.rglob("*") if p.is_file()}

    before = shown()
    ended = run(COMPOSE / "prepare.sh", prepared, prepared / "secrets")
    assert (ended.returncode, shown()) == (0, before)
    assert (prepared / "secrets").stat().st_mode & 0o077 == 0
    secrets = [p.read_text().strip() for p in (prepared / "secrets").glob("*_password")]
    assert not any(secret in ended.stdout + ended.stderr for secret in secrets)
    ignored = run("git", "check-ignore", "deploy/compose/secrets/x", "logs/x", "ssl/x", cwd=ROOT)
    assert len(ignored.stdout.splitlines()) == 3


def constant(name: str) -> Any:
    """A constant of mongo-setup.js, which is written as JSON."""
    match = re.search(rf"^const {name} = (.*);$", (COMPOSE / "mongo-setup.js").read_text(), re.MULTILINE)
    assert match is not None
    return json.loads(match[1])


@asynccontextmanager
async def mongo(directory: Path, prepared: Path) -> AsyncIterator[str]:
    """A server started with the arguments of the service and set up with the values of mongo-setup.js; its address for
    the engine's user."""
    [port] = free_ports(1)
    key, data = directory / "key", directory / "data"
    key.write_bytes((prepared / "secrets/mongodb_keyfile").read_bytes())
    key.chmod(0o400)
    data.mkdir()
    words = [str(key) if word == "/keyfile/key" else word for word in SERVICES["mongo"]["command"][1:]]
    places = ("--dbpath", str(data), "--port", str(port), "--logpath", str(directory / "log"), "--nounixsocket")
    limits = ("--wiredTigerCacheSizeGB", "0.25", "--oplogSize", "64")
    words[words.index("--bind_ip_all")] = "--bind_ip=127.0.0.1"
    process = await asyncio.create_subprocess_exec(str(find_binary(None)), *words, *places, *limits)
    try:
        await asyncio.to_thread(set_up, port, prepared)
        secret = (prepared / "secrets/mongodb_url").read_text().strip()
        yield secret.replace("@mongo:27017", f"@127.0.0.1:{port}")
    finally:
        process.terminate()
        await process.wait()


def set_up(port: int, prepared: Path) -> None:
    """In the order of mongo-setup.js, but for the first user, whom the image makes: by the localhost exception."""
    root = {"username": "root", "password": (prepared / "secrets/mongodb_root_password").read_text().strip()}
    replica_set = constant("REPLICA_SET")
    replica_set["members"][0]["host"] = f"127.0.0.1:{port}"
    with pymongo.MongoClient[dict[str, Any]]("127.0.0.1", port, directConnection=True) as client:
        client.admin.command("replSetInitiate", replica_set)
        while not client.admin.command("hello")["isWritablePrimary"]:
            pass
        client.admin.command("createUser", root["username"], pwd=root["password"], roles=["root"])
    with pymongo.MongoClient[dict[str, Any]]("127.0.0.1", port, directConnection=True, **root) as client:
        password = (prepared / "secrets/mongodb_engine_password").read_text().strip()
        client.admin.command("createUser", constant("USER"), pwd=password, roles=constant("ROLES"))


async def test_the_secrets_and_the_rights_are_enough_and_no_more(prepared: Path, tmp_path: Path) -> None:
    """An engine with the users of the compose file accepts and delivers, is backed up and restored, and may do nothing
    elsewhere."""
    acl = str(prepared / "secrets/redis_acl")
    options = [acl if word == "/run/secrets/redis_acl" else word for word in SERVICES["redis"]["command"][1:]]
    redis = RedisServer(redis_7(), tmp_path, *options)
    await redis.start()
    try:
        async with mongo(tmp_path, prepared) as url:
            settings = secrets(prepared) | {"MONGODB_URL": url}
            settings["REDIS_URL"] = settings["REDIS_URL"].replace("@redis:6379", f"@127.0.0.1:{redis.port}")
            await works(settings, url)
            await is_saved_and_comes_back(url, tmp_path)
            with pymongo.MongoClient[dict[str, Any]](url) as client:
                taken = client.admin.command("hello", compression=["zlib", "snappy", "zstd"])["compression"]
                assert taken == ["snappy", "zstd"], "asked with a list, it answers those that it takes"
                with pytest.raises(OperationFailure):
                    client["another"]["x"].insert_one({})
    finally:
        await redis.kill()


def secrets(prepared: Path) -> dict[str, Any]:
    """The settings that compose gives as files, with what stands in them; production accepts them."""
    given = SERVICES["intellibrowse-api"]["environment"]
    files = {k.removesuffix("_FILE"): v for k, v in given.items() if k.endswith("_FILE") and k != "LOG_FILE"}
    read = {k: (prepared / "secrets" / Path(v).name).read_text().strip() for k, v in files.items()}
    return read | {"MONGODB_DATABASE": given["MONGODB_DATABASE"], "EMAIL_PROVIDER": "console"}


async def works(settings: dict[str, Any], url: str) -> None:
    async with serving(Settings(**settings, DRAIN_DELAY_SECONDS=0), url) as running:
        bearer = Tokens(settings["JWT_SECRET_KEY"], "HS256").issue("dev", [Role.SERVICE, Role.USER], 5)
        status, answer = await running.call("POST", "", message("dev", channels=["in_app", "email"]), as_=bearer)
        assert status == 202, answer
        await running.settled(answer["notifications"][0]["notification_id"], as_=bearer)
        status, shown = await running.call("GET", "/health/status", as_=bearer)
        assert (status, shown["bus"]["status"], shown["database"]["status"]) == (200, "up", "up")


class Silent:
    def begin(self, label: str, total: int) -> None: ...

    def advance(self, count: int) -> None: ...


async def is_saved_and_comes_back(url: str, directory: Path) -> None:
    database = Database(url, "intellibrowse", pool_size=2)
    try:
        await database.synchronise(Clock())
        await backup(database, directory / "x.backup", engine="0", progress=Silent())
        _, counts = await restore(database, directory / "x.backup", replace=True, progress=Silent())
        assert counts["notifications"] == 1
    finally:
        await database.close()


def test_the_grace_is_as_long_as_a_drain_may_take() -> None:
    grace = int(SERVICES["intellibrowse-api"]["stop_grace_period"].removesuffix("s"))
    assert grace >= drain_seconds(Settings.model_construct())
