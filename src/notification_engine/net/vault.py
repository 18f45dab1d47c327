"""HashiCorp Vault over its HTTP API: the transit engine keeps the master key, KV version 2 keeps settings' secrets
(developer.hashicorp.com/vault/api-docs/secret/transit and /secret/kv/kv-v2).

Invariants: the token travels in its header alone and to this address alone, so redirects of a standby are not followed;
no text of an error holds what Vault answered.
"""

import asyncio
import base64
import binascii
from collections.abc import Mapping
from typing import Any

import aiohttp
import orjson

from notification_engine.domain.errors import ConfigurationError, Unavailable

SECONDS = 10.0
MAX_ANSWER = 1024 * 1024


class Vault:
    """`token` may be replaced while the engine runs."""

    def __init__(self, address: str, token: str, *, namespace: str | None = None) -> None:
        self._address = address.rstrip("/")
        self.token = token
        self._namespace = namespace
        self._session: aiohttp.ClientSession | None = None

    async def post(self, path: str, body: Mapping[str, Any], variable: str) -> Any:
        return await self._request("POST", path, body, variable)

    async def kv(self, mount: str, path: str, variable: str) -> Mapping[str, Any]:
        """The newest version of a secret of KV version 2. Raises as `_request`."""
        data = await self._request("GET", f"{mount}/data/{path}", None, variable)
        values = data.get("data") if isinstance(data, dict) else None
        if not isinstance(values, dict):
            raise ConfigurationError(f"{variable}: {mount}/{path} is not a secret of Vault's KV version 2.")
        return values

    async def _request(self, method: str, path: str, body: Mapping[str, Any] | None, variable: str) -> Any:
        """Raises ConfigurationError naming `variable` (or VAULT_TOKEN) for what a person has to change, Unavailable for
        what passes."""
        headers = {"X-Vault-Token": self.token, "X-Vault-Request": "true"}
        if self._namespace:
            headers["X-Vault-Namespace"] = self._namespace
        try:
            async with asyncio.timeout(SECONDS):
                async with self._opened().request(
                    method, f"{self._address}/v1/{path}", json=body, headers=headers, allow_redirects=False
                ) as answer:
                    raw = await answer.content.read(MAX_ANSWER)
                    status = answer.status
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Unavailable(f"VAULT_ADDR: Vault does not answer ({type(error).__name__}).", retry_after=5) from None
        if status == 200:
            return _data(raw)
        if status == 403:
            raise ConfigurationError(f"VAULT_TOKEN: Vault refuses it for {path}; wrong, expired or not allowed.")
        if status in {400, 404, 405}:
            raise ConfigurationError(f"{variable}: Vault has nothing usable at {path} (HTTP {status}).")
        raise Unavailable(f"VAULT_ADDR: Vault answered HTTP {status} (sealed, standby or overloaded).", retry_after=5)

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            jar = aiohttp.DummyCookieJar()
            self._session = aiohttp.ClientSession(cookie_jar=jar, trust_env=False, json_serialize=_dumped)
        return self._session

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None


class VaultKeys:
    """A `security.envelope.KeyWrapper` on a key of the transit engine. What a key is for stands in what is wrapped, and
    not in `associated_data`, with which `rewrap` would not work."""

    name = "vault"

    def __init__(self, vault: Vault, mount: str, key: str) -> None:
        self.vault = vault
        self._mount, self._key = mount, key
        self.master = f"{self.name}:{mount}/{key}"

    async def wrap(self, plain: bytes, context: str) -> bytes:
        labelled = base64.b64encode(orjson.dumps([context, plain.hex()])).decode()
        return await self._ciphertext("encrypt", {"plaintext": labelled})

    async def rewrap(self, wrapped: bytes, context: str) -> bytes:
        return await self._ciphertext("rewrap", {"ciphertext": wrapped.decode()})

    async def unwrap(self, wrapped: bytes, context: str) -> bytes:
        path, variable = f"{self._mount}/decrypt/{self._key}", "VAULT_TRANSIT_KEY"
        data = await self.vault.post(path, {"ciphertext": wrapped.decode()}, variable)
        try:
            label, plain = orjson.loads(base64.b64decode(data["plaintext"], validate=True))
            if label == context:
                return bytes.fromhex(plain)
        except (KeyError, TypeError, ValueError, binascii.Error):
            pass  # the same as a label of another key
        raise ConfigurationError(f"{variable}: what Vault unwrapped is not the data key {context}.")

    async def _ciphertext(self, verb: str, body: Mapping[str, str]) -> bytes:
        data = await self.vault.post(f"{self._mount}/{verb}/{self._key}", body, "VAULT_TRANSIT_KEY")
        text = data.get("ciphertext") if isinstance(data, dict) else None
        if not isinstance(text, str) or not text.startswith("vault:v"):
            raise Unavailable("VAULT_ADDR: Vault's answer holds no ciphertext.", retry_after=5)
        return text.encode()

    def renew_token(self, token: str) -> None:
        self.vault.token = token

    async def close(self) -> None:
        await self.vault.close()


def _dumped(body: Any) -> str:
    return orjson.dumps(body).decode()


def _data(raw: bytes) -> Any:
    try:
        return orjson.loads(raw)["data"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        raise Unavailable("VAULT_ADDR: Vault's answer cannot be read.", retry_after=5) from None
