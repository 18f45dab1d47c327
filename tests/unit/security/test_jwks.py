"""Public keys by JWKS: which are held, when they are asked for, and what tokens can do about it."""

import asyncio
import hashlib
import hmac
import json
import time
from typing import Any

import pytest
from tests.servers.jwks import Signer, b64, key_set, raw

from notification_engine.domain.caller import Role
from notification_engine.domain.errors import Unauthenticated, Unavailable
from notification_engine.security.jwks import KeyRing, usable_keys
from notification_engine.security.tokens import Tokens, UnknownKey

SECRET = "a secret of the tests, 32 bytes or more"
ALGORITHMS = ("RS256", "ES256", "EdDSA")
SIGNERS = {algorithm: Signer(algorithm) for algorithm in ALGORITHMS}


class Address:
    """What stands at the address: a document or a failure; `gate` holds the answer back."""

    def __init__(self, document: bytes) -> None:
        self.document: bytes | None = document
        self.asked = 0
        self.calling, self.gate = asyncio.Event(), asyncio.Event()
        self.gate.set()

    async def __call__(self) -> bytes:
        self.asked += 1
        self.calling.set()
        await self.gate.wait()
        if self.document is None:
            raise Unavailable("away")
        return self.document


async def ring(address: Address, algorithm: str, **limits: float) -> KeyRing:
    made = KeyRing(address, algorithm, **limits)
    await made.run_once()
    return made


async def by_jwks(algorithm: str, **rules: Any) -> Tokens:
    keys = await ring(Address(key_set(SIGNERS[algorithm].jwk())), algorithm)
    return Tokens(SECRET, algorithm, keys=keys, **rules)


def refused(tokens: Tokens, token: str) -> str:
    with pytest.raises(Unauthenticated) as error:
        tokens.verify(token)
    return str(error.value)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_a_token_of_the_platform_is_taken_by_its_public_key(algorithm: str) -> None:
    caller = (await by_jwks(algorithm)).verify(SIGNERS[algorithm].token({"roles": ["operator"]}))
    assert (caller.sub, caller.roles) == ("u1", {Role.OPERATOR})


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_another_pair_under_the_same_name_is_refused(algorithm: str) -> None:
    tokens = await by_jwks(algorithm)
    assert "BadSignature" in refused(tokens, Signer(algorithm).token())
    whole = SIGNERS[algorithm].token()
    head, claims, signature = whole.split(".")
    refused(tokens, f"{head}.{b64(raw({'sub': 'u2', 'exp': time.time() + 60}))}.{signature}")
    refused(tokens, f"{head}.{claims}.")


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("kid", ["k1", "notification-engine", ...])
async def test_a_public_key_is_no_shared_secret(algorithm: str, kid: Any) -> None:
    """RS to HS confusion: the key everybody may read, used as the secret of an HMAC."""
    tokens, signer = await by_jwks(algorithm), SIGNERS[algorithm]
    for name, digest in (("HS256", "sha256"), ("HS384", "sha384"), ("HS512", "sha512")):
        header = {"alg": name, "typ": "JWT", "kid": kid} if kid is not ... else {"alg": name, "typ": "JWT"}
        signed = f"{b64(raw(header))}.{b64(raw({'sub': 'u1', 'exp': time.time() + 60, 'roles': ['admin']}))}"
        for secret in (signer.pem(), json.dumps(signer.jwk()).encode(), SECRET.encode(), b""):
            refused(tokens, f"{signed}.{b64(hmac.digest(secret, signed.encode(), digest))}")


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_the_platforms_shared_secret_opens_nothing_where_its_keys_are_public(algorithm: str) -> None:
    tokens = await by_jwks(algorithm)
    refused(tokens, Tokens(SECRET, "HS256").issue("u1", [Role.ADMIN], 5))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_the_engines_own_tokens_are_taken_beside_the_platforms(algorithm: str) -> None:
    tokens = await by_jwks(algorithm, issuer="https://login.example", audience="notify")
    assert tokens.verify(tokens.issue("u1", [Role.USER], 5)).roles == {Role.USER}
    own = tokens.verify(tokens.issue_own("s1", [Role.SERVICE], 60, key_id="key_1", types=["a.*"]))
    assert (own.key_id, own.types) == ("key_1", ("a.*",))


async def test_own_claims_in_a_platforms_token_say_nothing() -> None:
    tokens = await by_jwks("RS256")
    caller = tokens.verify(SIGNERS["RS256"].token({"key": "key_1", "types": ["a.*"]}))
    assert (caller.key_id, caller.types) == (None, ())


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_the_other_asymmetric_algorithms_are_refused(algorithm: str) -> None:
    tokens, signer = await by_jwks(algorithm), SIGNERS[algorithm]
    for other in {*ALGORITHMS, "RS384", "PS256", "ES384", "Ed25519", "none", "None", ""} - {algorithm}:
        refused(tokens, signer.token(header={"alg": other}))
        if other in SIGNERS:
            refused(tokens, SIGNERS[other].token())


@pytest.mark.parametrize(
    "header",
    [
        {"jwk": Signer("RS256").jwk()},
        {"jku": "https://evil.example/keys"},
        {"x5u": "https://evil.example/cert"},
        {"x5c": ["MIIB"]},
        {"crit": ["exp"]},
        {"crit": []},
        {"b64": False, "crit": ["b64"]},
        {"typ": "JWE"},
        {"typ": "dpop+jwt"},
        {"typ": "id_token"},
        {"typ": 7},
        {"typ": None},
        {"kid": None},
        {"kid": 1},
        {"kid": ["k1"]},
        {"kid": {"$ne": None}},
        {"kid": "k" * 257},
        {"kid": "k" * 100_000},
    ],
    ids=lambda value: repr(value)[:22],
)
async def test_a_header_that_brings_or_demands_its_own_is_refused(header: dict[str, Any]) -> None:
    refused(await by_jwks("RS256"), SIGNERS["RS256"].token(header=header))


@pytest.mark.parametrize("typ", ["JWT", "jwt", "at+jwt", "application/at+jwt", ...])
async def test_access_tokens_are_taken_by_any_of_their_names(typ: Any) -> None:
    assert (await by_jwks("RS256")).verify(SIGNERS["RS256"].token(header={"typ": typ})).sub == "u1"


@pytest.mark.parametrize(
    "kid",
    ["../../dev/null", "/etc/passwd", "k1' OR '1'='1", "k1\0", "", "K1", "http://evil.example", "k1 ", "__class__"],
)
async def test_a_kid_is_a_name_to_look_up_and_nothing_else(kid: str) -> None:
    with pytest.raises(UnknownKey):
        (await by_jwks("RS256")).verify(SIGNERS["RS256"].token(header={"kid": kid}))


async def test_without_a_kid_the_only_key_is_meant_and_of_two_none() -> None:
    signer, second = SIGNERS["ES256"], Signer("ES256", "k2")
    token = signer.token(header={"kid": ...})
    assert (await by_jwks("ES256")).verify(token).sub == "u1"
    two = await ring(Address(key_set(signer.jwk(), second.jwk())), "ES256")
    with pytest.raises(UnknownKey):
        Tokens(SECRET, "ES256", keys=two).verify(token)


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": ...},
        {"iss": "https://login.example/"},
        {"iss": "https://LOGIN.example"},
        {"iss": ["https://login.example"]},
        {"iss": None},
        {"aud": ...},
        {"aud": "other"},
        {"aud": []},
        {"aud": ["other", "notify2"]},
        {"aud": {"notify": 1}},
        {"aud": None},
    ],
    ids=repr,
)
async def test_issuer_and_audience_must_be_ours_once_configured(claims: dict[str, Any]) -> None:
    tokens = await by_jwks("RS256", issuer="https://login.example", audience="notify")
    good = {"iss": "https://login.example", "aud": ["other", "notify"]}
    assert tokens.verify(SIGNERS["RS256"].token(good)).sub == "u1"
    refused(tokens, SIGNERS["RS256"].token(good | claims))


async def test_clocks_may_disagree_by_the_leeway_and_no_more() -> None:
    tokens, signer = await by_jwks("RS256", leeway=10), SIGNERS["RS256"]
    now = int(time.time())
    for claims in ({"iat": now + 5}, {"nbf": now + 5}, {"exp": now - 3}, {"iat": ...}):
        assert tokens.verify(signer.token(claims)).sub == "u1"
    for claims in ({"iat": now + 60}, {"nbf": now + 60}, {"exp": now - 11}, {"exp": ...}):
        refused(tokens, signer.token(claims))


async def test_the_leeway_does_not_lengthen_what_lives_on_a_connection() -> None:
    expires_at = int(time.time()) + 60
    token = SIGNERS["RS256"].token({"exp": expires_at})
    assert (await by_jwks("RS256", leeway=10)).verify(token).expires_at == expires_at


# Which keys are held


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize(
    "changes",
    [
        {"use": "enc"},
        {"use": None},
        {"alg": "RS512"},
        {"alg": "HS256"},
        {"key_ops": ["sign"]},
        {"key_ops": "verify"},
        {"kty": "oct"},
        {"kty": ...},
        {"kid": 7},
        {"kid": "k" * 300},
        {"x": 1, "n": 1},
        {"x": "!", "n": "!"},
        {"x": ..., "n": ...},
    ],
    ids=repr,
)
def test_a_key_for_something_else_or_broken_is_left_out(algorithm: str, changes: dict[str, Any]) -> None:
    assert usable_keys(key_set(SIGNERS[algorithm].jwk()), algorithm)
    assert usable_keys(key_set(SIGNERS[algorithm].jwk(**changes)), algorithm) == {}


def test_a_symmetric_key_in_a_key_set_is_left_out() -> None:
    secret = {"kty": "oct", "k": b64(b"x" * 32), "kid": "k1"}
    for algorithm in ALGORITHMS:
        assert usable_keys(key_set(secret), algorithm) == {}


def test_only_the_keys_of_the_pinned_algorithm_are_held() -> None:
    everything = key_set(*(SIGNERS[a].jwk(kid=a) for a in ALGORITHMS))
    for algorithm in ALGORITHMS:
        assert list(usable_keys(everything, algorithm)) == [algorithm]


def test_a_weak_or_monstrous_rsa_key_is_left_out() -> None:
    assert usable_keys(key_set(Signer("RS256", bits=1024).jwk()), "RS256") == {}
    huge = b64(b"\xff" * 1100 + b"\x01")
    assert usable_keys(key_set({"kty": "RSA", "n": huge, "e": "AQAB", "kid": "k1"}), "RS256") == {}


def test_the_private_half_of_a_careless_server_is_not_kept() -> None:
    numbers = SIGNERS["EdDSA"].key.private_bytes_raw()  # type: ignore[union-attr]
    [key] = usable_keys(key_set(SIGNERS["EdDSA"].jwk(d=b64(numbers))), "EdDSA").values()
    assert not key.is_private


@pytest.mark.parametrize("document", [b"", b"{", b"[]", b"1", b'{"keys":{}}', b'{"keys":1}', b"\xff", b"[" * 100_000])
def test_what_is_no_key_set_is_not_taken_for_an_empty_one(document: bytes) -> None:
    with pytest.raises(Unavailable):
        usable_keys(document, "RS256")


def test_strange_members_and_numbers_of_keys_harm_nobody() -> None:
    good = SIGNERS["ES256"].jwk()
    assert list(usable_keys(key_set(*([1, None, [], {}] * 10), good), "ES256")) == ["k1"]  # type: ignore[arg-type]
    assert usable_keys(key_set(*([{}] * 100), good), "ES256") == {}
    another = Signer("ES256").jwk()
    [kept] = usable_keys(key_set(good, another), "ES256").values()
    assert kept.as_dict()["x"] == good["x"]


# When they are asked for


async def test_a_new_key_is_found_by_one_look_and_an_old_one_is_gone_after_it() -> None:
    old, new = Signer("ES256", "old"), Signer("ES256", "new")
    address = Address(key_set(old.jwk()))
    keys = await ring(address, "ES256", space_seconds=0)
    tokens = Tokens(SECRET, "ES256", keys=keys)
    assert (await tokens.verified(old.token())).sub == "u1"
    generation = tokens.generation
    address.document = key_set(new.jwk())
    assert (await tokens.verified(new.token())).sub == "u1"
    assert address.asked == 2
    assert tokens.generation > generation, "what the old keys verified is verified again"
    refused(tokens, old.token())


async def test_made_up_kids_do_not_make_the_engine_call() -> None:
    address = Address(key_set(SIGNERS["ES256"].jwk()))
    tokens = Tokens(SECRET, "ES256", keys=await ring(address, "ES256", space_seconds=3600))
    for number in range(50):
        with pytest.raises(UnknownKey):
            await tokens.verified(SIGNERS["ES256"].token(header={"kid": f"made-up-{number}"}))
    assert address.asked == 1
    assert (await tokens.verified(SIGNERS["ES256"].token())).sub == "u1"


async def test_a_token_of_another_algorithm_makes_nobody_look_for_its_key() -> None:
    address = Address(key_set(SIGNERS["ES256"].jwk()))
    tokens = Tokens(SECRET, "ES256", keys=await ring(address, "ES256", space_seconds=0))
    for header in ({"alg": "RS256"}, {"alg": "HS256"}, {"alg": "none"}):
        with pytest.raises(Unauthenticated) as error:
            await tokens.verified(SIGNERS["ES256"].token(header=header | {"kid": "unknown"}))
        assert not isinstance(error.value, UnknownKey)
    assert address.asked == 1


async def test_many_who_need_the_same_new_key_share_one_request() -> None:
    new = Signer("ES256", "new")
    address = Address(key_set(SIGNERS["ES256"].jwk()))
    tokens = Tokens(SECRET, "ES256", keys=await ring(address, "ES256", space_seconds=0))
    address.document = key_set(new.jwk())
    address.gate.clear()
    address.calling.clear()
    waiting = [asyncio.create_task(tokens.verified(new.token())) for _ in range(20)]
    await address.calling.wait()
    address.gate.set()
    assert {caller.sub for caller in await asyncio.gather(*waiting)} == {"u1"}
    assert address.asked == 2


async def test_while_the_address_is_away_the_known_keys_stay() -> None:
    address = Address(key_set(SIGNERS["ES256"].jwk()))
    keys = await ring(address, "ES256", space_seconds=0)
    tokens = Tokens(SECRET, "ES256", keys=keys)
    address.document = None
    with pytest.raises(Unavailable):
        await keys.run_once()
    assert tokens.verify(SIGNERS["ES256"].token()).sub == "u1"
    with pytest.raises(UnknownKey):
        await tokens.verified(SIGNERS["ES256"].token(header={"kid": "other"}))
    for slip in (b"<html>", key_set(), key_set(SIGNERS["RS256"].jwk())):
        address.document = slip
        with pytest.raises(Unavailable):
            await keys.run_once()
    assert tokens.verify(SIGNERS["ES256"].token()).sub == "u1"


async def test_keys_that_were_not_read_for_too_long_open_nothing() -> None:
    keys = await ring(Address(key_set(SIGNERS["ES256"].jwk())), "ES256", kept_seconds=0, space_seconds=3600)
    with pytest.raises(Unavailable):
        await Tokens(SECRET, "ES256", keys=keys).verified(SIGNERS["ES256"].token())


async def test_before_the_first_answer_a_request_waits_for_it_or_is_told_to_come_again() -> None:
    address = Address(key_set(SIGNERS["ES256"].jwk()))
    tokens = Tokens(SECRET, "ES256", keys=KeyRing(address, "ES256"))
    with pytest.raises(Unavailable):
        tokens.verify(SIGNERS["ES256"].token())
    assert (await tokens.verified(SIGNERS["ES256"].token())).sub == "u1"
    away = Address(b"")
    away.document = None
    with pytest.raises(Unavailable):
        await Tokens(SECRET, "ES256", keys=KeyRing(away, "ES256")).verified(SIGNERS["ES256"].token())


def test_two_spellings_of_one_token_have_one_name() -> None:
    """Else a revoked token would live on in another spelling: the last letter's spare bits, say."""
    token = Tokens(SECRET, "HS256").issue("u1", [], 5)
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    other = token[:-1] + letters[letters.index(token[-1]) ^ 1]
    names = {Tokens(SECRET, "HS256").verify(token).token_id}
    try:
        names.add(Tokens(SECRET, "HS256").verify(other).token_id)
    except Unauthenticated:
        names.add(None)
    assert len(names - {None}) == 1
    assert hashlib.sha256(token.encode()).digest() != hashlib.sha256(other.encode()).digest()
