"""Debian's nginx with `deploy/nginx/nginx.conf`, as an operator would run it: only its paths, ports and engines change.

Invariant: every change is made at a place that is there, so the file cannot drift away from what is tested.
"""

import asyncio
import os
import ssl
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.integration.replicas.fleet import free_port
from tests.servers.debian import program

CONFIGURATION = Path(__file__).parents[2] / "deploy/nginx/nginx.conf"
SERVER = "server intellibrowse-api:8000 max_fails=1 fail_timeout=2s;"


async def nginx_program() -> str:
    return await asyncio.to_thread(program, "nginx", "nginx-light")


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
