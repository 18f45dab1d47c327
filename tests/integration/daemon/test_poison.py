"""Poison: what kills its process runs alone after two deaths, and only deaths there make a dead letter."""

import asyncio

from tests.integration.daemon.daemons import Daemon, a_daemon, never
from tests.integration.storage.stores import Stores

from notification_engine.domain.delivery import Channel
from notification_engine.domain.outcome import Message, Outcome


async def _killed(stores: Stores, name: str) -> tuple[Daemon, dict[str, object]]:
    """One process that ends while it sends; its lease as it stood at that moment."""
    daemon = a_daemon(stores, name)
    daemon.webhook.answer = never
    await daemon.sweeper.run_once()
    async with asyncio.timeout(10):
        await daemon.webhook.began.wait()
    [lease] = [d["lease"] async for d in stores.database.majority("notifications").find({})]
    await daemon.die()
    await stores.expire()
    return daemon, lease


async def test_alone_after_two_deaths_and_dead_after_three_more(stores: Stores) -> None:
    [notification_id] = await stores.put([stores.due()])
    told = []
    for number in range(5):
        daemon, lease = await _killed(stores, f"daemon-{number}")
        told.append((daemon.webhook.calls[0].solo, lease["solo"], lease["abandoned"], lease["solo_deaths"]))
    assert told == [
        (False, False, 0, 0),
        (False, False, 1, 0),
        (True, True, 2, 0),
        (True, True, 3, 1),
        (True, True, 4, 2),
    ]
    last = a_daemon(stores, "last")
    await last.sweep()
    assert last.webhook.calls == []
    stored = await stores.document(notification_id)
    assert stored["status"] == "failed"
    assert stored["deliveries"][0]["reason"] == "poison"
    assert "due_at" not in stored
    assert [(r["delivery_status"], r["reason"]) for r in await stores.rows(notification_id)] == [("failed", "poison")]


async def test_an_email_is_settled_as_unknown_before_it_can_be_poison(stores: Stores) -> None:
    """Its mark is there already at the first death: nobody may send it again by himself."""
    [notification_id] = await stores.put([stores.due(Channel.EMAIL)])
    daemon = a_daemon(stores)
    daemon.email.answer = never
    await daemon.sweeper.run_once()
    await daemon.email.began.wait()
    await daemon.die()
    await stores.expire()
    heir = a_daemon(stores, "heir")
    await heir.sweep()
    assert (await stores.document(notification_id))["status"] == "unknown"


async def test_those_that_run_alone_run_one_at_a_time(stores: Stores) -> None:
    await stores.put(stores.due() for _ in range(10))
    for name in ("one", "two"):
        await stores.claim(name)
        await stores.expire()
    daemon, running, most = a_daemon(stores), 0, 0

    async def counted(message: Message) -> Outcome:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.01)  # long enough for another to begin
        running -= 1
        return await daemon.webhook._taken(message)

    daemon.webhook.answer = counted
    await daemon.sweep()
    assert (len(daemon.webhook.calls), most) == (10, 1)
    assert await stores.count(status="delivered") == 10


async def test_a_success_forgets_the_deaths(stores: Stores) -> None:
    [notification_id] = await stores.put([stores.due()])
    for number in range(3):
        await _killed(stores, f"daemon-{number}")
    await a_daemon(stores, "last").sweep()
    stored = await stores.document(notification_id)
    assert stored["status"] == "delivered"
    assert stored["lease"] == {"fence": 4, "abandoned": 0, "solo": False, "solo_deaths": 0}


async def _until_killed_or_idle(daemon: Daemon, dead: asyncio.Event) -> bool:
    await daemon.sweeper.run_once()
    idle, killed = asyncio.create_task(daemon.idle()), asyncio.create_task(dead.wait())
    await asyncio.wait([idle, killed], return_when=asyncio.FIRST_COMPLETED)
    for task in (idle, killed):
        task.cancel()
    return dead.is_set()


async def test_who_shares_a_process_with_poison_is_no_dead_letter(stores: Stores) -> None:
    """The poison ends every process that sends it; in the first two nobody else gets an answer either."""
    healthy = await stores.put(stores.due() for _ in range(20))
    [poison] = await stores.put([stores.due(user_id="poison")])
    for life in range(60):
        daemon, dead = a_daemon(stores, f"life-{life}"), asyncio.Event()

        async def answer(
            message: Message, daemon: Daemon = daemon, dead: asyncio.Event = dead, life: int = life
        ) -> Outcome:
            if message.user_id == "poison":
                dead.set()
            if message.user_id == "poison" or life < 2:
                await never(message)
            return await daemon.webhook._taken(message)

        daemon.webhook.answer = answer
        killed = await _until_killed_or_idle(daemon, dead)
        await daemon.die()
        await stores.expire()
        if not killed:
            break
    assert [(await stores.document(i))["status"] for i in healthy] == ["delivered"] * 20
    assert (await stores.document(poison))["deliveries"][0]["reason"] == "poison"
