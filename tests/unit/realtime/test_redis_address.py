import pytest

from notification_engine.realtime.redis_address import RedisAddress, RedisKind, parse_redis_url

S, N, C = RedisKind.SINGLE, RedisKind.SENTINEL, RedisKind.CLUSTER


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://cache", RedisAddress(S, (("cache", 6379),))),
        ("redis://cache:6380/0", RedisAddress(S, (("cache", 6380),))),
        ("redis://[::1]:7000", RedisAddress(S, (("::1", 7000),))),
        ("redis://:pw@cache", RedisAddress(S, (("cache", 6379),), password="pw")),
        ("redis://ada:p%40w%3A1@cache", RedisAddress(S, (("cache", 6379),), username="ada", password="p@w:1")),
        ("rediss://cache?ssl_ca_certs=/ca.pem&ssl_check_hostname=false",
         RedisAddress(S, (("cache", 6379),), tls=True,
                      tls_options=(("ssl_ca_certs", "/ca.pem"), ("ssl_check_hostname", False)))),
        ("redis+sentinel://a,b:1/main", RedisAddress(N, (("a", 26379), ("b", 1)), service="main")),
        ("rediss+sentinel://u:p@a/main?sentinel_password=q",
         RedisAddress(N, (("a", 26379),), True, "u", "p", "main", None, "q")),
        ("redis+cluster://a:1,b:2,c:3", RedisAddress(C, (("a", 1), ("b", 2), ("c", 3)))),
        ("redis://a:1?cluster=true", RedisAddress(C, (("a", 1),))),
        ("redis://a:1?cluster=false", RedisAddress(S, (("a", 1),))),
    ],
)  # fmt: skip
def test_an_address_is_read(url: str, expected: RedisAddress) -> None:
    assert parse_redis_url(url) == expected


@pytest.mark.parametrize(
    ("url", "word"),
    [
        ("cache:6379", "begin"),
        ("http://cache", "begin"),
        ("redis:/cache", "begin"),
        ("unix:///tmp/redis.sock", "begin"),
        ("redis+cloud://cache", "begin"),
        ("redis://", "host"),
        ("redis://cache:0", "host"),
        ("redis://cache:99999", "host"),
        ("redis://ca che", "host"),
        ("redis://a,b", "several"),
        ("redis://cache/first", "database"),
        ("redis+sentinel://a,b", "service"),
        ("redis+sentinel://a/b/c", "service"),
        ("redis+sentinel://a/b?cluster=true", "Sentinel"),
        ("redis://a?cluster=perhaps", "cluster"),
        ("redis://a?sentinel_password=x", "sentinel_password"),
        ("redis://a?socket_timeout=1", "socket_timeout"),
        ("redis://a?ssl_ca_certs=/ca.pem", "rediss"),
        ("rediss://a?ssl_check_hostname=0", "ssl_check_hostname"),
    ],
)
def test_what_is_no_address_is_said(url: str, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        parse_redis_url(url)


def test_no_text_shows_a_password() -> None:
    address = parse_redis_url("redis+sentinel://u:geheim@a/main?sentinel_password=geheim")
    assert "geheim" not in repr(address)
    with pytest.raises(ValueError, match="host") as refused:
        parse_redis_url("redis://u:geheim@a b")
    assert "geheim" not in str(refused.value)
