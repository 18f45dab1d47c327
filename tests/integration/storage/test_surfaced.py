"""What the live poll asks: from the index alone; and caches that keep nothing older than a change."""

import asyncio
from datetime import timedelta

from tests.integration.storage.stores import Stores

from notification_engine.domain.caller import Caller, Role
from notification_engine.domain.delivery import Channel
from notification_engine.domain.notification import Inbox
from notification_engine.domain.preference import Preference
from notification_engine.storage.audit import AuditLog
from notification_engine.storage.inbox import INBOX_INDEX
from notification_engine.storage.preferences import Preferences

USER = Caller("u1", frozenset({Role.USER}), 0.0)


async def test_what_surfaced_for_these_users_comes_in_order_and_bounded(stores: Stores) -> None:
    now = stores.clock.now()
    at = [now - timedelta(seconds=s) for s in (30, 20, 10, 0)]
    ids = await stores.put(
        stores.due(Channel.IN_APP, user_id=user, inbox=Inbox(visible_at=at[i]))
        for i, user in ((0, "u1"), (1, "u2"), (2, "u1"), (3, "u3"))
    )
    await stores.put([stores.due(Channel.IN_APP, user_id="u1", inbox=Inbox())])
    query = stores.notifications
    found = await query.surfaced_since(["u1", "u2"], at[0], 10)
    assert [one.id for one in found] == ids[:3]
    assert [one.user_id for one in found] == ["u1", "u2", "u1"]
    assert [one.id for one in await query.surfaced_since(["u1", "u2"], at[1], 10)] == ids[1:3]
    assert [one.id for one in await query.surfaced_since(["u1", "u2"], at[0], 2)] == ids[:2]
    assert [one.id for one in await query.surfaced_since(["u1", "u2"], at[0], 2, newest=True)] == [ids[2], ids[1]]
    assert await query.surfaced_since([], at[0], 10) == []
    assert [n.id for n in await query.surfaced([ids[2], ids[0]])] == [ids[0], ids[2]]


async def test_the_look_reads_no_document(stores: Stores) -> None:
    now = stores.clock.now()
    await stores.put(stores.due(Channel.IN_APP, user_id=f"u{i % 7}", inbox=Inbox(visible_at=now)) for i in range(50))
    match = {"user_id": {"$in": [f"u{i}" for i in range(300)]}, "inbox.visible_at": {"$gte": now}}
    found = stores.database.collection("notifications").find(
        match, {"_id": 1, "user_id": 1, "inbox.visible_at": 1}, hint=INBOX_INDEX
    )
    plan = await found.sort([("inbox.visible_at", 1), ("_id", 1)]).limit(100).explain()
    stats = plan["executionStats"]
    assert (stats["nReturned"], stats["totalDocsExamined"]) == (50, 0)


async def test_a_read_that_was_under_way_at_a_change_is_not_kept(stores: Stores) -> None:
    """The read began before the change and ends after it: keeping it would show the old state for seconds."""
    preferences = Preferences(stores.database, AuditLog(stores.database))
    for mute in (True, False) * 20:
        reading = asyncio.create_task(preferences.get("u1"))
        await preferences.put(USER, Preference("u1", mute))
        await reading
        assert (await preferences.get("u1")).mute is mute


async def test_who_is_told_forgets(stores: Stores) -> None:
    one, two = (Preferences(stores.database, AuditLog(stores.database)) for _ in range(2))
    told: list[str] = []
    one.on_change = told.append
    assert (await two.get("u1")).mute is False
    await one.put(USER, Preference("u1", mute=True))
    assert told == ["u1"]
    assert (await two.get("u1")).mute is False, "kept, and nobody told it"
    two.forget("u1")
    assert (await two.get("u1")).mute is True
