"""The rules of HashiCorp Vault that the engine leans on, over real HTTP: the transit engine and KV version 2
(developer.hashicorp.com/vault/api-docs/secret/transit and /secret/kv/kv-v2).

Kept: the token and namespace headers (403 without), mounts (404 with an empty list of errors), base64 of plain texts
(400), `vault:v<n>:` in front of ciphertexts, decryption by their version down to `min_decryption_version` (400),
rewrapping, soft-deleted and destroyed versions (404 with metadata), a sealed server (503), a standby (307).
"""

import base64
import binascii
import os
from collections.abc import Mapping
from typing import Any

from aiohttp import web
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from tests.servers.http import HttpServer

TOKEN = "hvs.of-the-tests"
KEY, MOUNT = "engine", "transit"


class Vault(HttpServer):
    def __init__(self) -> None:
        super().__init__()
        self.token = TOKEN
        self.namespace: str | None = None
        self.sealed = self.standby = False
        self.versions: list[bytes] = [os.urandom(32)]
        self.min_decryption_version = 1
        self.secrets: dict[tuple[str, str], list[Mapping[str, Any] | None]] = {}
        self.requests: list[str] = []

    def application(self) -> web.Application:
        application = web.Application()
        application.router.add_route("*", "/v1/{path:.*}", self._answer)
        return application

    def rotate(self) -> None:
        self.versions.append(os.urandom(32))

    def put(self, mount: str, path: str, **values: Any) -> None:
        self.secrets.setdefault((mount, path), []).append(values)

    def delete(self, mount: str, path: str) -> None:
        self.secrets[mount, path][-1] = None

    async def _answer(self, request: web.Request) -> web.Response:
        path = request.match_info["path"]
        self.requests.append(f"{request.method} {path}")
        if self.sealed:
            return _errors(503, "Vault is sealed")
        if self.standby:
            return web.Response(status=307, headers={"Location": "http://127.0.0.1:1/v1/" + path})
        if request.headers.get("X-Vault-Token") != self.token or request.headers.get("X-Vault-Request") != "true":
            return _errors(403, "permission denied")
        if request.headers.get("X-Vault-Namespace") != self.namespace:
            return _errors(403, "permission denied")
        mount, _, rest = path.partition("/")
        if mount == MOUNT:
            return self._transit(request.method, rest, await request.json())
        return self._kv(request.method, mount, rest)

    def _transit(self, method: str, rest: str, body: Mapping[str, Any]) -> web.Response:
        verb, _, name = rest.partition("/")
        if method not in {"POST", "PUT"} or verb not in {"encrypt", "decrypt", "rewrap"}:
            return _errors(405, "unsupported operation")
        if name != KEY:
            return _errors(400, "encryption key not found")
        try:
            if verb == "encrypt":
                return _data(self._encrypt(base64.b64decode(body["plaintext"], validate=True)))
            plain = self._decrypt(str(body["ciphertext"]))
        except (KeyError, ValueError, binascii.Error, IndexError, InvalidTag):
            return _errors(400, "cipher: message authentication failed")
        if verb == "rewrap":
            return _data(self._encrypt(plain))
        return _data({"plaintext": base64.b64encode(plain).decode()})

    def _encrypt(self, plain: bytes) -> dict[str, Any]:
        nonce = os.urandom(12)
        sealed = base64.b64encode(nonce + AESGCM(self.versions[-1]).encrypt(nonce, plain, None)).decode()
        return {"ciphertext": f"vault:v{len(self.versions)}:{sealed}", "key_version": len(self.versions)}

    def _decrypt(self, text: str) -> bytes:
        scheme, version, sealed = text.split(":")
        number = int(version.removeprefix("v"))
        if scheme != "vault" or number < self.min_decryption_version:
            raise ValueError
        raw = base64.b64decode(sealed, validate=True)
        return AESGCM(self.versions[number - 1]).decrypt(raw[:12], raw[12:], None)

    def _kv(self, method: str, mount: str, rest: str) -> web.Response:
        kind, _, path = rest.partition("/")
        versions = self.secrets.get((mount, path))
        if method != "GET" or kind != "data" or versions is None:
            return _errors(404)
        metadata = {"version": len(versions), "destroyed": False, "deletion_time": ""}
        if versions[-1] is None:
            deleted = {"data": None, "metadata": metadata | {"deletion_time": "2026-11-01T00:00:00Z"}}
            return _data(deleted, status=404)
        return _data({"data": versions[-1], "metadata": metadata})


def _data(data: Mapping[str, Any], status: int = 200) -> web.Response:
    body = {"request_id": "of-the-tests", "lease_id": "", "renewable": False, "data": data, "warnings": None}
    return web.json_response(body, status=status)


def _errors(status: int, *texts: str) -> web.Response:
    return web.json_response({"errors": list(texts)}, status=status)
