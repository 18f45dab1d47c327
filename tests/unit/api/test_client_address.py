"""Who asks behind proxies, and everybody who would like to be taken for somebody else."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import HTTPConnection

from notification_engine.api.client_address import ClientAddress, parse_address
from notification_engine.api.rate_limits import address_of

TRUSTED = ["10.0.0.0/8", "127.0.0.0/8", "2001:db8:1::/48"]
PROXY = "10.0.0.1"


async def seen(
    *headers: tuple[str, str], peer: str | None = PROXY, header: str = "x-forwarded-for", kind: str = "http"
) -> dict[str, Any]:
    """The scope that the application gets."""
    found: list[dict[str, Any]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        found.append(scope)

    scope = {
        "type": kind,
        "client": (peer, 4711) if peer else None,
        "scheme": {"http": "http", "websocket": "ws"}[kind],
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in headers],
    }
    await ClientAddress(app, TRUSTED, header)(scope, None, None)  # type: ignore[arg-type]
    return found[0]


async def client(*values: str, peer: str = PROXY) -> str:
    scope = await seen(*(("x-forwarded-for", value) for value in values), peer=peer)
    return str(scope["client"][0])


async def test_a_trusted_proxy_names_the_client() -> None:
    assert await client("198.51.100.7") == "198.51.100.7"


async def test_without_a_header_the_peer_is_the_client() -> None:
    assert await client() == PROXY
    assert await client(peer="198.51.100.7") == "198.51.100.7"


async def test_an_untrusted_peer_is_the_client_whatever_it_writes() -> None:
    forged = [("x-forwarded-for", "127.0.0.1"), ("x-forwarded-proto", "https"), ("forwarded", "for=1.2.3.4")]
    for header in ("x-forwarded-for", "forwarded"):
        scope = await seen(*forged, ("x-real-ip", "127.0.0.1"), peer="198.51.100.7", header=header)
        assert scope["client"] == ("198.51.100.7", 4711)
        assert scope["scheme"] == "http"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("127.0.0.1, 198.51.100.7", "198.51.100.7"),  # the client's own invention stands left of what the proxy wrote
        ("8.8.8.8, 127.0.0.1, 198.51.100.7, 10.1.1.1, 10.0.0.9", "198.51.100.7"),
        ("10.1.1.1, 10.2.2.2", "10.1.1.1"),  # trusted all the way
        ("198.51.100.7:5678", "198.51.100.7"),
        ("[2001:db8::7]:5678", "2001:db8::7"),
        ("2001:DB8:0:0::7", "2001:db8::7"),
        ("::ffff:198.51.100.7", "198.51.100.7"),
        ("198.51.100.7, ::ffff:10.0.0.5", "198.51.100.7"),
        ("fe80::1%eth0", "fe80::1"),
        ("198.51.100.7, junk", PROXY),  # whoever handed on what cannot be read
        ("198.51.100.7, junk, 10.0.0.7", "10.0.0.7"),
        ("198.51.100.7,", PROXY),
        ("", PROXY),
        ("unknown", PROXY),
        ("_hidden", PROXY),
        ("0x7f000001", PROXY),
        ("127.1", PROXY),
        ("1.2.3.4; drop", PROXY),
        ("1.2.3.4:port", PROXY),
        ("[::1", PROXY),
        ("２.2.2.2".encode().decode("latin-1"), PROXY),
        ("127.0.0.1 198.51.100.7", PROXY),
    ],
)
async def test_the_first_hop_from_the_right_that_is_no_proxy_of_ours_is_the_client(value: str, expected: str) -> None:
    assert await client(value) == expected


async def test_several_headers_are_one_list() -> None:
    assert await client("127.0.0.1", "198.51.100.7", "10.0.0.3") == "198.51.100.7"


async def test_a_peer_of_ipv4_inside_ipv6_is_known_again() -> None:
    assert await client("198.51.100.7", peer="::ffff:10.0.0.1") == "198.51.100.7"
    assert await client("1.2.3.4", peer="::ffff:198.51.100.7") == "198.51.100.7"


async def test_a_client_without_an_address_stays_one() -> None:
    assert (await seen(("x-forwarded-for", "1.2.3.4"), peer=None))["client"] is None


async def test_only_the_one_header_is_believed() -> None:
    """A proxy hands on, as they are, the headers that it does not know."""
    both = [("forwarded", "for=198.51.100.7;proto=https"), ("x-forwarded-for", "192.0.2.1")]
    assert (await seen(*both))["client"][0] == "192.0.2.1"
    assert (await seen(*both, header="forwarded"))["client"][0] == "198.51.100.7"
    forged = [("forwarded", "for=127.0.0.1;proto=https")]
    scope = await seen(*forged)
    assert (scope["client"][0], scope["scheme"]) == (PROXY, "http")
    scope = await seen(("x-forwarded-for", "127.0.0.1"), ("x-forwarded-proto", "https"), header="forwarded")
    assert (scope["client"][0], scope["scheme"]) == (PROXY, "http")


@pytest.mark.parametrize(
    ("value", "expected", "scheme"),
    [
        ("for=198.51.100.7", "198.51.100.7", "http"),
        ('For="[2001:db8::7]:4711";proto=https;by=203.0.113.43', "2001:db8::7", "https"),
        ("for=127.0.0.1;proto=https, for=198.51.100.7;proto=http", "198.51.100.7", "http"),
        ("for=198.51.100.7, for=10.0.0.7", "198.51.100.7", "http"),
        ("for=unknown", PROXY, "http"),
        ('for="198.51.100.7', PROXY, "http"),
        ("for=198.51.100.7;", PROXY, "http"),
        ("198.51.100.7", PROXY, "http"),
        ('for="1.2.3.4, for=5.6.7.8"', PROXY, "http"),
    ],
)
async def test_the_standard_header_is_read_the_same_way(value: str, expected: str, scheme: str) -> None:
    scope = await seen(("forwarded", value), header="forwarded")
    assert (scope["client"][0], scope["scheme"]) == (expected, scheme)


@pytest.mark.parametrize(
    ("value", "scheme"),
    [("https", "https"), ("http, https", "https"), ("https, http", "http"), ("javascript", "http"), ("", "http")],
)
async def test_the_scheme_is_the_one_that_the_nearest_proxy_wrote(value: str, scheme: str) -> None:
    assert (await seen(("x-forwarded-proto", value)))["scheme"] == scheme


async def test_a_socket_keeps_a_scheme_of_sockets() -> None:
    assert (await seen(("x-forwarded-proto", "https"), kind="websocket"))["scheme"] == "wss"


@given(st.text(max_size=80))
def test_any_text_is_an_address_or_none(text: str) -> None:
    address = parse_address(text)
    assert address is None or parse_address(str(address)) == address


@given(st.lists(st.text(st.characters(max_codepoint=255, exclude_characters="\r\n"), max_size=30), max_size=50))
async def test_no_header_breaks_a_request(values: list[str]) -> None:
    for header in ("x-forwarded-for", "forwarded"):
        scope = await seen(*((header, v) for v in values), ("x-forwarded-proto", "".join(values)), header=header)
        assert parse_address(scope["client"][0]) is not None


@pytest.mark.parametrize(
    ("host", "subject"),
    [
        ("198.51.100.7", "198.51.100.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("testclient", "testclient"),
    ],
)
def test_an_ipv6_client_is_its_network(host: str, subject: str) -> None:
    """Within it everyone can choose any of 2^64 addresses."""
    assert address_of(HTTPConnection({"type": "http", "client": (host, 1)})) == subject
