"""Who calls: what is remembered of a credential, what is asked each time, and how denied access is noted."""

import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from notification_engine.domain.api_key import ApiKey
from notification_engine.domain.caller import Caller, Role
from notification_engine.domain.errors import Conflict, Forbidden, Unauthenticated, Unavailable
from notification_engine.security.api_keys import ApiKeyHash
from notification_engine.security.tokens import Tokens
from notification_engine.services.access import Access
from notification_engine.services.credentials import Credentials
from notification_engine.services.denials import MAX_WAITING, NOBODY, Denials

SECRET = "a secret of the tests, 32 bytes or more"
HASH = ApiKeyHash(SECRET)
ADMIN = Caller("admin", frozenset({Role.ADMIN}), float("inf"))


class Counted(Tokens):
    """Counts verifications; `generation` can be raised."""

    count = 0
    now = 0

    @property
    def generation(self) -> int:
        return self.now

    def verify(self, token: str) -> Caller:
        self.count += 1
        return super().verify(token)


class Keys:
    def __init__(self) -> None:
        self.keys: dict[str, ApiKey] = {}
        self.uses: list[str] = []
        self.asked = 0

    async def find(self, key_id: str) -> ApiKey | None:
        self.asked += 1
        return self.keys.get(key_id)

    async def create(self, caller: Caller, key: ApiKey) -> None:
        self.keys[key.id] = key

    async def revoke(self, caller: Caller, key_id: str) -> None:
        self.keys[key_id] = replace(self.keys[key_id], revoked_at=datetime.now(UTC))

    def used(self, key_id: str) -> None:
        self.uses.append(key_id)


class Revoked:
    def __init__(self) -> None:
        self.ids: set[str | None] = set()

    def denies(self, caller: Caller) -> bool:
        return caller.token_id in self.ids or caller.key_id in self.ids

    async def revoke_token(self, token_id: str, expires_at: float) -> None:
        self.ids.add(token_id)

    async def revoke_key(self, key_id: str, last_token_at: float) -> None:
        self.ids.add(key_id)


class Trail:
    def __init__(self) -> None:
        self.rows: list[tuple[str, str, str]] = []
        self.away = False

    async def append(self, caller: Caller, action: str, target: str, **more: object) -> None:
        if self.away:
            raise Unavailable("away")
        self.rows.append((caller.sub, action, target))


class House:
    def __init__(self, **limits: Any) -> None:
        self.tokens, self.keys, self.revoked, self.trail = Counted(SECRET, "HS256"), Keys(), Revoked(), Trail()
        parts: Any = (self.tokens, HASH, self.keys, self.revoked)
        self.access = Access(*parts, **limits)
        self.credentials = Credentials(*parts, self.trail, token_minutes=30)

    async def key(self, **changes: Any) -> tuple[ApiKey, str]:
        given: dict[str, Any] = {
            "name": "k",
            "roles": [Role.SERVICE],
            "notification_types": [],
            "sub": None,
            "expires_at": None,
        }
        return await self.credentials.make_key(ADMIN, **(given | changes))

    async def refused(self, credential: str) -> str:
        with pytest.raises(Unauthenticated) as error:
            await self.access.caller(credential)
        return str(error.value)


async def test_a_repeated_token_is_verified_once() -> None:
    house = House()
    token = house.tokens.issue("u1", [Role.USER], 5)
    assert {(await house.access.caller(token)).sub for _ in range(10)} == {"u1"}
    assert house.tokens.count == 1


async def test_a_refused_token_is_not_remembered_as_good() -> None:
    house = House()
    token = house.tokens.issue("u1", [Role.USER], 5)
    await house.access.caller(token)
    for forged in (token[:-2], token + "A", token.replace(".", "..", 1), "", "a.b.c", "\ud800.b.c", "x" * 9000):
        await house.refused(forged)


async def test_what_is_remembered_is_bounded_and_the_least_used_goes() -> None:
    house = House(size=3)
    first, *others = [house.tokens.issue(f"u{n}", [], 5) for n in range(5)]
    for token in others:
        await house.access.caller(first)
        await house.access.caller(token)
    assert house.tokens.count == 5
    await house.access.caller(first)
    assert house.tokens.count == 5, "the one that is used most is still known"
    await house.access.caller(others[0])
    assert house.tokens.count == 6


async def test_new_signing_keys_make_known_tokens_be_verified_again() -> None:
    house = House()
    token = house.tokens.issue("u1", [], 5)
    await house.access.caller(token)
    house.tokens.now += 1
    await house.access.caller(token)
    assert house.tokens.count == 2


async def test_a_known_token_is_refused_from_its_end_on(monkeypatch: pytest.MonkeyPatch) -> None:
    house = House()
    token = house.tokens.issue("u1", [], 5)
    await house.access.caller(token)
    later = time.time() + 301
    monkeypatch.setattr("notification_engine.services.access.time.time", lambda: later)
    assert "Expired" in await house.refused(token)


async def test_a_known_token_is_taken_as_long_as_a_new_one_would_be(monkeypatch: pytest.MonkeyPatch) -> None:
    house = House(leeway_seconds=10)
    token = house.tokens.issue("u1", [], 5)
    key, text = await house.key(expires_at=datetime.now(UTC) + timedelta(minutes=5))
    await house.access.caller(token)
    await house.access.caller(text)
    now = time.time()
    monkeypatch.setattr("notification_engine.services.access.time.time", lambda: now + 305)
    assert (await house.access.caller(token)).sub == "u1"
    assert "Expired" in await house.refused(text), f"{key.id}: its end is our own, by our own clock"
    monkeypatch.setattr("notification_engine.services.access.time.time", lambda: now + 311)
    assert "Expired" in await house.refused(token)


async def test_a_known_token_is_refused_once_it_was_revoked() -> None:
    house = House()
    one, other = (house.tokens.issue("u1", [], 5) for _ in range(2))
    await house.access.caller(other)
    await house.credentials.logout(await house.access.caller(one))
    assert "revoked" in await house.refused(one)
    assert (await house.access.caller(other)).sub == "u1", "tokens of one second are told apart"


async def test_a_key_opens_what_it_was_made_for_and_its_use_is_noted() -> None:
    house = House()
    key, text = await house.key(roles=[Role.SERVICE, Role.USER], notification_types=["a.*"])
    caller = await house.access.caller(text)
    assert (caller.sub, caller.roles, caller.types) == (key.id, {Role.SERVICE, Role.USER}, ("a.*",))
    assert house.keys.uses == [key.id]
    assert caller.may_send("a.b")
    assert not caller.may_send("ab.c")
    assert text.encode() not in key.digest
    assert text not in repr(key)
    assert key.digest.hex() not in repr(key)


async def test_what_only_looks_like_a_key_opens_nothing_and_says_no_more() -> None:
    house = House()
    _, text = await house.key()
    _, dead = await house.key(expires_at=datetime.now(UTC) - timedelta(seconds=1))
    ulid, _, secret = text.removeprefix("ne_live_").partition("_")
    other = "z" + secret[1:] if secret[0] != "z" else "y" + secret[1:]
    forged = [
        dead,
        f"ne_live_{ulid}_{other}",
        f"ne_live_{'0' * 26}_{secret}",
        f"ne_live_{ulid}_{secret}x",
        f"ne_live_{ulid}_{secret[:-1]}",
        f"ne_live_{ulid}_{secret}\n",
        f"ne_test_{ulid}_{secret}",
        f"ne_live_{ulid}_",
        f"ne_live_{ulid.upper()}_{secret}",
        "ne_",
        "ne_live_" + "x" * 8000,
    ]
    assert {await house.refused(one) for one in forged} == {"The API key is not valid."}


async def test_a_key_of_another_engine_opens_nothing() -> None:
    house = House()
    key, text = await house.key()
    named = ApiKeyHash(SECRET[::-1]).read(text)
    assert named is not None
    assert named[0] == key.id
    assert named[1] != key.digest


async def test_an_expired_key_and_what_it_was_traded_for_open_nothing() -> None:
    house = House()
    key, text = await house.key(expires_at=datetime.now(UTC) + timedelta(seconds=60))
    token, seconds = house.credentials.trade(await house.access.caller(text))
    assert 55 <= seconds <= 60, "the token does not outlive its key"
    house.keys.keys[key.id] = replace(key, expires_at=datetime.now(UTC))
    fresh = Access(house.tokens, HASH, house.keys, house.revoked)  # type: ignore[arg-type]
    for credential in (text, token):
        with pytest.raises(Unauthenticated):
            await fresh.caller(credential)


async def test_a_traded_token_has_what_the_key_has_and_dies_with_it() -> None:
    house = House()
    key, text = await house.key(notification_types=["a.*"], sub="billing")
    token, seconds = house.credentials.trade(await house.access.caller(text))
    caller = await house.access.caller(token)
    assert (caller.sub, caller.roles, caller.types, caller.key_id) == ("billing", {Role.SERVICE}, ("a.*",), key.id)
    assert seconds == 1800
    await house.credentials.revoke_key(ADMIN, key.id)
    assert "revoked" in await house.refused(token)
    await house.refused(text)


async def test_a_token_of_a_key_is_refused_by_the_key_alone() -> None:
    """Where no revocation is known: after its row was swept, say, or a restore of an older backup."""
    house = House()
    key, text = await house.key()
    token, _ = house.credentials.trade(await house.access.caller(text))
    del house.keys.keys[key.id]
    assert "API key" in await house.refused(token)


async def test_only_a_key_is_traded_and_only_a_token_logs_out() -> None:
    house = House()
    _, text = await house.key()
    by_key = await house.access.caller(text)
    token, _ = house.credentials.trade(by_key)
    for caller in (ADMIN, await house.access.caller(token)):
        with pytest.raises(Forbidden):
            house.credentials.trade(caller)
    with pytest.raises(Conflict):
        await house.credentials.logout(by_key)


async def test_denied_access_is_written_with_who_and_where() -> None:
    trail = Trail()
    denials = Denials(trail)
    denials.denied(ADMIN, "access.forbidden", "POST /x")
    denials.denied(None, "access.unauthenticated", "GET /" + "y" * 1000)
    assert trail.rows == [], "not on the request's way"
    await denials.write()
    assert trail.rows[0] == ("admin", "access.forbidden", "POST /x")
    assert trail.rows[1][0] == NOBODY.sub
    assert len(trail.rows[1][2]) == 200


async def test_a_flood_of_denials_is_counted_and_not_written() -> None:
    trail = Trail()
    denials = Denials(trail, per_second=5)
    for _ in range(10_000):
        denials.denied(None, "access.unauthenticated", "GET /")
    await denials.write()
    written = [row for row in trail.rows if row[1] == "access.unauthenticated"]
    [(_, _, more)] = [row for row in trail.rows if row[1] == "access.denied_more"]
    assert 5 <= len(written) <= MAX_WAITING
    assert len(written) + int(more) == 10_000 == denials.total
    await denials.write()
    assert len(trail.rows) == len(written) + 1


async def test_while_the_trail_is_away_what_waits_is_bounded_and_not_lost() -> None:
    trail = Trail()
    trail.away = True
    denials = Denials(trail, per_second=10_000)
    for number in range(MAX_WAITING * 3):
        denials.denied(None, "access.unauthenticated", f"GET /{number}")
    with pytest.raises(Unavailable):
        await denials.write()
    trail.away = False
    await denials.write()
    assert len(trail.rows) == MAX_WAITING + 1
    assert trail.rows[-1][1:] == ("access.denied_more", str(MAX_WAITING * 2))
