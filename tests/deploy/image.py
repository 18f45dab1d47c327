"""Executes a Dockerfile without a container engine: every RUN as a clean user in a root file system of its own.

`python:3.11-slim` is stood for by this machine's `/usr`, read-only, with the tests' own interpreter at `/usr/local`;
everything else of the root is empty but for a copy of `/etc`. Mounts live in a mount namespace of each command, so
root is needed and nothing stays mounted. The packages come from `var/wheels`, filled from the index when the lock files
change; their hashes are checked in each build.
"""

import hashlib
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.deploy.dockerfile import Ignore, Instruction, parse

BASE = "python:3.11-slim"
LOCKS = ("requirements/build.txt", "requirements/engine.txt")
_VARIABLE = re.compile(r"\$\{?(\w+)\}?")


@dataclass
class Stage:
    """A root file system, and what the instructions so far say of it."""

    root: Path
    environment: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    workdir: str = "/"
    user: str = "0:0"
    command: list[str] = field(default_factory=list)
    health: list[str] = field(default_factory=list)
    stop_signal: str = "SIGTERM"

    def words(
        self,
        command: Sequence[str],
        *,
        mounts: Mapping[str, Path] | None = None,
        read_only: bool = False,
        environment: Mapping[str, str] | None = None,
    ) -> list[str]:
        """The words that run a command in it. `mounts`: path in it to a folder or file of the host, writable."""
        script = ["set -e", *self._base(), *(["mount -o remount,bind,ro {R}"] if read_only else [])]
        script += [f"mount --bind {shlex.quote(str(host))} {{R}}{path}" for path, host in (mounts or {}).items()]
        variables = [f"{k}={v}" for k, v in (self.environment | dict(environment or {})).items()]
        inside = ["/usr/bin/env", "-i", f"--chdir={self.workdir}", *variables, *command]
        user, _, group = self.user.partition(":")
        script.append(
            f"exec setpriv --no-new-privs chroot --userspec={user}:{group or user} {{R}} {shlex.join(inside)}"
        )
        text = "\n".join(line.replace("{R}", str(self.root)) for line in script)
        return ["unshare", "--mount", "--propagation", "private", "sh", "-c", text]

    def _base(self) -> list[str]:
        local = sys.base_prefix
        return [
            "mount --bind {R} {R}",
            *(f"mount --bind /{name} {{R}}/{name}" for name in ("usr", "dev", "proc")),
            *([f"mount --bind {shlex.quote(local)} {{R}}/usr/local"] if local != "/usr" else []),
            "mount -o remount,bind,ro {R}/usr",
        ]


def build(dockerfile: Path, context: Path, directory: Path) -> Stage:
    """The last stage. Fails with the output of the instruction that failed."""
    ignore = Ignore((context / ".dockerignore").read_text().splitlines())
    stages: dict[str, Stage] = {}
    arguments: dict[str, str] = {}
    stage = Stage(directory)
    for instruction in parse(dockerfile):
        if instruction.name == "FROM":
            base, *name = instruction.text.split(" AS ")
            assert base == BASE, f"{base} has no stand-in here"
            stage = _empty(directory / f"stage{len(stages)}")
            stages[name[0] if name else "last"] = stage
        elif instruction.name == "ARG":
            name_, _, default = instruction.text.partition("=")
            arguments[name_] = default
        else:
            _follow(stage, instruction, arguments, stages, context, ignore)
    return stage


def _empty(root: Path) -> Stage:
    for name in ("usr", "dev", "proc", "tmp", "root", "var", "run", "opt", "home"):
        (root / name).mkdir(parents=True)
    (root / "tmp").chmod(0o1777)
    for name in ("bin", "sbin", "lib", "lib64"):
        (root / name).symlink_to(f"usr/{name}")
    shutil.copytree("/etc", root / "etc", symlinks=True)
    stage = Stage(root, {"PATH": "/usr/local/bin:/usr/local/sbin:/usr/bin:/usr/sbin:/bin:/sbin", "HOME": "/root"})
    _run(stage, ["ldconfig"])
    return stage


def _follow(
    stage: Stage,
    given: Instruction,
    arguments: Mapping[str, str],
    stages: Mapping[str, Stage],
    context: Path,
    ignore: Ignore,
) -> None:
    match given.name:
        case "ENV":
            stage.environment |= _pairs(given, stage.environment | dict(arguments))
        case "LABEL":
            stage.labels |= _pairs(given, stage.environment | dict(arguments))
        case "WORKDIR":
            stage.workdir = given.text
            (stage.root / given.text.lstrip("/")).mkdir(parents=True, exist_ok=True)
        case "COPY" if "from" in given.flags:
            _copy(stages[given.flags["from"]].root, stage, given, Ignore([]))
        case "COPY":
            _copy(context, stage, given, ignore)
        case "RUN":
            cached = given.flags.get("mount", "").rpartition("target=")[2]
            _run(stage, given.command, {cached: wheels(context)} if cached else {})
        case "USER":
            stage.user = given.text
        case "STOPSIGNAL":
            stage.stop_signal = given.text
        case "CMD":
            stage.command = given.command
        case "HEALTHCHECK":
            assert given.text.startswith("CMD ")
            stage.health = Instruction("CMD", {}, given.text.removeprefix("CMD ")).command


def _pairs(given: Instruction, known: Mapping[str, str]) -> dict[str, str]:
    pairs = (word.partition("=") for word in given.words)
    return {name: _VARIABLE.sub(lambda m: known.get(m[1], ""), value) for name, _, value in pairs}


def _copy(source: Path, stage: Stage, given: Instruction, ignore: Ignore) -> None:
    """A folder's content, or files into a folder; only what `.dockerignore` leaves."""
    *names, target = given.words
    into = stage.root / (target.lstrip("/") if target.startswith("/") else f"{stage.workdir.lstrip('/')}/{target}")
    for name in names:
        start = source / name.strip("/")
        if start.is_file():
            assert not ignore.ignores(name), f"{name} is in .dockerignore"
            into.mkdir(parents=True, exist_ok=True)
            shutil.copy2(start, into)
            continue

        def left_out(folder: str, entries: list[str]) -> list[str]:
            inside = Path(folder).relative_to(source)
            return [entry for entry in entries if ignore.ignores((inside / entry).as_posix())]

        shutil.copytree(start, into, symlinks=True, ignore=left_out, dirs_exist_ok=True)


def wheels(context: Path) -> Path:
    """A folder with every package of the lock files, which stands for the builder's cache mount."""
    names = [str(context / lock) for lock in LOCKS]
    state = hashlib.sha256(b"".join(Path(name).read_bytes() for name in names)).hexdigest()[:16]
    folder = context / "var" / "wheels"
    if not (folder / state).exists():
        folder.mkdir(parents=True, exist_ok=True)
        words = [sys.executable, "-m", "pip", "download", "--quiet", "--require-hashes", "--dest", str(folder)]
        for name in names:
            subprocess.run([*words, "-r", name], check=True)
        (folder / state).touch()
    return folder


def _run(stage: Stage, command: Sequence[str], caches: Mapping[str, Path] | None = None) -> None:
    given: dict[str, str] = {}
    for path in caches or {}:
        (stage.root / path.lstrip("/")).mkdir(parents=True, exist_ok=True)
        given |= {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": path}
    words = stage.words(command, mounts=caches, environment=given)
    ended = subprocess.run(words, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, f"{command}\n{ended.stdout[-2000:]}\n{ended.stderr[-4000:]}"
