"""Amazon SES v2 (SendEmail, raw MIME, so that every header is ours). Our delivery id travels in `EmailTags`.

Imported only where SES is configured: its client is heavy. The client's own retries are off, because a repeated call
would be a second e-mail.
"""

import asyncio
import time
from contextlib import AsyncExitStack
from contextvars import ContextVar
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import aiohttp
from aiobotocore.config import AioConfig
from aiobotocore.httpsession import AIOHTTPSession
from aiobotocore.session import get_session
from botocore import exceptions as boto

from notification_engine.channels.email.credentials import Tried, unreachable
from notification_engine.channels.email.message import build
from notification_engine.channels.email.verdict import http_signs, judge
from notification_engine.domain.delivery import Reason
from notification_engine.domain.outcome import Outcome, Rejected
from notification_engine.net.exchange import Written
from notification_engine.rendering.plain import Email
from notification_engine.services.ports import Deadline

MAX_BYTES = 40 * 1024 * 1024  # of the API, after base64
TAG = "notification-delivery-id"
_LOST = (  # before or after the request was written: a connection that is reset looks like one that is refused
    boto.EndpointConnectionError,
    boto.NoCredentialsError,
    boto.PartialCredentialsError,
    boto.ProxyConnectionError,
    boto.SSLError,
    boto.HTTPClientError,
)
_TIMEOUTS = (boto.ConnectTimeoutError, boto.ReadTimeoutError, TimeoutError)
_written: ContextVar[Written] = ContextVar("ses_written")


async def _mark(_: object, __: SimpleNamespace, ___: object) -> None:
    _written.get().yes = True


_TRACE = aiohttp.TraceConfig()
_TRACE.on_request_headers_sent.append(_mark)
_TRACE.freeze()


class _Watched(AIOHTTPSession):  # type: ignore[misc]
    """Tells whether a request has reached the wire: the client's own errors do not, when our deadline ends the wait
    for a connection."""

    async def _get_session(self, proxy_url: str | None) -> aiohttp.ClientSession:
        session: aiohttp.ClientSession = await super()._get_session(proxy_url)
        if _TRACE not in session.trace_configs:
            session.trace_configs.append(_TRACE)
        return session


@dataclass(frozen=True, slots=True)
class SesConfig:
    """Without keys the client looks where AWS clients look: the environment, a role."""

    region: str
    sender: str
    sender_name: str
    access_key_id: str | None = None
    secret_access_key: str | None = None
    endpoint_url: str | None = None
    configuration_set: str | None = None
    connect_seconds: float = 5.0
    read_seconds: float = 10.0


class SesProvider:
    name = "ses"

    def __init__(self, config: SesConfig) -> None:
        self._config = config
        self._stack = AsyncExitStack()
        self._client: Any = None
        self._opening = asyncio.Lock()

    async def send(self, email: Email, deadline: Deadline) -> Outcome:
        try:
            message = build(email, self._config.sender, self._config.sender_name)
            request = self._request(email, str(message["To"]), message.as_bytes())
        except ValueError:
            return Rejected(Reason.INVALID_ADDRESS, self.name)
        if len(request["Content"]["Raw"]["Data"]) * 4 // 3 > MAX_BYTES:
            return Rejected(Reason.TOO_LARGE, self.name)
        if deadline.at <= time.monotonic():
            return judge(self.name, "timeout before", detail="deadline")
        written = Written()
        _written.set(written)
        try:
            client = await self._opened()
            async with asyncio.timeout(deadline.at - time.monotonic()):
                answer = await client.send_email(**request)
        except boto.ClientError as error:
            return self._refused(error)
        except _TIMEOUTS as error:
            return judge(self.name, f"timeout {_when(written)}", detail=type(error).__name__)
        except _LOST as error:
            return judge(self.name, f"lost {_when(written)}", detail=type(error).__name__)
        except Exception as error:  # noqa: BLE001 - an answer that the client cannot read: the provider may have it
            return judge(self.name, "unreadable", detail=type(error).__name__)
        message_id = answer.get("MessageId")
        if not message_id:
            return judge(self.name, "2xx", detail="no MessageId")
        return judge(self.name, "200", detail="HTTP 200", message_id=message_id)

    async def try_credentials(self, seconds: float) -> Tried:
        """GetAccount (SES API v2): whether sending is on, and whether the account is still in the sandbox."""
        _written.set(Written())
        try:
            async with asyncio.timeout(seconds):
                account = await (await self._opened()).get_account()
        except boto.ClientError as error:
            code = error.response.get("Error", {}).get("Code", "")
            todo = "Check the AWS keys or the role (ses:GetAccount, ses:SendEmail) and AWS_REGION."
            return Tried(False, f"SES refused ({code})", todo)
        except (boto.NoCredentialsError, boto.PartialCredentialsError):
            return Tried(False, "there are no AWS credentials", "Set AWS_ACCESS_KEY_ID and its secret, or give a role.")
        except Exception as error:  # noqa: BLE001 - the client raises what it likes; nothing was sent
            return unreachable("SES", error)
        if not account.get("SendingEnabled", True):
            return Tried(False, "sending is paused for the account", "Look into the account's dashboard of SES.")
        if not account.get("ProductionAccessEnabled", True):
            todo = "Ask AWS for production access; until then only verified recipients get e-mail."
            return Tried(False, "the account is in the sandbox", todo, wrong=False)
        return Tried(True, f"the account may send in {self._config.region}")

    async def close(self) -> None:
        await self._stack.aclose()

    def _request(self, email: Email, to: str, raw: bytes) -> dict[str, Any]:
        request: dict[str, Any] = {
            "FromEmailAddress": self._config.sender,
            "Destination": {"ToAddresses": [to]},
            "Content": {"Raw": {"Data": raw}},
            "EmailTags": [{"Name": TAG, "Value": email.delivery_id}],
        }
        if self._config.configuration_set:
            request["ConfigurationSetName"] = self._config.configuration_set
        return request

    def _refused(self, error: boto.ClientError) -> Outcome:
        code = str(error.response.get("Error", {}).get("Code", ""))
        text = str(error.response.get("Error", {}).get("Message", ""))
        status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        code = code.removesuffix("Error") if code == "MessageRejectedError" else code
        unverified = [f"{code}: not verified"] if "not verified" in text.lower() else []
        return judge(self.name, *unverified, code, *http_signs(status), detail=f"{code} (HTTP {status})")

    async def _opened(self) -> Any:
        async with self._opening:
            if self._client is None:
                c = self._config
                config = AioConfig(
                    connect_timeout=c.connect_seconds,
                    read_timeout=c.read_seconds,
                    retries={"total_max_attempts": 1},
                    http_session_cls=_Watched,
                    max_pool_connections=64,
                )
                self._client = await self._stack.enter_async_context(
                    get_session().create_client(
                        "sesv2",
                        region_name=c.region,
                        aws_access_key_id=c.access_key_id,
                        aws_secret_access_key=c.secret_access_key,
                        endpoint_url=c.endpoint_url,
                        config=config,
                    )
                )
            return self._client


def _when(written: Written) -> str:
    return "after" if written.yes else "before"
