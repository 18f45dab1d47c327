"""Where a secret's value comes from when the environment does not hold it itself: a file, AWS Secrets Manager, or KV
version 2 of Vault.

Invariant: no value and no part of one stands in an error; each error begins with the variable's name.
"""

import asyncio
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from notification_engine.domain.errors import ConfigurationError, Unavailable
from notification_engine.net.vault import Vault

if TYPE_CHECKING:
    from notification_engine.net.aws import AwsAccess, AwsClient

MAX_BYTES = 64 * 1024  # of AWS Secrets Manager; a key file has fewer by far
AWS_PREFIX, VAULT_PREFIX = "aws-secretsmanager:", "vault:"
_OPENS = {
    AWS_PREFIX: ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
    VAULT_PREFIX: ("VAULT_TOKEN",),
}  # what opens the store itself
_SEGMENT = r"[A-Za-z0-9_.@=+-]*[A-Za-z0-9_@=+-][A-Za-z0-9_.@=+-]*"  # not `..`, which would leave the mount
_VAULT = re.compile(rf"(?P<mount>{_SEGMENT})/(?P<path>{_SEGMENT}(/{_SEGMENT})*)#(?P<key>[^#\s]+)")
_AWS = re.compile(r"(?P<name>[A-Za-z0-9/_+=.@:-]{1,2048})(#(?P<key>[^#\s]+))?")


@dataclass(frozen=True, slots=True)
class Reference:
    """`mount` None: AWS Secrets Manager. `key`: of a JSON object; None for the whole text."""

    name: str
    key: str | None
    mount: str | None = None


def is_reference(value: str) -> bool:
    return value.startswith((AWS_PREFIX, VAULT_PREFIX))


def parse_reference(variable: str, value: str) -> Reference:
    """Raises ConfigurationError, without what was given: it may be a secret in the wrong place."""
    if value.startswith(VAULT_PREFIX):
        if found := _VAULT.fullmatch(value.removeprefix(VAULT_PREFIX)):
            return Reference(found["path"], found["key"], found["mount"])
        raise ConfigurationError(f"{variable}: a reference to Vault reads vault:<mount>/<path>#<key>.")
    if found := _AWS.fullmatch(value.removeprefix(AWS_PREFIX)):
        return Reference(found["name"], found["key"])
    raise ConfigurationError(
        f"{variable}: a reference to AWS Secrets Manager reads aws-secretsmanager:<name or ARN>[#<JSON key>]."
    )


def places(
    names: Iterable[str], layers: Sequence[Mapping[str, str | None]]
) -> tuple[dict[str, Path], dict[str, Reference], list[str]]:
    """Of each secret that is not given outright: its file or its reference. The environment wins over `.env`."""
    files: dict[str, Path] = {}
    references: dict[str, Reference] = {}
    problems: list[str] = []
    for name in names:
        pairs = ((layer.get(name), layer.get(f"{name}_FILE")) for layer in layers)
        given, file = next((pair for pair in pairs if any(pair)), (None, None))
        if given and file:
            problems.append(f"{name}: {name}_FILE is given too; give one of the two.")
        elif file:
            files[name] = Path(file)
        elif given and is_reference(given):
            if any(given.startswith(prefix) and name in own for prefix, own in _OPENS.items()):
                problems.append(f"{name}: it opens the secret store, so it cannot stand there; give {name}_FILE.")
                continue
            try:
                references[name] = parse_reference(name, given)
            except ConfigurationError as error:
                problems.append(str(error))
    return files, references, problems


def read_file(variable: str, path: Path) -> str:
    """Without the newline at the end, which editors and `echo` leave. Raises ConfigurationError."""
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
        text = raw.decode().rstrip("\r\n")
    except OSError as error:
        raise ConfigurationError(f"{variable}: the file cannot be read ({error.strerror}).") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"{variable}: the file is not text in UTF-8.") from None
    if len(raw) > MAX_BYTES:
        raise ConfigurationError(f"{variable}: the file is larger than {MAX_BYTES // 1024} KiB.")
    if not text.strip():
        raise ConfigurationError(f"{variable}: the file is empty.")
    return text


class SecretSources:
    """`files` and `references` by the variable they stand for. `aws` and `vault`: how their keepers are reached."""

    def __init__(
        self,
        files: Mapping[str, Path],
        references: Mapping[str, Reference],
        *,
        aws: "AwsAccess | None" = None,
        vault: Vault | None = None,
    ) -> None:
        self._files, self._references = files, references
        self._aws, self._vault = aws, vault

    @property
    def names(self) -> frozenset[str]:
        return frozenset(self._files) | frozenset(self._references)

    def renew_token(self, token: str) -> None:
        if self._vault is not None:
            self._vault.token = token

    async def read(self) -> tuple[dict[str, str], dict[str, str]]:
        """The values, and for each variable that could not be read what is wrong with it."""
        values, problems = self.read_files()
        answers = await self._fetch_all()
        for name, answer in zip(self._references, answers, strict=True):
            if isinstance(answer, str):
                values[name] = answer
            else:
                problems[name] = _told(name, answer)
        return values, problems

    def read_files(self) -> tuple[dict[str, str], dict[str, str]]:
        """As `read`, of the files alone."""
        values: dict[str, str] = {}
        problems: dict[str, str] = {}
        for name, path in self._files.items():
            try:
                values[name] = read_file(f"{name}_FILE", path)
            except ConfigurationError as error:
                problems[name] = str(error)
        return values, problems

    async def _fetch_all(self) -> list[str | ConfigurationError | Unavailable]:
        """Each secret once, though several variables take a part of it."""
        if not self._references:
            return []
        aws = self._aws_client() if any(r.mount is None for r in self._references.values()) else None
        once: dict[tuple[str | None, str], asyncio.Task[Any]] = {}
        try:
            for name, r in self._references.items():
                if (r.mount, r.name) not in once:
                    fetching = self._from_vault(name, r) if r.mount else self._from_aws(name, r, aws)
                    once[r.mount, r.name] = asyncio.create_task(fetching)
            await asyncio.wait(once.values())
            return [_part(name, r, once[r.mount, r.name]) for name, r in self._references.items()]
        finally:
            if aws is not None:
                await aws.close()
            if self._vault is not None:
                await self._vault.close()

    def _aws_client(self) -> "AwsClient":
        from notification_engine.net.aws import AwsAccess, AwsClient  # heavy: only where a reference needs it

        return AwsClient("secretsmanager", self._aws or AwsAccess("us-east-1"))

    async def _from_vault(self, variable: str, reference: Reference) -> Any:
        if self._vault is None:
            raise ConfigurationError("VAULT_ADDR: needed, with VAULT_TOKEN, for references to Vault.")
        return await self._vault.kv(reference.mount or "", reference.name, variable)

    async def _from_aws(self, variable: str, reference: Reference, client: "AwsClient | None") -> Any:
        assert client is not None
        answer = await client.call("get_secret_value", variable, SecretId=reference.name)
        if "SecretString" not in answer:
            raise ConfigurationError(f"{variable}: the secret in AWS Secrets Manager is binary; a text is needed.")
        return answer["SecretString"]


def _told(variable: str, error: Exception) -> str:
    """Led by the variable, though one fetch failed for several."""
    _, _, text = str(error).partition(": ")
    shared = str(error).startswith(("VAULT_", "AWS_"))
    return f"{variable}: {error}" if shared else f"{variable}: {text}"


def _part(variable: str, reference: Reference, fetched: "asyncio.Task[Any]") -> str | ConfigurationError | Unavailable:
    error = fetched.exception()
    if isinstance(error, ConfigurationError | Unavailable):
        return error
    whole = fetched.result()
    if reference.key is not None and isinstance(whole, str):
        try:
            whole = orjson.loads(whole)
        except orjson.JSONDecodeError:
            return ConfigurationError(f"{variable}: the secret is not JSON, so it has no keys.")
    value = whole.get(reference.key) if reference.key is not None and isinstance(whole, dict) else whole
    if not isinstance(value, str) or not value.strip():
        return ConfigurationError(f"{variable}: the secret has no text under the key that the reference names.")
    return value
