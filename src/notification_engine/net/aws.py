"""AWS KMS as keeper of the master key, AWS Secrets Manager for settings' secrets.

Imported only where one of them is configured: the client is heavy. Without keys it looks where AWS clients look (the
environment, a role). No text of an error holds what AWS answered but the code.
"""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from botocore import exceptions as boto

from notification_engine.domain.errors import ConfigurationError, Unavailable

_PASSING = frozenset(
    {
        "DependencyTimeoutException",
        "InternalFailure",
        "InternalServiceError",
        "KMSInternalException",
        "KeyUnavailableException",
        "LimitExceededException",
        "RequestTimeout",
        "ServiceUnavailable",
        "ThrottlingException",
    }
)
_ANOTHER_KEY = frozenset({"IncorrectKeyException", "AccessDeniedException"})  # the second where no rights remain


class Refused(ConfigurationError):
    """By AWS, with its code."""

    def __init__(self, text: str, code: str) -> None:
        super().__init__(text)
        self.code = code


@dataclass(frozen=True, slots=True)
class AwsAccess:
    region: str
    access_key_id: str | None = field(default=None, repr=False)
    secret_access_key: str | None = field(default=None, repr=False)
    endpoint_url: str | None = None


class AwsClient:
    """One service's client, opened at the first call."""

    def __init__(self, service: str, access: AwsAccess) -> None:
        self._service, self._access = service, access
        self._stack = AsyncExitStack()
        self._client: Any = None
        self._opening = asyncio.Lock()

    async def call(self, operation: str, variable: str, **arguments: Any) -> Any:
        """Raises ConfigurationError naming `variable` for what a person has to change, Unavailable for what passes."""
        try:
            return await getattr(await self._opened(), operation)(**arguments)
        except boto.ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", ""))
            status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
            if code in _PASSING or status >= 500:
                raise Unavailable(
                    f"{variable}: AWS {self._service} is not available ({code}).", retry_after=5
                ) from None
            raise Refused(f"{variable}: AWS {self._service} refuses it ({code}).", code) from None
        except (boto.NoCredentialsError, boto.PartialCredentialsError, boto.ParamValidationError) as error:
            raise ConfigurationError(f"{variable}: AWS {self._service}: {type(error).__name__}.") from None
        except (boto.BotoCoreError, boto.HTTPClientError, TimeoutError, OSError) as error:
            kind = type(error).__name__
            raise Unavailable(f"{variable}: AWS {self._service} does not answer ({kind}).", retry_after=5) from None

    async def close(self) -> None:
        await self._stack.aclose()
        self._client = None

    async def _opened(self) -> Any:
        async with self._opening:
            if self._client is None:
                a = self._access
                config = AioConfig(connect_timeout=5, read_timeout=10, retries={"total_max_attempts": 3})
                opening = get_session().create_client(
                    self._service,
                    region_name=a.region,
                    aws_access_key_id=a.access_key_id,
                    aws_secret_access_key=a.secret_access_key,
                    endpoint_url=a.endpoint_url,
                    config=config,
                )
                self._client = await self._stack.enter_async_context(opening)
            return self._client


class KmsKeys:
    """A `security.envelope.KeyWrapper` on a symmetric key of KMS. What a key is for is the encryption context. Each
    call names the key: whoever can write to the database could else bring in what another key of theirs wrapped."""

    name = "aws_kms"

    def __init__(self, key_id: str, access: AwsAccess, *, previous: str | None = None) -> None:
        self._key_id = key_id
        self._known = (key_id, previous) if previous else (key_id,)
        self._client = AwsClient("kms", access)
        self.master = f"{self.name}:{key_id}"

    async def wrap(self, plain: bytes, context: str) -> bytes:
        return await self._blob("encrypt", KeyId=self._key_id, Plaintext=plain, EncryptionContext=_context(context))

    async def unwrap(self, wrapped: bytes, context: str) -> bytes:
        for key in self._known[:-1]:
            try:
                return await self._decrypt(key, wrapped, context)
            except Refused as error:
                if error.code not in _ANOTHER_KEY:
                    raise
        return await self._decrypt(self._known[-1], wrapped, context)

    async def rewrap(self, wrapped: bytes, context: str) -> bytes:
        return await self.wrap(await self.unwrap(wrapped, context), context)

    async def _decrypt(self, key: str, wrapped: bytes, context: str) -> bytes:
        arguments = {"KeyId": key, "CiphertextBlob": wrapped, "EncryptionContext": _context(context)}
        return bytes((await self._client.call("decrypt", "AWS_KMS_KEY_ID", **arguments))["Plaintext"])

    def renew_token(self, token: str) -> None: ...

    async def close(self) -> None:
        await self._client.close()

    async def _blob(self, operation: str, **arguments: Any) -> bytes:
        return bytes((await self._client.call(operation, "AWS_KMS_KEY_ID", **arguments))["CiphertextBlob"])


def _context(purpose: str) -> dict[str, str]:
    return {"notification-engine": purpose}
