import ipaddress
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notification_engine.domain.errors import InvalidRequest
from notification_engine.net.guard import BlockedAddress, Guard

GUARD = Guard(https_only=False)
DENIED = {
    "this network": "0.0.0.0 0.1.2.3",
    "private": "10.0.0.1 10.255.255.255 172.16.0.1 172.31.255.255 192.168.0.1 192.168.255.255",
    "loopback": "127.0.0.1 127.0.0.53 127.255.255.255 ::1",
    "link-local": "169.254.0.1 169.254.255.255 fe80::1 febf::1 fe80::1%eth0 fe80::1%2",
    "cloud metadata": "169.254.169.254 169.254.170.2 168.63.129.16 100.100.100.200 192.0.0.192 fd00:ec2::254",
    "CGNAT": "100.64.0.1 100.127.255.255",
    "protocol and documentation": "192.0.0.1 192.0.2.1 198.18.0.1 198.19.255.255 198.51.100.1 203.0.113.1",
    "multicast": "224.0.0.1 239.255.255.250 ff02::1 ff0e::1",
    "reserved and broadcast": "240.0.0.1 255.255.255.255 192.88.99.1 100::1 2001:db8::1 3fff::1 5f00::1",
    "unspecified": "::",
    "unique local": "fc00::1 fdff:ffff::1",
    "site-local": "fec0::1 feff::1",
    "v4-mapped": "::ffff:127.0.0.1 ::ffff:10.0.0.1 ::ffff:169.254.169.254 ::ffff:168.63.129.16 ::ffff:a83f:8110",
    "v4-compatible": "::127.0.0.1 ::10.0.0.1 ::169.254.169.254 ::168.63.129.16",
    "v4-translated": "::ffff:0:127.0.0.1 ::ffff:0:168.63.129.16",
    "not yet given to anyone": "1::1 4000::1 8000::1 e000::1",
    "6to4": "2002:7f00:1:: 2002:a00:1::1 2002:a9fe:a9fe:: 2002:a83f:8110::",
    "NAT64": "64:ff9b::7f00:1 64:ff9b::169.254.169.254 64:ff9b::a83f:8110 64:ff9b:1::1",
    "Teredo": "2001::1 2001:0:4136:e378:8000:63bf:3fff:fdd2 2001:0:7f00:1::",
}
PUBLIC = {
    "beside what is denied": "9.255.255.255 11.0.0.1 100.63.255.255 100.128.0.1 126.255.255.255 128.0.0.1 "
    "168.63.129.15 168.63.129.17 169.253.255.255 169.255.0.1 172.15.255.255 172.32.0.1 192.167.255.255 "
    "192.169.0.1 198.17.255.255 198.20.0.1 223.255.255.255",
    "resolvers and others": "1.1.1.1 8.8.8.8 93.184.216.34 2606:4700:4700::1111 2001:4860:4860::8888 2a00:1450::1",
    "wrapped": "::ffff:8.8.8.8 64:ff9b::8.8.8.8 2002:808:808::",
}


@pytest.mark.parametrize(("kind", "address"), [(k, a) for k, row in DENIED.items() for a in row.split()])
def test_an_address_that_leads_inside_is_not_dialled(kind: str, address: str) -> None:
    with pytest.raises(BlockedAddress) as blocked:
        GUARD.check_address(address)
    assert address not in str(blocked.value)


@pytest.mark.parametrize(("kind", "address"), [(k, a) for k, row in PUBLIC.items() for a in row.split()])
def test_a_public_address_is_dialled(kind: str, address: str) -> None:
    GUARD.check_address(address)


@pytest.mark.parametrize("junk", ["", "example.org", "127.0.0.1 ", "0x7f000001", "127.1", "1.2.3.4.5", "::g"])
def test_what_is_no_address_is_not_dialled(junk: str) -> None:
    with pytest.raises(BlockedAddress):
        GUARD.check_address(junk)


@given(st.ip_addresses(v=4))
def test_an_ipv6_wrapping_is_judged_by_the_address_inside(inner: ipaddress.IPv4Address) -> None:
    def blocked(address: str) -> bool:
        try:
            GUARD.check_address(address)
        except BlockedAddress:
            return True
        return False

    wrapped = [f"::ffff:{inner}", f"64:ff9b::{inner}", str(ipaddress.IPv6Address(0x2002 << 112 | int(inner) << 80))]
    assert {blocked(a) for a in wrapped} == {blocked(str(inner))}


LITERALS = [
    "127.0.0.1",
    "127.0.0.1.",
    "127.1",
    "127.0.1",
    "2130706433",
    "2130706433.",
    "0x7f000001",
    "0x7f.1",
    "0x7f.0.0.0x1",
    "017700000001",
    "0177.0.0.1",
    "00000177.1",
    "127.000.000.001",
    "１２７.0.0.1",
    "１２７．０．０．１",
    "127。0。0。1",
    "①②⑦.0.0.1",
    "0",
    "0.0.0.0",
    "10.1",
    "169.254.169.254",
    "169.254.169.254.",
    "169.254.43518",
    "2852039166",
    "0xa9fea9fe",
    "0251.0376.0251.0376",
    "168.63.129.16",
    "2822734096",
    "0xa83f8110",
    "[::1]",
    "[::]",
    "[::ffff:127.0.0.1]",
    "[::ffff:168.63.129.16]",
    "[64:ff9b::7f00:1]",
    "[fe80::1%25eth0]",
    "[fd00::1]",
]


def test_there_are_at_least_sixty_ways_inside_and_each_kind_has_one() -> None:
    addresses = {a for row in DENIED.values() for a in row.split()}
    assert len(addresses) >= 60
    assert len(set(LITERALS)) >= 30
    assert all(row.split() for row in DENIED.values())


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("https://example.org/in", True),
        ("https://example.org:443/in", True),
        ("https://example.org:8443/in", True),
        ("http://example.org/in", False),
        ("https://example.org:22/in", False),
        ("http://example.org:6379/in", False),
        ("https://example.org:08443/in", True),
        ("https://example.org:27017/in", False),
        ("https://93.184.216.34:25/in", False),
        ("https://[2606:4700:4700::1111]:9200/in", False),
    ],
)
def test_only_listed_ports_may_be_named(url: str, allowed: bool) -> None:
    guard = Guard(https_only=False, ports=(443, 8443))
    if allowed:
        guard.check_url(url)
        return
    with pytest.raises(InvalidRequest, match="one of these: 443, 8443") as refused:
        guard.check_url(url)
    assert refused.value.field == "url"


@pytest.mark.parametrize("port", [80, 22, 25, 6379, 27017])
def test_the_very_port_that_is_dialled_is_checked(port: int) -> None:
    info = (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("8.8.8.8", port))
    with pytest.raises(BlockedAddress, match="port"):
        Guard(ports=(443,)).open_socket(info)


@pytest.mark.parametrize("host", LITERALS)
def test_a_url_with_a_literal_inside_address_is_refused(host: str) -> None:
    with pytest.raises(InvalidRequest, match="network that is not allowed") as refused:
        GUARD.check_url(f"http://{host}:8080/in")
    assert refused.value.field == "url"


@pytest.mark.parametrize(
    "url",
    [
        "https://example.org",
        "https://example.org:8443/a?b=c#d",
        "http://example.org./in",
        "https://8.8.8.8/in",
        "https://134744072/in",
        "https://[2606:4700:4700::1111]/in",
        "https://bücher.example/in",
        "https://xn--bcher-kva.example/in",
        "https://☃.example/in",
        "https://🚀.example/in",
        "https://10.0.0.1.example.org/in",
        "HTTPS://EXAMPLE.ORG/in",
    ],
)
def test_a_url_that_leads_outside_is_taken(url: str) -> None:
    GUARD.check_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.org/in",
        "//example.org/in",
        "https://",
        "https:///in",
        "https://exa mple.org/in",
        "https://example.org/a\tb",
        "https://example.org/a\r\nHost: inside",
        " https://example.org/",
        "https://example.org\x00/",
        "https://example.org\x7f/",
        "https://[::1/in",
        "https://example.org:99999/in",
        "https://example.org:0/in",
        "https://example.org:x/in",
        "https://user@example.org/in",
        "https://user:password@example.org/in",
        "https://:@example.org/in",
        "https://@example.org/in",
        "ftp://example.org/in",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "gopher://example.org/",
        "https://a..example.org/in",
        "https://.example.org/in",
        "https://" + "a" * 64 + ".example.org/in",
        "https://example.org/" + "a" * 2048,
    ],
    ids=lambda url: repr(url)[:40],
)
def test_what_is_no_plain_web_address_is_refused_by_name(url: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        GUARD.check_url(url)
    assert refused.value.field == "url"


def refusal(url: str) -> InvalidRequest | None:
    try:
        GUARD.check_url(url)
    except InvalidRequest as refused:
        return refused
    return None


@given(st.text(max_size=60), st.sampled_from(["", "http://", "https://", "https://a@", "https://[", "//"]))
def test_any_text_is_taken_or_refused_by_name(text: str, head: str) -> None:
    refused = refusal(head + text)
    if refused is None:
        assert (head + text).lower().startswith(("http://", "https://"))
    else:
        assert refused.field == "url"


def test_a_url_ends_at_its_bound() -> None:
    longest = "https://example.org/".ljust(2048, "a")
    GUARD.check_url(longest)
    with pytest.raises(InvalidRequest):
        GUARD.check_url(longest + "a")


def test_plain_http_needs_leave() -> None:
    Guard().check_url("https://example.org/in")
    with pytest.raises(InvalidRequest, match="https://"):
        Guard().check_url("http://example.org/in")


def test_an_opened_network_opens_itself_only() -> None:
    guard = Guard(["127.0.0.0/8", "10.20.0.0/16"], https_only=False)
    guard.check_url("http://127.0.0.1:9/in")
    guard.check_address("10.20.255.1")
    for address in ("10.21.0.1", "169.254.169.254", "::1", "192.168.0.1"):
        with pytest.raises(BlockedAddress):
            guard.check_address(address)


@pytest.mark.parametrize("network", ["junk", "10.0.0.1/8", "10.0.0.0/33", "64:ff9b::/96", ""])
def test_a_network_that_cannot_be_opened_is_refused(network: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        Guard([network])


def test_the_very_address_that_is_dialled_is_checked() -> None:
    def info(address: str) -> tuple[object, ...]:
        return (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address, 80))

    with pytest.raises(BlockedAddress):
        GUARD.open_socket(info("127.0.0.1"))
    with GUARD.open_socket(info("8.8.8.8")) as opened:
        assert not opened.getblocking()


def test_a_blocked_address_is_told_from_an_unreachable_one_by_its_class() -> None:
    assert issubclass(BlockedAddress, OSError)
    assert not issubclass(ConnectionError, BlockedAddress)
