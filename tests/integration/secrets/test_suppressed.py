"""Suppressed addresses: found by a keyed hash, shown to operators, not readable in a dump."""

from datetime import UTC, datetime

from tests.integration.conftest import Running, Start, message
from tests.integration.feedback.test_suppressions import exported, listed, put, sent_csv
from tests.integration.secrets.conftest import dump, found

from notification_engine.domain.delivery import Channel
from notification_engine.domain.suppression import Suppression, SuppressionReason, normalised, suppression_id
from notification_engine.services.ports import SuppressionFilter

ADDRESS = "canary-suppressed-4be1@example.org"
OTHER = "other@example.org"


async def keep_as_before(running: Running, address: str, reason: str = "manual") -> str:
    """As an engine before the keyed ids stored it."""
    document_id = suppression_id(Channel.EMAIL, address)
    document = {
        "_id": document_id,
        "channel": "email",
        "address": normalised(address),
        "reason": reason,
        "source": "operator",
        "note": "",
        "created_at": datetime(2026, 11, 1, tzinfo=UTC),
        "created_by": "op",
    }
    await running.engine.database.collection("notification_suppressions").insert_one(document)
    return document_id


async def test_a_dump_shows_no_suppressed_address_and_no_hash_that_can_be_guessed(start: Start, mongod: str) -> None:
    running = await start()
    await put(running, address=ADDRESS)
    assert (await sent_csv(running, f"address,reason,note\nx-{ADDRESS},manual,\n"))[0] == 200
    dumped = await dump(mongod, running.engine.settings.MONGODB_DATABASE)
    guessable = suppression_id(Channel.EMAIL, ADDRESS).removeprefix("sup_")
    assert list(found(dumped, ADDRESS, guessable)) == []
    assert sorted(await listed(running)) == sorted([ADDRESS, f"x-{ADDRESS}"])
    assert await listed(running, f"?address={ADDRESS.upper()}") == [ADDRESS]
    assert ADDRESS in await exported(running)


async def test_what_stood_in_clear_before_suppresses_and_is_brought_over(start: Start, mongod: str) -> None:
    running = await start()
    former = await keep_as_before(running, ADDRESS)
    assert await listed(running, f"?address={ADDRESS}") == [ADDRESS]
    recipients = [{"user_id": "u1", "email": ADDRESS}]
    shown = await running.settled(await running.accept(message(channels=["email"], recipients=recipients)))
    assert [(d["status"], d["reason"]) for d in shown["deliveries"]] == [("suppressed", "suppressed_address")]
    store = running.engine.suppressions
    assert [await store.legacy(), await store.reseal(), await store.reseal(), await store.legacy()] == [1, 1, 0, 0]
    (kept,) = (await store.page(SuppressionFilter(), None, 10)).items
    assert (kept.address, kept.created_at, kept.id != former) == (ADDRESS, datetime(2026, 11, 1, tzinfo=UTC), True)
    assert await store.find(Channel.EMAIL, ADDRESS) == kept
    assert list(found(await dump(mongod, running.engine.settings.MONGODB_DATABASE), ADDRESS)) == []


async def test_a_report_about_an_address_of_before_keeps_one_row_and_the_weightier_reason(running: Running) -> None:
    await keep_as_before(running, ADDRESS, "manual")
    store = running.engine.suppressions
    await store.report([Suppression(ADDRESS, SuppressionReason.COMPLAINT, source="ses", created_by="ses")])
    (kept,) = (await store.page(SuppressionFilter(), None, 10)).items
    assert (kept.reason, kept.source) == (SuppressionReason.COMPLAINT, "operator")


async def test_an_address_that_was_swapped_for_another_still_suppresses_and_is_not_shown(running: Running) -> None:
    await put(running, address=ADDRESS)
    await put(running, address=OTHER)
    collection = running.engine.database.collection("notification_suppressions")
    store = running.engine.suppressions
    mine, other = [(await store.page(SuppressionFilter(address=a), None, 1)).items[0].id for a in (ADDRESS, OTHER)]
    stolen = await collection.find_one({"_id": other})
    assert stolen is not None
    await collection.update_one({"_id": mine}, {"$set": {"address": stolen["address"]}})
    assert sorted(await listed(running)) == ["", OTHER]
    assert await store.find(Channel.EMAIL, ADDRESS) is not None
