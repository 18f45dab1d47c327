"""Debian's nginx with `deploy/nginx/nginx.conf`, as an operator would run it: only its paths, ports and engines change.

Invariant: every change is made at a place that is there, so the file cannot drift away from what is tested.
"""

import asyncio
import os
import shutil
import ssl
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from tests.integration.replicas.fleet import free_port

CONFIGURATION = Path(__file__).parents[2] / "deploy/nginx/nginx.conf"
SERVER = "server intellibrowse-api:8000 max_fails=1 fail_timeout=2s;"


async def nginx_program() -> str:
    """Installed from Debian when missing and this is root; else the test cannot run, and fails saying so."""
    if found := shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin"):
        return found
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        pytest.fail("nginx is not installed, and only root can install it: apt-get install nginx-light")
    for words in (["update"], ["install", "-y", "--no-install-recommends", "nginx-light"]):
        child = await asyncio.create_subprocess_exec(
            "apt-get", *words, stdout=asyncio.subprocess.DEVNULL, env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        )
        if await child.wait() != 0:
            pytest.fail(f"nginx is not installed, and apt-get {' '.join(words)} failed")
    return shutil.which("nginx", path="/usr/sbin") or pytest.fail("nginx-light brought no nginx")


def certificate(directory: Path) -> None:
    """`tls.crt` and `tls.key` for 127.0.0.1 and localhost, good for a day."""
    words = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 -subj /CN=localhost"
    names = "subjectAltName=DNS:localhost,IP:127.0.0.1"
    files = ("-keyout", str(directory / "tls.key"), "-out", str(directory / "tls.crt"))
    subprocess.run([*words.split(), "-addext", names, *files], check=True, capture_output=True)


class Nginx:
    """`changes`: further words of the file, and what stands in their place."""

    def __init__(self, directory: Path, upstreams: Sequence[int], changes: Mapping[str, str] | None = None) -> None:
        self.port, self.plain_port = free_port(), free_port()
        self.address = f"https://127.0.0.1:{self.port}"
        self.directory = directory
        certificate(directory)
        servers = "\n        ".join(SERVER.replace("intellibrowse-api:8000", f"127.0.0.1:{u}") for u in upstreams)
        places = {
            "user nginx;": "user root;" if os.geteuid() == 0 else "",  # the worker writes where the test may
            "worker_processes auto;": "worker_processes 1;",
            "/var/run/nginx.pid": f"{directory}/nginx.pid",
            "/dev/stderr": f"{directory}/error.log",
            "/dev/stdout": f"{directory}/access.log",
            "/var/cache/nginx/": f"{directory}/",
            "/etc/nginx/ssl/": f"{directory}/",
            "listen 80 ": f"listen 127.0.0.1:{self.plain_port} ",
            "listen 443 ": f"listen 127.0.0.1:{self.port} ",
            SERVER: servers,
        }
        self.path = directory / "nginx.conf"
        self.path.write_text(rendered(CONFIGURATION.read_text(), places | dict(changes or {})))
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> "Nginx":
        words = (await nginx_program(), "-p", str(self.directory), "-c", str(self.path), "-g", "daemon off;")
        with (self.directory / "error.log").open("ab") as errors:
            self._process = await asyncio.create_subprocess_exec(*words, stderr=errors)
        async with asyncio.timeout(10):
            while not (self.directory / "nginx.pid").exists():
                assert self._process.returncode is None, self.errors()
                await asyncio.sleep(0.02)
        return self

    async def stop(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.terminate()
            await self._process.wait()

    def trust(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.directory / "tls.crt"))

    def errors(self) -> str:
        return (self.directory / "error.log").read_text()[-3000:]

    def access(self) -> str:
        return (self.directory / "access.log").read_text()


def rendered(text: str, places: Mapping[str, str]) -> str:
    for place, value in places.items():
        assert place in text, f"{place!r} is not in the file"
        text = text.replace(place, value)
    return text
