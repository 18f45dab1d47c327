"""API keys over real HTTP: made, used in both headers, traded, scoped, revoked on every replica."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.integration.api.access import ADMIN, AUTH, auth, closed_with, make, until_refused
from tests.integration.conftest import API, Running, Start, message, token
from tests.servers.jwks import LoginServer, Signer

from notification_engine.domain.caller import Role


async def test_a_key_is_shown_once_and_stored_as_a_hash(running: Running) -> None:
    made = await make(running, expires_at="2099-01-01T00:00:00+02:00", notification_types=["a.*", "b.c"])
    assert made["expires_at"] == "2098-12-31T22:00:00Z"
    text = made.pop("api_key")
    assert text.startswith("ne_live_")
    assert len(text.rpartition("_")[2]) >= 43
    status, shown = await running.call("GET", f"/api-keys/{made['key_id']}", as_=ADMIN)
    assert (status, shown) == (200, made)
    _, listed = await running.call("GET", "/api-keys", as_=ADMIN)
    assert listed["api_keys"] == [made]
    secret = text.rpartition("_")[2]
    for name in await running.engine.database.collection_names():
        stored = [d async for d in running.engine.database.collection(name).find({})]
        assert secret not in repr(stored), name
    [row] = [d async for d in running.engine.database.collection("notification_api_keys").find({})]
    assert len(row["digest"]) == 32


async def test_a_key_opens_by_either_header_and_not_by_both(running: Running) -> None:
    text = (await make(running))["api_key"]
    url, body = f"{running.address}{API}", message("u1")
    for headers in ({"Authorization": f"Bearer {text}"}, {"X-API-Key": text}):
        async with running.session.post(url, json=body, headers=headers) as answer:
            assert answer.status == 202
    wrong: list[dict[str, str]] = [
        {"Authorization": f"Bearer {text}", "X-API-Key": text},
        {"Authorization": f"Bearer {ADMIN}", "X-API-Key": text},
        {"X-API-Key": ADMIN},
        {"X-API-Key": ""},
        {"X-API-Key": text + "x"},
        {"Authorization": f"Basic {text}"},
    ]
    for headers in wrong:
        async with running.session.post(url, json=body, headers=headers) as answer:
            assert answer.status == 401, headers
            assert answer.headers["WWW-Authenticate"] == "Bearer"
            assert text not in await answer.text()
    await running.engine._access_watch.run_once()
    rows = running.engine.database.collection("notification_audit_logs")
    assert await rows.count_documents({"action": "access.unauthenticated"}) == len(wrong), "each was a try"
    async with running.session.post(f"{url}?api_key={text}&token={text}", json=body) as answer:
        assert answer.status == 401, "never in the address"


async def test_a_key_does_what_its_roles_say(running: Running) -> None:
    text = (await make(running, roles=["service"]))["api_key"]
    for method, path in (("GET", "/dead-letters"), ("GET", "/api-keys"), ("GET", "/webhooks")):
        assert (await running.call(method, path, as_=text))[0] == 403
    operator = (await make(running, roles=["operator"]))["api_key"]
    assert (await running.call("GET", "/dead-letters", as_=operator))[0] == 200
    assert (await running.call("POST", "", message("u1"), as_=operator))[0] == 403


async def test_a_key_reads_what_it_sent_and_a_new_one_of_the_same_name_too(running: Running) -> None:
    first, second, stranger = [await make(running, sub=sub) for sub in ("billing", "billing", None)]
    _, sent = await running.call("POST", "", message("u1"), as_=first["api_key"])
    path = f"/{sent['notifications'][0]['notification_id']}"
    assert (await running.call("GET", path, as_=second["api_key"]))[0] == 200
    assert (await running.call("GET", path, as_=stranger["api_key"]))[0] == 404


async def test_an_admins_key_makes_and_revokes_no_keys(running: Running) -> None:
    made = await make(running, roles=["admin"])
    status, traded = await auth(running, "/token", made["api_key"])
    assert status == 200
    for credential in (made["api_key"], traded["access_token"]):
        assert (await running.call("GET", "/api-keys", as_=credential))[0] == 200
        body = {"name": "more", "roles": ["admin"]}
        assert (await running.call("POST", "/api-keys", body, as_=credential))[0] == 403
        assert (await running.call("DELETE", f"/api-keys/{made['key_id']}", as_=credential))[0] == 403
        assert (await auth(running, "/revoke", credential, {"sub": "u1"}))[0] == 403


async def test_a_scope_is_kept_at_accept_alone_in_a_batch_and_by_a_traded_token(running: Running) -> None:
    made = await make(running, notification_types=["build.*", "test.message"])
    _, traded = await auth(running, "/token", made["api_key"])
    for credential in (made["api_key"], traded["access_token"]):
        for kind in ("build.done", "build.a.b", "test.message"):
            assert (await running.call("POST", "", message("u1", notification_type=kind), as_=credential))[0] == 202
        for kind in ("builder.done", "test.message.more", "account.password_reset"):
            status, problem = await running.call("POST", "", message("u1", notification_type=kind), as_=credential)
            assert status == 403
            assert kind in problem["detail"]
            assert problem["field"] == "notification_type"
        items = [message("u1", notification_type=kind) for kind in ("build.done", "other.kind", "test.message")]
        status, answer = await running.call("POST", "/batch", {"notifications": items}, as_=credential)
        assert status == 207
        assert [r["status"] for r in answer["results"]] == [202, 403, 202]
        assert "other.kind" in answer["results"][1]["problem"]["detail"]
    stored = running.engine.database.collection("notifications")
    assert (
        await stored.count_documents({"notification_type": {"$nin": ["build.done", "build.a.b", "test.message"]}}) == 0
    )


@pytest.mark.parametrize(
    "change",
    [
        {"name": ""},
        {"name": "x" * 101},
        {"name": "two\nlines"},
        {"roles": []},
        {"roles": ["root"]},
        {"roles": "service"},
        {"notification_types": ["A"]},
        {"notification_types": ["a.*.b"]},
        {"notification_types": [{"$ne": None}]},
        {"expires_at": "2020-01-01T00:00:00Z"},
        {"expires_at": "2099-01-01T00:00:00"},
        {"sub": ""},
        {"sub": {"$gt": ""}},
        {"digest": "00"},
        {"key_id": "key_1"},
        {"created_by": "somebody"},
        {"owner": "somebody"},
    ],
    ids=repr,
)
async def test_a_key_that_makes_no_sense_is_422(shared: Running, change: dict[str, Any]) -> None:
    status, problem = await shared.call("POST", "/api-keys", {"name": "a", "roles": ["user"]} | change, as_=ADMIN)
    assert status == 422
    assert problem["field"].split(".")[0] in change


async def test_a_traded_token_is_the_engines_own_and_lives_for_its_minutes(start: Start) -> None:
    running = await start(JWT_ACCESS_TOKEN_EXPIRE_MINUTES=7, JWT_ISSUER="https://login.example", JWT_AUDIENCE="n")
    headers = {"X-API-Key": ""}
    issued = running.engine.tokens.issue("admin", [Role.ADMIN], 5)
    status, made = await running.call("POST", "/api-keys", {"name": "a", "roles": ["user"]}, as_=issued)
    assert status == 201
    headers["X-API-Key"] = made["api_key"]
    async with running.session.post(f"{running.address}{AUTH}/token", headers=headers) as answer:
        assert answer.status == 200
        assert answer.headers["Cache-Control"] == "no-store"
        traded = await answer.json()
    assert (traded["token_type"], traded["expires_in"]) == ("Bearer", 420)
    assert (await running.call("GET", "/unread-count", as_=traded["access_token"]))[0] == 200
    assert (await running.call("GET", "/unread-count", as_=token("u1", Role.USER)))[0] == 401, "no issuer"
    assert (await auth(running, "/token", traded["access_token"]))[0] == 403, "a token is not traded again"
    assert (await auth(running, "/token", issued))[0] == 403


async def test_last_use_is_kept_and_written_once_a_minute_at_most(running: Running) -> None:
    made = await make(running, roles=["user"])
    before = datetime.now(UTC) - timedelta(seconds=1)
    for _ in range(5):
        assert (await running.call("GET", "/unread-count", as_=made["api_key"]))[0] == 200
    rows = running.engine.database.collection("notification_api_keys")
    async with asyncio.timeout(20):
        while True:
            row = await rows.find_one({"_id": made["key_id"]})
            if row is not None and row["last_used_at"] is not None:
                break
            await asyncio.sleep(0.02)  # written by a loop
    assert row["last_used_at"] >= before
    await running.call("GET", "/unread-count", as_=made["api_key"])
    await running.engine._access_watch.run_once()
    again = await rows.find_one({"_id": made["key_id"]})
    assert again is not None
    assert again["last_used_at"] == row["last_used_at"]


async def test_an_expired_key_is_refused(running: Running) -> None:
    made = await make(running, roles=["user"], expires_at=(datetime.now(UTC) + timedelta(seconds=1.5)).isoformat())
    _, traded = await auth(running, "/token", made["api_key"])
    await until_refused(running, made["api_key"])
    if traded is not None:
        await until_refused(running, traded["access_token"])


async def test_a_revoked_key_is_dead_on_every_replica_with_its_tokens_and_sockets(
    two: tuple[Running, ...],
) -> None:
    one, other = two
    made = await make(one, roles=["user", "service"])
    _, traded = await auth(other, "/token", made["api_key"])
    credentials = (made["api_key"], traded["access_token"])
    sockets = [await other.session.ws_connect(f"{other.address}{API}/ws", protocols=("bearer", c)) for c in credentials]
    for socket in sockets:
        assert (await socket.receive_json(timeout=10))["type"] == "hello"
    kept = await other.session.ws_connect(f"{other.address}{API}/ws", protocols=("bearer", token("u1", Role.USER)))
    for credential in credentials:
        for replica in two:
            assert (await replica.call("GET", "/unread-count", as_=credential))[0] == 200
    status, _ = await one.call("DELETE", f"/api-keys/{made['key_id']}", as_=ADMIN)
    assert status == 204
    for credential in credentials:
        assert (await one.call("GET", "/unread-count", as_=credential))[0] == 401, "at once where it was revoked"
        await until_refused(other, credential)
    for opened in sockets:
        assert await closed_with(opened) == 1008
    assert not kept.closed
    await kept.close()
    assert (await one.call("DELETE", f"/api-keys/{made['key_id']}", as_=ADMIN))[0] == 204, "harmless when repeated"
    _, shown = await one.call("GET", f"/api-keys/{made['key_id']}", as_=ADMIN)
    assert shown["revoked_at"] is not None
    rows = one.engine.database.collection("notification_audit_logs")
    actions = [(d["action"], d["target"], d["user_id"]) async for d in rows.find({"action": {"$regex": "^api_key"}})]
    assert actions == [(f"api_key.{a}", made["key_id"], "admin") for a in ("create", "revoke")]


async def test_tokens_by_jwks_and_keys_beside_each_other(start: Start) -> None:
    signer = Signer("ES256")
    login = LoginServer(signer)
    await login.start()
    try:
        running = await start(JWT_ALGORITHM="ES256", JWT_JWKS_URL=login.url, JWT_ISSUER="https://login.example")
        good = {"iss": "https://login.example"}
        admin = signer.token(good | {"sub": "admin", "roles": ["admin"]})
        body = {"name": "a", "roles": ["user"]}
        status, made = await running.call("POST", "/api-keys", body, as_=admin)
        assert status == 201
        _, traded = await auth(running, "/token", made["api_key"])
        for credential in (signer.token(good), made["api_key"], traded["access_token"]):
            assert (await running.call("GET", "/unread-count", as_=credential))[0] == 200
        for forged in (
            token("admin", Role.ADMIN),
            signer.token(),
            Signer("ES256").token(good),
            Signer("RS256").token(good),
        ):
            assert (await running.call("GET", "/unread-count", as_=forged))[0] == 401
        login.status = 500
        for _ in range(20):
            assert (await running.call("GET", "/unread-count", as_=signer.token(good, {"kid": "no"})))[0] == 401
        assert (await running.call("GET", "/unread-count", as_=signer.token(good | {"sub": "u2"})))[0] == 200
        assert login.asked <= 2, "made-up key names do not make the engine call"
    finally:
        await login.stop()


@pytest.mark.parametrize(
    ("body", "status", "headers"),
    [
        (b"x" * 300_000, 200, {}),
        (b"{}", 200, {}),
        (b"{}", 302, {"Location": "/keys2"}),
        (b"{}", 500, {}),
        (json.dumps({"keys": []}).encode(), 200, {}),
    ],
    ids=["too large", "no key set", "a redirect", "an error", "empty"],
)
async def test_an_address_that_gives_no_keys_is_503_and_not_an_open_door(
    start: Start, body: bytes, status: int, headers: dict[str, str]
) -> None:
    signer = Signer("ES256")
    login = LoginServer(signer)
    login.body, login.status, login.headers = body, status, headers
    await login.start()
    try:
        running = await start(JWT_ALGORITHM="ES256", JWT_JWKS_URL=login.url)
        code, problem = await running.call("GET", "/unread-count", as_=signer.token())
        assert code == 503
        assert problem["detail"]
        assert (await running.call("GET", "/health/status"))[0] == 200
        assert login.asked <= 2
    finally:
        await login.stop()
