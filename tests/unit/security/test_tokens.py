import base64
import hashlib
import hmac
import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notification_engine.domain.caller import Caller, Role
from notification_engine.domain.errors import Unauthenticated
from notification_engine.security.tokens import Tokens

SECRET = "a secret of the tests, 32 bytes or more"
TOKENS = Tokens(SECRET, "HS256")
DEEP = b"[" * 20_000 + b"]" * 20_000


def soon() -> int:
    return int(time.time()) + 60


def b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def raw(value: Any) -> bytes:
    return value if isinstance(value, bytes) else json.dumps(value).encode()


def forged(header: Any, claims: Any, *, secret: str = SECRET, digest: str = "sha256") -> str:
    """A token made by hand, so that it can be wrong in one place and signed all the same."""
    signed = f"{b64(raw(header))}.{b64(raw(claims))}"
    return f"{signed}.{b64(hmac.new(secret.encode(), signed.encode(), digest).digest())}"


def with_claims(**changes: Any) -> str:
    claims = {"sub": "u1", "exp": soon()} | changes
    return forged({"alg": "HS256"}, {k: v for k, v in claims.items() if v is not ...})


def refused(token: str, tokens: Tokens = TOKENS) -> str:
    with pytest.raises(Unauthenticated) as error:
        tokens.verify(token)
    return str(error.value)


def test_a_token_made_by_hand_is_taken() -> None:
    at = soon()
    token = forged({"alg": "HS256"}, {"sub": "u1", "exp": at, "roles": ["operator", "user"]})
    assert TOKENS.verify(token) == Caller("u1", frozenset({Role.OPERATOR, Role.USER}), float(at))


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
def test_what_is_issued_is_taken_by_the_same_algorithm_only(algorithm: str) -> None:
    secret = SECRET * 2
    token = Tokens(secret, algorithm).issue("u1", [Role.SERVICE], 5)
    assert Tokens(secret, algorithm).verify(token).roles == {Role.SERVICE}
    for other in {"HS256", "HS384", "HS512"} - {algorithm}:
        refused(token, Tokens(secret, other))


def test_a_token_lives_for_its_minutes() -> None:
    begun = int(time.time())
    expires_at = TOKENS.verify(TOKENS.issue("u1", [], 2)).expires_at
    assert begun + 120 <= expires_at <= time.time() + 120


def test_a_token_without_a_signature_is_refused() -> None:
    claims = b64(raw({"sub": "u1", "exp": soon(), "roles": ["admin"]}))
    for name in ("none", "None", "NONE", "nOnE", ""):
        head = b64(raw({"alg": name, "typ": "JWT"}))
        for signature in ("", "x", b64(b"\0" * 32)):
            refused(f"{head}.{claims}.{signature}")
    assert refused(with_claims().rpartition(".")[0] + ".")


@pytest.mark.parametrize(
    ("header", "digest"),
    [
        ({"alg": "HS512"}, "sha512"),
        ({"alg": "HS384"}, "sha384"),
        ({"alg": "HS512"}, "sha256"),
        ({"alg": "RS256"}, "sha256"),
        ({"alg": "hs256"}, "sha256"),
        ({"alg": ["HS256"]}, "sha256"),
        ({"alg": 256}, "sha256"),
        ({"alg": None}, "sha256"),
        ({}, "sha256"),
        ([], "sha256"),
        (1, "sha256"),
        (b"{", "sha256"),
        (b"", "sha256"),
        (b'{"alg":"HS256","x":' + DEEP + b"}", "sha256"),
        (b'{"alg":"HS256","x":' + b"9" * 5000 + b"}", "sha256"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_a_header_that_names_another_algorithm_or_none_is_refused(header: Any, digest: str) -> None:
    refused(forged(header, {"sub": "u1", "exp": soon()}, digest=digest))


@pytest.mark.parametrize(
    "more",
    [
        {"crit": ["unheard-of"], "unheard-of": 1},
        {"crit": ["exp"], "exp": 1},
        {"crit": "alg"},
        {"crit": ["b64"], "b64": False},
        {"b64": False},
    ],
    ids=repr,
)
def test_a_header_that_demands_what_is_not_understood_is_refused(more: dict[str, Any]) -> None:
    refused(forged({"alg": "HS256"} | more, {"sub": "u1", "exp": soon()}))


def test_a_key_in_the_header_is_not_believed() -> None:
    jwk = {"kty": "oct", "k": b64(b"eve" * 16)}
    refused(forged({"alg": "HS256", "jwk": jwk}, {"sub": "u1", "exp": soon()}, secret="eve" * 16))


def test_another_key_and_a_changed_claim_are_refused() -> None:
    refused(forged({"alg": "HS256"}, {"sub": "u1", "exp": soon()}, secret="z" * 40))
    head, _, signature = with_claims().split(".")
    refused(f"{head}.{b64(raw({'sub': 'u2', 'exp': soon()}))}.{signature}")


@pytest.mark.parametrize(
    "claims",
    [
        {"exp": ...},
        {"exp": None},
        {"exp": 0},
        {"exp": -1},
        {"exp": True},
        {"exp": "2099-01-01"},
        {"exp": float("inf")},
        {"exp": float("nan")},
        {"exp": 10**400},
        {"exp": [9_999_999_999]},
        {"sub": ...},
        {"sub": None},
        {"sub": ""},
        {"sub": 1},
        {"sub": ["u1"]},
        {"sub": "\ud800"},
        {"sub": "u1\0u2"},
        {"roles": "admin"},
        {"roles": None},
        {"roles": {"admin": True}},
        {"roles": [{"admin": True}]},
        {"roles": [["admin"]]},
        {"nbf": 9_999_999_999},
        {"iat": 9_999_999_999},
    ],
    ids=lambda claims: repr(claims)[:40],
)
def test_claims_that_are_missing_or_no_good_are_refused(claims: dict[str, Any]) -> None:
    refused(with_claims(**claims))


def test_an_expired_token_is_refused_without_leeway() -> None:
    assert "Expired" in refused(with_claims(exp=int(time.time())))
    assert "Expired" in refused(with_claims(exp=int(time.time()) - 1))


@pytest.mark.parametrize(
    "claims",
    [[], "u1", 1, None, b"", b"{", b"\xff", b'{"sub":"u1","exp":9999999999,"x":' + DEEP + b"}"],
    ids=lambda claims: repr(claims)[:30],
)
def test_a_payload_that_is_no_object_is_refused(claims: Any) -> None:
    refused(forged({"alg": "HS256"}, claims))


def test_a_role_nobody_knows_opens_nothing() -> None:
    caller = TOKENS.verify(with_claims(roles=["root", "ADMIN", "admin ", "", 1, None, "user"]))
    assert caller.roles == {Role.USER}
    assert TOKENS.verify(with_claims(roles=[])).roles == frozenset()
    assert TOKENS.verify(with_claims()).roles == frozenset()


@given(st.text(max_size=200) | st.lists(st.text(max_size=40), min_size=3, max_size=6).map(".".join))
def test_any_text_is_refused_and_not_repeated(token: str) -> None:
    text = refused(token)
    assert len(token) < 12 or token not in text


def test_a_refusal_says_nothing_of_the_token() -> None:
    token = forged({"alg": "HS256"}, {"sub": "ada", "exp": soon()}, secret="z" * 40)
    text = refused(token)
    assert not any(part in text for part in (*token.split("."), "ada", SECRET))


def test_the_signature_is_the_one_of_the_rfc() -> None:
    """RFC 7515: HMAC over the encoded header and payload as they stand."""
    head, claims, signature = TOKENS.issue("u1", [Role.USER], 5).split(".")
    digest = hmac.new(SECRET.encode(), f"{head}.{claims}".encode(), hashlib.sha256).digest()
    assert signature == b64(digest)
    assert json.loads(base64.urlsafe_b64decode(head + "==")) == {"alg": "HS256", "typ": "JWT"}


def test_a_new_secret_and_the_end_of_its_overlap_are_each_another_generation(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else what was verified by the secret of before would be taken from memory after the overlap."""
    tokens, now = Tokens(SECRET, "HS256"), time.monotonic()
    before, old = tokens.generation, forged({"alg": "HS256"}, {"sub": "u1", "exp": soon()})
    tokens.renew("another secret of the tests, 32 bytes or more", 60)
    renewed = tokens.generation
    assert renewed > before
    assert tokens.verify(old).sub == "u1"
    monkeypatch.setattr("notification_engine.security.tokens.time.monotonic", lambda: now + 61)
    assert tokens.generation > renewed
    with pytest.raises(Unauthenticated):
        tokens.verify(old)
    assert tokens.generation > renewed, "also when it is forgotten"
