"""Debian's nginx before some replicas, as a deployment would have it: safe retries, passive health checks.

A request with an `Idempotency-Key` may be sent again to another replica whatever became of the first try; a POST
without one only when it cannot have been read.
"""

import asyncio
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

CONFIGURATION = """
{user}
worker_processes 1;
pid {directory}/nginx.pid;
error_log {directory}/error.log;
events {{ worker_connections 8192; }}
http {{
  access_log {directory}/access.log;
  client_body_temp_path {directory}/body;
  proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/fastcgi;
  uwsgi_temp_path {directory}/uwsgi;
  scgi_temp_path {directory}/scgi;
  map $http_upgrade $connection_header {{ default upgrade; '' ''; }}
  upstream engine {{
    {servers}
    keepalive 32;
  }}
  server {{
    listen 127.0.0.1:{port};
    proxy_http_version 1.1;
    proxy_set_header Host $host;
    proxy_set_header Upgrade $http_upgrade;
    proxy_set_header Connection $connection_header;
    proxy_connect_timeout 2s;
    proxy_read_timeout 1h;
    proxy_buffering off;
    location / {{
      error_page 418 = @repeatable;
      if ($http_idempotency_key) {{ return 418; }}
      proxy_next_upstream error timeout http_503;
      proxy_pass http://engine;
    }}
    location @repeatable {{
      proxy_next_upstream error timeout http_503 non_idempotent;
      proxy_pass http://engine;
    }}
  }}
}}
"""


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


class Balancer:
    def __init__(self, directory: Path, port: int, upstreams: Sequence[int]) -> None:
        self.address = f"http://127.0.0.1:{port}"
        self._directory = directory
        servers = "\n    ".join(f"server 127.0.0.1:{u} max_fails=1 fail_timeout=1s;" for u in upstreams)
        user = "user root;" if os.geteuid() == 0 else ""  # else the worker could not write where the test may
        self._text = CONFIGURATION.format(user=user, directory=directory, servers=servers, port=port)
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        program = await nginx_program()
        path = self._directory / "nginx.conf"
        path.write_text(self._text)
        words = (program, "-p", str(self._directory), "-c", str(path), "-g", "daemon off;")
        with (self._directory / "error.log").open("ab") as errors:
            self._process = await asyncio.create_subprocess_exec(*words, stderr=errors)
        async with asyncio.timeout(10):
            while not (self._directory / "nginx.pid").exists():
                assert self._process.returncode is None, self.errors()
                await asyncio.sleep(0.02)

    async def stop(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.terminate()
            await self._process.wait()

    def errors(self) -> str:
        return (self._directory / "error.log").read_text()[-3000:]
