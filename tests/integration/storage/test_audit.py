"""The audit chain: what is altered, taken away, moved or added is named; honest writers, clocks and crashes are not."""

import asyncio
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs
from tests.integration.storage.stores import fail_command

from notification_engine.domain.audit import DAY_CLOSED, link, row_hash
from notification_engine.domain.caller import Caller, Role
from notification_engine.kit.clock import Clock
from notification_engine.kit.origin import Origin
from notification_engine.security.pseudonyms import Pseudonyms
from notification_engine.storage.audit import AuditLog, Verified
from notification_engine.storage.connection import Database, Session
from notification_engine.storage.migrations import MIGRATIONS

ADMIN = Caller("admin", frozenset({Role.ADMIN}), 0.0)
KEYS = Pseudonyms("a secret of the tests, 32 bytes or more")
TODAY = datetime(2026, 11, 25, 12, tzinfo=UTC)


class Hands(Clock):
    """A clock that the test turns."""

    def __init__(self) -> None:
        super().__init__()
        self.time = TODAY

    def now(self) -> datetime:
        return self.time


@pytest.fixture
def hands() -> Hands:
    return Hands()


@pytest.fixture
async def audit(database: Database, hands: Hands) -> AuditLog:
    return AuditLog(database, hands, KEYS)


async def fill(audit: AuditLog, hands: Hands, *, days: int = 2, rows: int = 4) -> None:
    for day in range(days):
        hands.time = TODAY + timedelta(days=day)
        for number in range(rows):
            await audit.append(ADMIN, "webhook.change", f"whk_{day}{number}", before={"n": number}, after={"n": day})


async def fault(audit: AuditLog) -> str:
    found = (await audit.verify()).fault
    assert found is not None
    return found


async def rows(database: Database) -> list[dict[str, Any]]:
    found = database.majority("notification_audit_logs").find({}, sort=[("day", 1), ("seq", 1)])
    return [row async for row in found]


async def test_rows_say_who_did_what_from_where_and_when(audit: AuditLog, database: Database) -> None:
    origin = Origin("192.0.2.7", "req_1")
    await audit.append(ADMIN, "type.change", "a.b", before={"p": "low"}, after={"p": "high"}, origin=origin)
    [row] = await rows(database)
    assert (row["user_id"], row["roles"], row["action"], row["target"]) == ("admin", ["admin"], "type.change", "a.b")
    assert (row["before"], row["after"]) == ({"p": "low"}, {"p": "high"})
    assert (row["address"], row["request_id"], row["timestamp"]) == ("192.0.2.7", "req_1", TODAY)
    assert (row["day"], row["seq"]) == ("2026-11-25", 1)
    assert await audit.verify() == Verified(1, (await audit.verify()).head, None)


async def test_days_are_chained_and_end_with_a_closing_row(audit: AuditLog, hands: Hands, database: Database) -> None:
    await fill(audit, hands, days=3, rows=2)
    found = await rows(database)
    assert [(r["day"][-2:], r["seq"]) for r in found] == [
        *(("25", 1), ("25", 2), ("25", 3), ("26", 1), ("26", 2), ("26", 3), ("27", 1), ("27", 2))
    ]
    assert [r["action"] for r in found].count(DAY_CLOSED) == 2
    assert found[3]["previous_hash"] == found[2]["hash"]
    assert (await audit.verify()).fault is None
    assert (await audit.verify("2026-11-26", "2026-11-26")).rows == 3


@pytest.mark.parametrize(
    "change",
    [
        {"target": "whk_other"},
        {"user_id": "somebody"},
        {"action": "webhook.delete"},
        {"after": {"n": 7}},
        {"timestamp": TODAY + timedelta(seconds=1)},
        {"request_id": "req_forged"},
        {"roles": []},
        {"digests": {}},
        {"hash": "0" * 64},
    ],
)
async def test_the_first_altered_row_is_named(
    audit: AuditLog, hands: Hands, database: Database, change: dict[str, Any]
) -> None:
    await fill(audit, hands)
    for seq in (2, 4):
        await database.collection("notification_audit_logs").update_one(
            {"day": "2026-11-25", "seq": seq}, {"$set": change}
        )
    assert "2026-11-25 row 2" in await fault(audit)
    assert "altered" in await fault(audit)


async def test_an_altered_row_with_a_new_hash_breaks_the_next_one(
    audit: AuditLog, hands: Hands, database: Database
) -> None:
    await fill(audit, hands)
    row = (await rows(database))[1]
    forged = row | {"action": "webhook.delete"}
    forged["hash"] = row_hash(forged)
    await database.collection("notification_audit_logs").replace_one({"_id": row["_id"]}, forged)
    assert (await fault(audit)).startswith("2026-11-25 row 3")


async def test_a_row_missing_in_the_middle_is_named(audit: AuditLog, hands: Hands, database: Database) -> None:
    await fill(audit, hands)
    await database.collection("notification_audit_logs").delete_one({"day": "2026-11-25", "seq": 3})
    assert "row 3 of 2026-11-25 is missing" in await fault(audit)


async def test_rows_missing_at_the_end_are_found_by_the_stored_head(
    audit: AuditLog, hands: Hands, database: Database
) -> None:
    await fill(audit, hands)
    await database.collection("notification_audit_logs").delete_many({"day": "2026-11-26", "seq": {"$gte": 3}})
    assert "2026-11-26 row 4 is missing" in await fault(audit)
    await audit.append(ADMIN, "webhook.change", "whk_later")
    assert "row 3 of 2026-11-26 is missing" in await fault(audit)  # what follows does not cover the gap


async def test_rows_missing_at_the_end_of_a_former_day_are_named(
    audit: AuditLog, hands: Hands, database: Database
) -> None:
    await fill(audit, hands)
    await database.collection("notification_audit_logs").delete_many({"day": "2026-11-25", "seq": {"$gte": 4}})
    assert "the end of 2026-11-25" in await fault(audit)


async def test_an_end_cut_off_with_its_stored_head_is_found_by_the_logged_one(
    audit: AuditLog, hands: Hands, database: Database
) -> None:
    await fill(audit, hands, days=1)
    head = (await audit.verify()).head
    assert head is not None
    await database.collection("notification_audit_logs").delete_many({"seq": {"$gte": 3}})
    await database.collection("notification_audit_heads").delete_many({})
    assert (await audit.verify()).fault is None  # the database alone cannot know
    found = await audit.verify(heads=[(head.day, head.seq, head.hash)])
    assert found.fault is not None
    assert "row 4 is missing" in found.fault


async def test_rows_that_changed_places_are_named(audit: AuditLog, hands: Hands, database: Database) -> None:
    await fill(audit, hands)
    collection = database.collection("notification_audit_logs")
    for seq, place in ((2, 99), (3, 2), (99, 3)):
        await collection.update_one({"day": "2026-11-25", "seq": seq}, {"$set": {"seq": place}})
    found = await fault(audit)
    assert found.startswith("2026-11-25 row 2")
    assert "moved" in found


async def test_rows_put_in_are_named(audit: AuditLog, hands: Hands, database: Database) -> None:
    await fill(audit, hands)
    collection = database.collection("notification_audit_logs")
    [row] = link({"_id": "aud_forged", "action": "x", "user_id": "x", "target": "x"}, None, TODAY)[0]
    row |= {"seq": 9, "hash": ""}
    row["hash"] = row_hash(row)
    await collection.insert_one(row)
    assert "2026-11-25 row 9 (aud_forged)" in await fault(audit)
    await collection.delete_one({"_id": "aud_forged"})
    await collection.insert_one({"_id": "aud_loose", "action": "x", "user_id": "x", "target": "x"})
    assert "aud_loose is inserted" in await fault(audit)


async def test_a_part_taken_out_without_the_key_is_no_erasure(
    audit: AuditLog, hands: Hands, database: Database
) -> None:
    await fill(audit, hands)
    forged = {"receipt": "ers_1", "seal": Pseudonyms("another key, which the attacker made up").seal("x")}
    await database.collection("notification_audit_logs").update_one(
        {"day": "2026-11-25", "seq": 2},
        {"$unset": {"target": "", "before": "", "after": ""}, "$set": {"erased.object": forged}},
    )
    assert "not by an erasure" in await fault(audit)


async def test_an_erasure_takes_the_user_out_and_the_chain_holds(
    audit: AuditLog, hands: Hands, database: Database
) -> None:
    ada = Caller("ada", frozenset({Role.USER}), 0.0)
    await audit.append(ada, "preferences.unsubscribe", "a.b email", subject="ada", origin=Origin("192.0.2.1", "req_1"))
    await audit.append(ADMIN, "preferences.replace", "preferences", subject="ada", after={"mute": True})
    await audit.append(ADMIN, "webhook.change", "whk_1")
    assert len(await audit.export("ada")) == 2
    assert await audit.erase("ada") == 2
    found = await rows(database)
    assert "ada" not in repr(found)
    assert "192.0.2.1" not in repr(found)
    assert [r["user_id"] for r in found] == [KEYS.of("ada"), "admin", "admin"]
    assert (await audit.verify()).fault is None
    assert await audit.erase("ada") == 0
    await database.collection("notification_audit_logs").update_one({"seq": 1}, {"$set": {"user_id": "eve"}})
    assert "row 1" in await fault(audit)


async def test_a_clock_that_goes_back_leaves_the_chain_whole(audit: AuditLog, hands: Hands, database: Database) -> None:
    await audit.append(ADMIN, "a", "1")
    for back in (timedelta(hours=3), timedelta(days=2)):
        hands.time = TODAY - back
        await audit.append(ADMIN, "a", "2")
    assert {row["timestamp"] for row in await rows(database)} == {TODAY}
    assert (await audit.verify()).fault is None


async def test_an_idle_day_is_closed_and_its_head_stored(audit: AuditLog, hands: Hands, database: Database) -> None:
    await fill(audit, hands, days=1)
    hands.time += timedelta(days=1)
    await audit.close_day()
    await audit.close_day()
    head = await database.collection("notification_audit_heads").find_one({"_id": "2026-11-25"})
    assert head is not None
    assert (head["seq"], head["closed"]) == (5, True)
    await audit.append(ADMIN, "a", "1")
    assert [r["seq"] for r in await rows(database)][-2:] == [5, 1]
    assert (await audit.verify()).fault is None


async def test_each_head_is_logged_also_of_what_a_transaction_wrote(
    audit: AuditLog, hands: Hands, database: Database
) -> None:
    async def work(session: Session) -> None:
        await audit.append(ADMIN, "a", "2", session=session)

    with capture_logs() as logged:
        await audit.append(ADMIN, "a", "1")
        await database.transaction(work)
        await audit.close_day()
        await audit.close_day()
        hands.time += timedelta(days=1)
        await audit.close_day()
    told = [(line["day"], line["seq"], line["hash"], line["closed"]) for line in logged if line["component"] == "audit"]
    expected = [(r["day"], r["seq"], r["hash"], r["action"] == DAY_CLOSED) for r in await rows(database)]
    assert told == expected


async def test_a_transaction_that_fails_leaves_no_gap(audit: AuditLog, database: Database) -> None:
    async def work(session: Session) -> None:
        await audit.append(ADMIN, "a", "lost", session=session)
        raise ValueError("the work fails")

    await audit.append(ADMIN, "a", "1")
    with pytest.raises(ValueError, match="the work fails"):
        await database.transaction(work)
    await audit.append(ADMIN, "a", "2")
    assert [(r["seq"], r["target"]) for r in await rows(database)] == [(1, "1"), (2, "2")]
    assert (await audit.verify()).fault is None


async def test_transactions_and_a_flood_share_one_chain(audit: AuditLog, database: Database) -> None:
    async def transaction(number: int) -> None:
        async def work(session: Session) -> None:
            await audit.append(ADMIN, "in", str(number), session=session)

        await database.transaction(work)

    flood = [audit.append(ADMIN, "denied", str(n)) for n in range(300)]
    await asyncio.gather(*flood, *(transaction(n) for n in range(10)))
    found = await rows(database)
    assert [r["seq"] for r in found] == list(range(1, 311))
    assert (await audit.verify()).fault is None


async def test_a_flood_costs_few_writes(audit: AuditLog, database: Database) -> None:
    before = await _inserts(database)
    await asyncio.gather(*(audit.append(ADMIN, "denied", str(n)) for n in range(400)))
    assert await _inserts(database) - before <= 5


async def _inserts(database: Database) -> int:
    found = await database.collection("notification_audit_logs").aggregate([{"$collStats": {"latencyStats": {}}}])
    return int((await found.next())["latencyStats"]["writes"]["ops"])


async def test_a_write_whose_answer_is_lost_is_there_once(audit: AuditLog, database: Database, mongod: str) -> None:
    fault = {"failCommands": ["insert"], "closeConnection": True}
    async with fail_command(mongod, database, "notification_audit_logs", {"times": 3}, **fault):
        await audit.append(ADMIN, "a", "1")
    concern = {"failCommands": ["insert"], "writeConcernError": {"code": 91, "errmsg": "shutting down"}}
    async with fail_command(mongod, database, "notification_audit_logs", {"times": 1}, **concern):
        await audit.append(ADMIN, "a", "2")
    assert [r["target"] for r in await rows(database)] == ["1", "2"]
    assert (await audit.verify()).fault is None


WRITER = """
import asyncio, sys
from notification_engine.domain.caller import Caller, Role
from notification_engine.storage.audit import AuditLog
from notification_engine.storage.connection import Database

async def main(url, name, writer):
    database = Database(url, name, pool_size=10)
    caller = Caller(writer, frozenset({Role.ADMIN}), 0.0)
    logs = [AuditLog(database) for _ in range(4)]
    for number in range(25):
        await asyncio.gather(*(log.append(caller, "a", f"{number}.{i}") for i, log in enumerate(logs)))
    await database.close()

asyncio.run(main(*sys.argv[1:]))
"""


async def test_eight_writers_in_two_processes_make_one_chain(audit: AuditLog, database: Database, mongod: str) -> None:
    source = Path(__file__).parents[3] / "src"
    started = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-c", WRITER, mongod, database.name, writer, env={"PYTHONPATH": str(source)}
        )
        for writer in ("one", "two")
    ]
    assert [await process.wait() for process in started] == [0, 0]
    found = [r for r in await rows(database) if r["action"] == "a"]
    assert len(found) == 200
    assert len({(r["user_id"], r["target"]) for r in found}) == 200
    assert (await audit.verify()).fault is None


async def test_rows_from_before_the_chain_are_linked_once(database: Database) -> None:
    collection = database.collection("notification_audit_logs")
    await collection.insert_many([{"timestamp": TODAY, "user_id": "op", "action": "a", "target": str(n)} for n in "12"])
    for _ in range(2):
        await dict(MIGRATIONS)["0008_audit_chain"](database)
    audit = AuditLog(database, Hands(), KEYS)
    assert [row["target"] for row in await rows(database)] == ["1", "2"]
    assert (await audit.verify()).fault is None
