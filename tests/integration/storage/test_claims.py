"""Claims: what is due and nothing else, once for each fence, priorities first, whatever becomes of the reply."""

import asyncio
from collections import Counter
from datetime import timedelta

import pytest
from tests.integration.storage.stores import LEASE, Stores, fail_command, notifications_of
from tests.servers.proxy import Proxy

from notification_engine.domain.delivery import DeliveryStatus
from notification_engine.domain.errors import Unavailable
from notification_engine.domain.notification import Priority
from notification_engine.services.ports import Change
from notification_engine.storage.notifications import Notifications


async def _finished(stores: Stores) -> str:
    """A notification that was claimed and delivered, and so has no due time any more."""
    [notification_id] = await stores.put([stores.due()])
    claimed = await stores.claim_one()
    change = Change(notification_id, claimed.deliveries[0].id, 1, DeliveryStatus.DELIVERED, attempts=1)
    assert await stores.notifications.apply([change]) == [True]
    return notification_id


class _Insistent(Notifications):
    """Its candidates are what it is told, as when they finished between the query and the claim."""

    ids: list[str]

    async def _candidates(self, limit: int) -> list[str]:
        return self.ids


async def test_what_has_finished_is_never_claimed_again(stores: Stores) -> None:
    notification_id = await _finished(stores)
    before = await stores.document(notification_id)
    assert "due_at" not in before
    insistent = _Insistent(stores.database, stores.clock, max_waiting_bytes=10)
    insistent.ids = [notification_id]
    assert await insistent.claim("two", 10, LEASE) == []
    assert await stores.claim() == []
    assert await stores.document(notification_id) == before


async def test_without_exists_the_filter_would_match_what_has_finished(stores: Stores) -> None:
    """The trap itself: a missing field sorts below every date. Were it gone, `$exists` could go too."""
    notification_id = await _finished(stores)
    past = {"$expr": {"$lte": ["$due_at", "$$NOW"]}}
    assert await stores.count(_id=notification_id, **past) == 1
    assert await stores.count(_id=notification_id, due_at={"$exists": True}, **past) == 0


async def test_what_is_not_due_yet_is_left(stores: Stores) -> None:
    later = stores.due(due_at=stores.clock.after(3600))
    [now, _] = await stores.put([stores.due(), later])
    assert [n.id for n in await stores.claim()] == [now]


async def test_priorities_first_and_then_the_oldest(stores: Stores) -> None:
    priorities = [Priority.LOW, Priority.CRITICAL, Priority.MEDIUM, Priority.URGENT, Priority.HIGH]
    ages = [1, 30, 10]
    made = []
    for priority in priorities:
        for age in ages:
            at = stores.clock.now() - timedelta(seconds=age)
            made.append(stores.due(priority=priority, created_at=at, due_at=at))
    await stores.put(made)
    wanted = [n.id for n in sorted(made, key=lambda n: (-n.rank, n.created_at))]
    claimed = []
    for _ in range(5):
        claimed += [n.id for n in await stores.claim(limit=3)]
    assert claimed == wanted


async def test_several_daemons_choose_at_random_but_within_a_rank(stores: Stores) -> None:
    """Of the candidates of four batches the few critical ones are taken at once, and low ones anywhere among theirs."""
    low = await stores.put(stores.due(priority=Priority.LOW) for _ in range(70))
    critical = await stores.put(stores.due(priority=Priority.CRITICAL) for _ in range(10))
    own = notifications_of(stores.database, stores.clock, several_daemons=True)
    claimed = await own.claim("one", 20, LEASE)
    assert {n.id for n in claimed[:10]} == set(critical)
    assert [n.priority for n in claimed[10:]] == [Priority.LOW] * 10
    assert {n.id for n in claimed[10:]} != set(low[:10]), "another that claims now meets few of them"


async def test_every_claim_raises_the_fence_and_counts_the_abandoned(stores: Stores) -> None:
    await stores.put([stores.due()])
    seen = []
    for _ in range(3):
        claimed = await stores.claim_one()
        seen.append((claimed.lease.fence, claimed.lease.abandoned, claimed.deliveries[0].claim))
        assert await stores.claim("two") == []
        await stores.expire()
    assert seen == [(1, 0, 1), (2, 1, 2), (3, 2, 3)]


async def test_four_claimers_share_two_thousand_without_a_double(stores: Stores) -> None:
    ids = await stores.put(stores.due() for _ in range(2000))
    claimed: Counter[tuple[str, int]] = Counter()

    async def claimer(name: str) -> None:
        own = notifications_of(stores.database, stores.clock, several_daemons=True)
        while await stores.count(**{"lease.fence": 0}):
            got = await own.claim(name, 50, LEASE)
            assert all(n.lease.owner == name for n in got)
            claimed.update((n.id, n.lease.fence) for n in got)

    async with asyncio.timeout(60):
        await asyncio.gather(*(claimer(f"claimer-{i}") for i in range(4)))
    assert claimed == Counter((notification_id, 1) for notification_id in ids)


async def test_a_claim_whose_reply_is_lost_is_found_by_its_token(stores: Stores, proxied: Stores, proxy: Proxy) -> None:
    ids = await stores.put(stores.due() for _ in range(20))
    proxy.lose("update", 1)
    claimed = await proxied.claim("one")
    assert proxy.left == 0
    assert {n.id for n in claimed} == set(ids)
    assert {(n.lease.owner, n.lease.fence) for n in claimed} == {("one", 1)}
    assert await stores.claim("two") == []


async def test_a_claim_that_was_never_made_is_said(mongod: str, stores: Stores) -> None:
    [notification_id] = await stores.put([stores.due()])
    data = {"failCommands": ["update"], "closeConnection": True}
    async with fail_command(mongod, stores.database, "notifications", {"times": 1}, **data):
        with pytest.raises(Unavailable):
            await stores.claim()
    assert (await stores.document(notification_id))["lease"]["fence"] == 0
    assert [n.id for n in await stores.claim()] == [notification_id]


async def test_old_leases_are_freed_with_their_fences_raised(stores: Stores) -> None:
    [notification_id] = await stores.put([stores.due()])
    await stores.claim()
    assert await stores.claim("two") == []
    assert await stores.notifications.free_all() == 1
    claimed = await stores.claim_one("two")
    assert (claimed.id, claimed.lease.fence, claimed.lease.abandoned) == (notification_id, 3, 1)
