"""What `REDIS_URL` says: a single server, Sentinel or a Cluster; TLS, user and password. No text here holds a secret.

redis://[[user]:password@]host[:port]            rediss:// is the same over TLS, also below
redis+sentinel://[...@]host[:port],.../service   ?sentinel_username= &sentinel_password= for the sentinels themselves
redis+cluster://[...@]host[:port],...            or redis://...?cluster=true
?ssl_ca_certs= &ssl_certfile= &ssl_keyfile= &ssl_check_hostname=false, with TLS
"""

import re
from dataclasses import dataclass, field
from enum import StrEnum
from urllib.parse import parse_qsl, unquote

REDIS_PORT = 6379
SENTINEL_PORT = 26379
TLS_OPTIONS = frozenset({"ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_check_hostname"})
SENTINEL_OPTIONS = frozenset({"sentinel_username", "sentinel_password"})
_SCHEME = re.compile(r"redis(s?)(?:\+(sentinel|cluster))?", re.ASCII)
_HOST = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]+))(?::(\d{1,5}))?", re.ASCII)
_BOOLEANS = {"true": True, "false": False}


class RedisKind(StrEnum):
    SINGLE = "single"
    SENTINEL = "sentinel"
    CLUSTER = "cluster"


@dataclass(frozen=True, slots=True)
class RedisAddress:
    kind: RedisKind
    hosts: tuple[tuple[str, int], ...]
    tls: bool = False
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    service: str | None = None
    sentinel_username: str | None = None
    sentinel_password: str | None = field(default=None, repr=False)
    tls_options: tuple[tuple[str, str | bool], ...] = ()


def parse_redis_url(url: str) -> RedisAddress:
    """Raises ValueError with what would be right."""
    scheme, separator, rest = url.partition("://")
    found = _SCHEME.fullmatch(scheme)
    if not separator or found is None:
        raise ValueError("must begin with redis://, rediss://, redis+sentinel:// or redis+cluster://")
    tls = bool(found[1])
    rest, _, query = rest.partition("?")
    credentials, at, place = rest.rpartition("@")
    hosts, _, path = place.partition("/")
    options = dict(parse_qsl(query, keep_blank_values=True))
    kind = _kind(found[2], options.pop("cluster", None))
    sentinel = kind is RedisKind.SENTINEL
    user, _, password = credentials.partition(":")
    return RedisAddress(
        kind=kind,
        hosts=_hosts(hosts, SENTINEL_PORT if sentinel else REDIS_PORT, several=kind is not RedisKind.SINGLE),
        tls=tls,
        username=unquote(user) or None if at else None,
        password=unquote(password) or None if at else None,
        service=_service(kind, path),
        sentinel_username=options.pop("sentinel_username", None) if sentinel else None,
        sentinel_password=options.pop("sentinel_password", None) if sentinel else None,
        tls_options=_tls_options(options, tls),
    )


def _kind(named: str | None, cluster: str | None) -> RedisKind:
    if cluster is not None and cluster not in _BOOLEANS:
        raise ValueError("the option cluster is true or false")
    kind = RedisKind(named or "single")
    if cluster == "true":
        if kind is RedisKind.SENTINEL:
            raise ValueError("Sentinel and cluster=true exclude each other")
        return RedisKind.CLUSTER
    return kind


def _hosts(text: str, port: int, *, several: bool) -> tuple[tuple[str, int], ...]:
    hosts = []
    for one in text.split(","):
        found = _HOST.fullmatch(one)
        if found is None or not 0 < int(found[3] or port) < 65_536:
            raise ValueError("needs a host, or host:port, behind the ://")
        hosts.append((found[1] or found[2], int(found[3] or port)))
    if len(hosts) > 1 and not several:
        raise ValueError("names several hosts: use redis+sentinel:// or redis+cluster://")
    return tuple(hosts)


def _service(kind: RedisKind, path: str) -> str | None:
    """A path of a single server or a Cluster could only be the number of a database, which signals do not know."""
    if kind is RedisKind.SENTINEL:
        if not path or "/" in path:
            raise ValueError("Sentinel needs the service's name: redis+sentinel://host:port,host:port/service")
        return unquote(path)
    if path and not path.isdecimal():
        raise ValueError("the path can only be the number of a database")
    return None


def _tls_options(options: dict[str, str], tls: bool) -> tuple[tuple[str, str | bool], ...]:
    if unknown := sorted(options.keys() - TLS_OPTIONS):
        raise ValueError(f"does not know the option {unknown[0]!r}")
    if options and not tls:
        raise ValueError("options of TLS need rediss://")
    if options.get("ssl_check_hostname", "true") not in _BOOLEANS:
        raise ValueError("ssl_check_hostname is true or false")
    return tuple((k, _BOOLEANS[v] if k == "ssl_check_hostname" else v) for k, v in sorted(options.items()))
