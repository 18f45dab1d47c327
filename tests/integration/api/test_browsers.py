"""What browsers are told: policies of pages and answers, hosts, origins."""

import base64
import hashlib
import re
import uuid
from collections.abc import AsyncIterator

import pytest
from aiohttp import WSServerHandshakeError
from multidict import CIMultiDict
from tests.integration.conftest import API, FAST, Running, Start, serving, token

from notification_engine.domain.caller import Role
from notification_engine.settings import Settings

USER = token("u1", Role.USER)
EVERYWHERE = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
}


async def got(running: Running, path: str, method: str = "GET", **headers: str) -> tuple[int, CIMultiDict[str], bytes]:
    sent = {k.replace("_", "-"): v for k, v in headers.items()}
    async with running.session.request(method, running.address + path, headers=sent) as answer:
        assert len({k.lower() for k in answer.headers}) == len(answer.headers), "each once"
        return answer.status, CIMultiDict(answer.headers), await answer.read()


@pytest.mark.parametrize(
    "path",
    ["/", "/docs", "/redoc", "/health", "/nowhere", f"{API}/unread-count", f"{API}/unsubscribe/x", "/openapi.json"],
)
async def test_every_answer_is_closed_to_frames_sniffing_and_caches(shared: Running, path: str) -> None:
    _, headers, _ = await got(shared, path)
    assert {name: headers[name] for name in EVERYWHERE} == EVERYWHERE
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert headers["Cache-Control"] == "no-store"
    assert "Server" not in headers


@pytest.mark.parametrize("path", ["/", "/docs", "/redoc", f"{API}/unsubscribe/x"])
async def test_a_page_allows_what_it_needs_and_no_script_in_it(shared: Running, path: str) -> None:
    _, headers, html = await got(shared, path)
    policy = dict(part.strip().split(" ", 1) for part in headers["Content-Security-Policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["base-uri"] == "'none'"
    assert "unsafe" not in policy.get("script-src", "")
    assert "*" not in headers["Content-Security-Policy"]
    assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert "camera=()" in headers["Permissions-Policy"]
    assert not re.search(rb"<[^>]*\s(on\w+|style)=", html)
    assert not re.findall(rb"https?://[\w.]", html)


async def test_https_is_to_be_kept_to_where_it_is_spoken(start: Start) -> None:
    running = await start()
    assert "Strict-Transport-Security" not in (await got(running, "/health"))[1]
    _, headers, _ = await got(running, "/health", X_Forwarded_Proto="https")
    assert headers["strict-transport-security"] == "max-age=31536000"
    untrusting = await start(TRUSTED_PROXIES=[])
    _, headers, _ = await got(untrusting, "/health", X_Forwarded_Proto="https")
    assert "strict-transport-security" not in headers


@pytest.mark.parametrize("page", ["/docs", "/redoc"])
async def test_the_documentation_is_whole_without_the_internet(shared: Running, page: str) -> None:
    status, _, html = await got(shared, page)
    assert status == 200
    needed = re.findall(r'(?:src|href)="([^"]+)"', html.decode())
    assert len(needed) >= 3
    for path in needed:
        status, headers, body = await got(shared, f"/{path}")
        assert status == 200, path
        assert len(body) > 10
        assert headers["Content-Type"].partition(";")[0] in {"text/javascript", "text/css", "image/png"}
        assert headers["Cache-Control"] == "public, max-age=3600", "a CDN may keep it, unlike every answer of the API"


@pytest.mark.parametrize(
    "name", ["core.py", "..%2fcore.py", "%2e%2e/core.py", "swagger.html", "", ".", "favicon.png%00", "..%5ccore.py"]
)
async def test_nothing_else_is_served_beside_the_documentation(shared: Running, name: str) -> None:
    assert (await got(shared, f"/docs/static/{name}"))[0] == 404


async def test_the_documentation_hides_no_script_in_its_pages(shared: Running) -> None:
    for page in ("/docs", "/redoc"):
        html = (await got(shared, page))[2].decode()
        assert re.findall(r"<script(?![^>]*src=)", html) == []


@pytest.mark.parametrize("page", ["/", f"{API}/unsubscribe/x"])
async def test_scripts_and_styles_in_a_page_are_named_by_their_hashes(shared: Running, page: str) -> None:
    _, headers, html = await got(shared, page)
    found = re.findall(r"<(script|style)>(.*?)</\1>", html.decode(), re.DOTALL)
    assert found
    for kind, text in found:
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in headers["Content-Security-Policy"]


HOSTS = ["api.example.org", "*.apps.example.org"]


@pytest.mark.parametrize(
    ("host", "served"),
    [
        ("api.example.org", True),
        ("API.EXAMPLE.ORG", True),
        ("api.example.org:8000", True),
        ("a.apps.example.org", True),
        ("apps.example.org", False),
        ("evil.example", False),
        ("api.example.org.evil.example", False),
        ("evil-api.example.org", False),
        ("evilapps.example.org", False),
        ("api.example.org@evil.example", False),
        ("evil.example:80@api.example.org", False),
        ("127.0.0.1", False),
        ("localhost", False),
        ("", False),
    ],
)
async def test_only_trusted_hosts_are_served_and_probes_always(start_hosts: Running, host: str, served: bool) -> None:
    status, _, _ = await got(start_hosts, f"{API}/unread-count", Host=host, Authorization=f"Bearer {USER}")
    assert (status == 200) is served
    assert served or status == 400
    assert (await got(start_hosts, "/health", Host=host))[0] == 200


async def test_another_hosts_name_in_a_forwarded_header_changes_nothing(start_hosts: Running) -> None:
    forged = {"Host": "evil.example", "X_Forwarded_Host": "api.example.org", "Forwarded": "host=api.example.org"}
    status, _, _ = await got(start_hosts, f"{API}/unread-count", Authorization=f"Bearer {USER}", **forged)
    assert status == 400


@pytest.fixture(scope="module")
async def start_hosts(mongod: str) -> AsyncIterator[Running]:
    changes = {
        "TRUSTED_HOSTS": HOSTS,
        "MONGODB_DATABASE": f"shared_{uuid.uuid4().hex[:12]}",
        "EMAIL_PROVIDER": "console",
    }
    async with serving(Settings(**(FAST | changes)), mongod) as running:
        yield running


ORIGINS = ["https://app.example.org", "http://localhost:3000"]
FOREIGN = [
    "https://evil.example",
    "http://app.example.org",
    "https://app.example.org:8443",
    "https://app.example.org.evil.example",
    "https://evilapp.example.org",
    "https://sub.app.example.org",
    "https://app.example.orgevil",
    "https://app.example.org@evil.example",
    "https://app.example.org/",
    "https://APP.example.org",
    "http://localhost:30000",
    "http://localhost",
    "null",
    "file://",
    "*",
    "",
]


@pytest.fixture(scope="module")
async def start_cors(mongod: str) -> AsyncIterator[Running]:
    changes = {"CORS_ENABLED": True, "CORS_ORIGINS": ORIGINS, "EMAIL_PROVIDER": "console"}
    name = {"MONGODB_DATABASE": f"shared_{uuid.uuid4().hex[:12]}"}
    async with serving(Settings(**(FAST | changes | name)), mongod) as running:
        yield running


def allowed(headers: CIMultiDict[str]) -> dict[str, str]:
    return {k.lower(): v for k, v in headers.items() if k.lower().startswith("access-control-")}


@pytest.mark.parametrize("origin", ORIGINS)
async def test_a_configured_origin_may_read_answers_without_credentials(start_cors: Running, origin: str) -> None:
    asked = {"Access_Control_Request_Method": "PATCH", "Access_Control_Request_Headers": "authorization, content-type"}
    status, headers, _ = await got(start_cors, f"{API}/unread-count", "OPTIONS", Origin=origin, **asked)
    told = allowed(headers)
    assert (status, told["access-control-allow-origin"]) == (200, origin)
    assert "access-control-allow-credentials" not in told, "tokens travel in a header, never in a cookie"
    assert "PATCH" in told["access-control-allow-methods"]
    assert "Origin" in headers["Vary"]
    for bearer in (USER, "bad"):  # a refusal can be read as well
        _, headers, _ = await got(start_cors, f"{API}/unread-count", Origin=origin, Authorization=f"Bearer {bearer}")
        told = allowed(headers)
        assert told["access-control-allow-origin"] == origin
        assert "access-control-allow-credentials" not in told
        assert {"RateLimit", "Retry-After"} <= set(told["access-control-expose-headers"].split(", "))


@pytest.mark.parametrize("origin", FOREIGN)
async def test_any_other_origin_is_told_nothing(start_cors: Running, origin: str) -> None:
    asked = {"Access_Control_Request_Method": "GET", "Access_Control_Request_Headers": "authorization"}
    _, headers, _ = await got(start_cors, f"{API}/unread-count", "OPTIONS", Origin=origin, **asked)
    assert "access-control-allow-origin" not in allowed(headers)
    _, headers, _ = await got(start_cors, f"{API}/unread-count", Origin=origin, Authorization=f"Bearer {USER}")
    assert "access-control-allow-origin" not in allowed(headers)


async def test_a_header_or_method_that_is_not_configured_is_refused_in_the_preflight(start_cors: Running) -> None:
    for asked in ({"Access_Control_Request_Method": "TRACE"}, {"Access_Control_Request_Method": "GET",
        "Access_Control_Request_Headers": "x-evil"}):  # fmt: skip
        status, _, _ = await got(start_cors, f"{API}/unread-count", "OPTIONS", Origin=ORIGINS[0], **asked)
        assert status == 400


async def test_without_cors_no_origin_is_told_anything(shared: Running) -> None:
    _, headers, _ = await got(shared, "/health", Origin=ORIGINS[0])
    assert allowed(headers) == {}


@pytest.mark.parametrize("origin", FOREIGN)
async def test_a_socket_of_a_foreign_page_is_closed_before_it_says_anything(start_cors: Running, origin: str) -> None:
    url = f"{start_cors.address}{API}/ws"
    with pytest.raises(WSServerHandshakeError) as refused:
        await start_cors.session.ws_connect(url, protocols=("bearer", USER), headers={"Origin": origin})
    assert refused.value.status == 403


@pytest.mark.parametrize("origin", [*ORIGINS, None])
async def test_a_socket_of_a_configured_page_or_of_no_page_opens(start_cors: Running, origin: str | None) -> None:
    headers = {"Origin": origin} if origin else {}
    url = f"{start_cors.address}{API}/ws"
    async with start_cors.session.ws_connect(url, protocols=("bearer", USER), headers=headers) as socket:
        assert (await socket.receive_json())["type"] == "hello"
