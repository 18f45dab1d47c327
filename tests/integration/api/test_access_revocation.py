"""Logout and revocation: what ends, on which replica, and what does not; sockets, streams and tickets with it."""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiohttp import ClientTimeout
from tests.integration.api.access import ADMIN, auth, closed_with, make, socket, until_refused, works
from tests.integration.conftest import API, SECRET, Running, Start, message, token
from tests.unit.security.test_tokens import forged

from notification_engine.domain.caller import Role
from notification_engine.domain.errors import Unavailable


def by_hand(sub: str = "u1", **claims: Any) -> str:
    """A token of the platform, whose claims are not the engine's habit."""
    given = {"sub": sub, "exp": int(time.time()) + 600, "iat": int(time.time()), "roles": ["user"]} | claims
    return forged({"alg": "HS256"}, {k: v for k, v in given.items() if v is not ...}, secret=SECRET)


async def stream_ends(running: Running, credential: str, opened: asyncio.Event, seconds: float = 20) -> None:
    headers = {"Authorization": f"Bearer {credential}"}
    timeout = ClientTimeout(total=seconds)
    async with running.session.get(f"{running.address}{API}/stream", headers=headers, timeout=timeout) as answer:
        assert await answer.content.readline() == b"event: hello\n"
        opened.set()
        while await answer.content.readline():
            pass


async def test_logout_ends_one_token_on_every_replica_with_its_sockets(two: tuple[Running, ...]) -> None:
    one, other = two
    mine, second = token("u1", Role.USER), token("u1", Role.USER)
    closing = [await socket(replica, mine) for replica in two]
    staying = [await socket(replica, second) for replica in two]
    opened = asyncio.Event()
    streaming = asyncio.create_task(stream_ends(other, mine, opened))
    await opened.wait()
    assert await works(other, mine)
    assert await auth(one, "/logout", mine) == (204, None)
    assert not await works(one, mine), "at once where it was said"
    await until_refused(other, mine)
    assert [await closed_with(one_) for one_ in closing] == [1008, 1008]
    await streaming
    assert await works(one, second)
    assert await works(other, second)
    assert not any(one_.closed for one_ in staying)
    assert (await auth(one, "/logout", mine))[0] == 401


async def test_an_admin_revokes_what_a_user_has_until_now_on_every_replica(two: tuple[Running, ...]) -> None:
    one, other = two
    stolen = [token("u1", Role.USER), by_hand(), by_hand(iat=...), by_hand(jti="j1")]
    stranger = token("u2", Role.USER)
    sockets = [await socket(other, credential) for credential in stolen]
    kept = await socket(other, stranger)
    status, answer = await auth(one, "/revoke", ADMIN, {"sub": "u1"})
    assert status == 200
    for credential in stolen:
        assert not await works(one, credential)
        await until_refused(other, credential)
    assert [await closed_with(opened) for opened in sockets] == [1008] * 4
    assert not kept.closed
    assert await works(one, stranger)
    later = by_hand(iat=int(time.time()) + 2)  # as made in a moment, by a clock within the leeway
    assert await works(one, later)
    assert await works(other, later)
    assert not await works(one, by_hand(iat=int(time.time()) - 3600, jti="j2")), "an older one that was not seen before"
    rows = one.engine.database.collection("notification_audit_logs")
    assert await rows.count_documents({"action": "auth.revoke", "target": "u1", "user_id": "admin"}) == 1
    assert answer["sub"] == "u1"


@pytest.mark.parametrize("roles", [(), (Role.USER,), (Role.SERVICE,), (Role.OPERATOR,)], ids=str)
async def test_only_an_admin_revokes_others(shared: Running, roles: tuple[Role, ...]) -> None:
    credential = shared.engine.tokens.issue("u1", list(roles), 5)
    assert (await auth(shared, "/revoke", credential, {"sub": "u9"}))[0] == 403
    assert await works(shared, token("u9", Role.USER))


@pytest.mark.parametrize(
    "body", [{}, {"sub": ""}, {"sub": {"$ne": None}}, {"sub": "u1", "before": "2099"}, {"user_id": "u1"}, [], None]
)
async def test_what_is_to_be_revoked_must_be_said_plainly(shared: Running, body: Any) -> None:
    assert (await auth(shared, "/revoke", ADMIN, body))[0] == 422


async def test_a_token_without_an_id_ends_by_its_times(running: Running) -> None:
    now = int(time.time())
    mine, same, earlier = by_hand(iat=now), by_hand(iat=now, roles=["user", "service"]), by_hand(iat=now - 1)
    assert (await auth(running, "/logout", mine))[0] == 204
    assert not await works(running, mine)
    assert not await works(running, same), "of the same second: cannot be told apart"
    assert await works(running, earlier)
    assert await works(running, by_hand("u2", iat=now))


async def test_the_same_id_of_another_user_is_another_token(running: Running) -> None:
    assert (await auth(running, "/logout", by_hand("u1", jti="7")))[0] == 204
    assert await works(running, by_hand("u2", jti="7"))
    assert not await works(running, by_hand("u1", jti="7"))


@pytest.mark.parametrize("kind", ["token", "key", "traded"])
async def test_a_ticket_of_what_was_revoked_opens_nothing(running: Running, kind: str) -> None:
    made = await make(running, roles=["user"])
    _, traded = await auth(running, "/token", made["api_key"])
    mine = token("u1", Role.USER)
    credential = {"token": mine, "key": made["api_key"], "traded": traded["access_token"]}[kind]
    status, ticket = await running.call("POST", "/ws/ticket", as_=credential)
    assert status == 201
    if kind == "token":
        assert (await auth(running, "/logout", mine))[0] == 204
    else:
        assert (await running.call("DELETE", f"/api-keys/{made['key_id']}", as_=ADMIN))[0] == 204
    async with running.session.ws_connect(f"{running.address}{API}/ws?ticket={ticket['ticket']}") as opened:
        assert await closed_with(opened) == 1008


async def test_a_socket_opened_by_ticket_closes_with_the_token_behind_it(running: Running) -> None:
    made = await make(running, roles=["user"])
    mine = token("u1", Role.USER)
    sockets = []
    for credential in (mine, made["api_key"]):
        _, ticket = await running.call("POST", "/ws/ticket", as_=credential)
        opened = await running.session.ws_connect(f"{running.address}{API}/ws?ticket={ticket['ticket']}")
        assert (await opened.receive_json(timeout=10))["type"] == "hello"
        sockets.append(opened)
    assert (await auth(running, "/logout", mine))[0] == 204
    assert await closed_with(sockets[0]) == 1008
    assert not sockets[1].closed
    await running.call("DELETE", f"/api-keys/{made['key_id']}", as_=ADMIN)
    assert await closed_with(sockets[1]) == 1008


async def test_a_socket_closes_when_its_token_or_key_ends(start: Start) -> None:
    running = await start(JWT_LEEWAY_SECONDS=0)
    ends = int(time.time()) + 2
    opened = await socket(running, by_hand(exp=ends))
    made = await make(running, roles=["user"], expires_at=(datetime.now(UTC) + timedelta(seconds=2)).isoformat())
    by_key = await socket(running, made["api_key"])
    assert [await closed_with(one) for one in (opened, by_key)] == [1008, 1008]
    assert time.time() >= ends, "not before"


async def test_what_was_revoked_before_a_start_is_known_at_its_first_request(start: Start) -> None:
    one = await start()
    mine, theirs = token("u1", Role.USER), token("u2", Role.USER)
    assert (await auth(one, "/logout", mine))[0] == 204
    assert (await auth(one, "/revoke", ADMIN, {"sub": "u2"}))[0] == 200
    other = await start(LIVE_POLL_SECONDS=60)
    assert not await works(other, mine)
    assert not await works(other, theirs)


async def test_a_revocation_ends_with_its_token_and_names_nobody(running: Running) -> None:
    sub = "ada.lovelace@example.org"
    mine = by_hand(sub, exp=int(time.time()) + 600)
    assert (await auth(running, "/logout", mine))[0] == 204
    assert (await auth(running, "/revoke", ADMIN, {"sub": sub}))[0] == 200
    rows = [d async for d in running.engine.database.collection("notification_revocations").find({})]
    assert "ada" not in repr(rows)
    [one] = [row for row in rows if row["kind"] == "token"]
    assert 600 <= one["expires_at"].timestamp() - time.time() + 5 <= 1000
    [lasting] = [row for row in rows if row["kind"] == "subject"]
    assert "expires_at" not in lasting


async def test_a_token_that_says_it_never_ends_can_be_ended(running: Running) -> None:
    mine = by_hand(exp=10**15)
    assert await works(running, mine)
    assert (await auth(running, "/logout", mine))[0] == 204
    assert not await works(running, mine)


async def test_while_the_database_is_away_what_is_known_stays_denied(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = token("u1", Role.USER)
    assert (await auth(running, "/logout", mine))[0] == 204

    async def away() -> None:
        raise Unavailable("away")

    monkeypatch.setattr(running.engine.revocations, "refresh", away)
    running.engine._access_watch.ran.clear()
    running.engine._access_watch.wake()
    await asyncio.wait_for(running.engine._access_watch.ran.wait(), 10)
    assert not await works(running, mine)


async def test_denied_access_is_in_the_audit_log_and_no_token_with_it(running: Running) -> None:
    user, secret = token("u1", Role.USER), "eyJ.canary.token"
    assert (await running.call("GET", "/dead-letters", as_=user))[0] == 403
    assert (await running.call("GET", "/ntfy_secret-in-the-path", as_=secret))[0] == 401
    assert (await auth(running, "/token", "ne_live_nothing"))[0] == 401
    made = await make(running, notification_types=["a.b"])
    batch = {"notifications": [message("u1")]}
    assert (await running.call("POST", "/batch", batch, as_=made["api_key"]))[0] == 207
    async with running.session.ws_connect(f"{running.address}{API}/ws", protocols=("bearer", secret)) as opened:
        assert await closed_with(opened) == 1008
    async with running.session.get(f"{running.address}{API}/dead-letters") as answer:
        assert answer.status == 401
    await running.engine._access_watch.run_once()
    found = running.engine.database.collection("notification_audit_logs").find({"action": {"$regex": "^access"}})
    rows = [(d["user_id"], d["action"], d["target"]) async for d in found]
    assert sorted(rows) == sorted(
        [
            ("u1", "access.forbidden", f"GET {API}/dead-letters"),
            ("anonymous", "access.unauthenticated", f"GET {API}/{{notification_id}}"),
            ("anonymous", "access.unauthenticated", "POST /api/v1/auth/token"),
            (made["sub"], "access.forbidden", f"POST {API}/batch"),
            ("anonymous", "access.unauthenticated", "WS /ws"),
        ]
    ), "and nothing for who presented nothing"


async def test_a_flood_of_refusals_does_not_fill_the_database(running: Running) -> None:
    for _ in range(150):
        assert (await running.call("GET", "/unread-count", as_="a.b.c"))[0] == 401
    rows = running.engine.database.collection("notification_audit_logs")
    written, told = 0, [0]
    async with asyncio.timeout(20):
        while written + sum(told) < 150:
            running.engine._access_watch.wake()
            await asyncio.sleep(0.05)  # another look: rows are written in the background
            written = await rows.count_documents({"action": "access.unauthenticated"})
            told = [int(d["target"]) async for d in rows.find({"action": "access.denied_more"})]
    assert written < 150
    assert written + sum(told) == 150
    async with running.session.get(f"{running.address}/metrics") as answer:
        assert 'notification_access_denied_total{action="access.unauthenticated"} 150.0' in await answer.text()
