"""The janitor: history rows that a crash left out are derived from the notifications, once."""

from datetime import timedelta

import pytest
from tests.integration.storage.stores import Stores

from notification_engine.daemon import janitor as module
from notification_engine.daemon.janitor import Janitor
from notification_engine.domain.delivery import Channel, DeliveryStatus, Reason
from notification_engine.domain.notification import Inbox, Notification
from notification_engine.kit.ids import new_id
from notification_engine.services.announce import settled_at_insert
from notification_engine.storage.walk import Walk


def _inserted(stores: Stores, seconds_ago: float, *channels: Channel) -> Notification:
    """In-app delivered by the insert, whatever else suppressed by it."""
    at = stores.clock.now() - timedelta(seconds=seconds_ago)
    made = stores.due(*(channels or (Channel.IN_APP,)), id=new_id("ntfy", int(at.timestamp() * 1000)), created_at=at)
    for index, delivery in enumerate(made.deliveries):
        delivery.id = f"dlv_{made.id.removeprefix('ntfy_')}_{index}"
        delivery.created_at, delivery.next_attempt_at = at, None
        if delivery.channel is Channel.IN_APP:
            delivery.status, delivery.delivered_at, delivery.attempts = DeliveryStatus.DELIVERED, at, 1
            delivery.provider = "in_app"
        else:
            delivery.status, delivery.reason = DeliveryStatus.SUPPRESSED, Reason.NO_ADDRESS
    made.due_at, made.inbox = None, Inbox(visible_at=at)
    return made


def _janitor(stores: Stores) -> Janitor:
    return Janitor(Walk(stores.database, "history"), stores.history, stores.clock)


async def _rows(stores: Stores) -> list[tuple[str, str]]:
    found = stores.database.majority("notification_history").find(sort=[("_id", 1)])
    return [(row["delivery_id"], row["delivery_status"]) async for row in found]


async def test_missing_rows_are_written_as_the_accepting_process_would_have(stores: Stores) -> None:
    made = _inserted(stores, 120, Channel.IN_APP, Channel.EMAIL)
    await stores.put([made])
    await _janitor(stores).run_once()
    derived = await stores.history.timeline(made.id)
    assert {row.id: row for row in derived} == {row.id: row for row in settled_at_insert(made)}
    assert len(derived) == 2


async def test_rows_that_are_there_stay_as_they_are(stores: Stores) -> None:
    written, left_out = _inserted(stores, 130), _inserted(stores, 120)
    await stores.put([written, left_out])
    await stores.history.append(settled_at_insert(written))
    for _ in range(3):
        await _janitor(stores).run_once()
    assert await _rows(stores) == [(n.deliveries[0].id, "delivered") for n in (written, left_out)]


async def test_what_is_younger_than_a_minute_is_left_to_its_process(stores: Stores) -> None:
    young = _inserted(stores, 30)
    await stores.put([young])
    await _janitor(stores).run_once()
    assert await _rows(stores) == []
    assert await Walk(stores.database, "history").watermark() == ""


async def test_the_watermark_moves_on_in_batches_and_never_back(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BATCH", 7)
    made = [_inserted(stores, 200 - i) for i in range(50)]
    await stores.put(made)
    walk = Walk(stores.database, "history")
    await _janitor(stores).run_once()
    assert len(await _rows(stores)) == 50
    assert await walk.watermark() == max(n.id for n in made)
    await walk.advance(made[0].id)
    assert await walk.watermark() == max(n.id for n in made)


async def test_what_a_lane_has_yet_to_send_is_none_of_its_business(stores: Stores) -> None:
    at = stores.clock.now() - timedelta(seconds=120)
    waiting = stores.due(id=new_id("ntfy", int(at.timestamp() * 1000)), created_at=at)
    await stores.put([waiting])
    await _janitor(stores).run_once()
    assert await _rows(stores) == []
