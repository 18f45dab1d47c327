"""Migrations: ordered, recorded in `notification_migrations`, run again harmlessly at each start."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from pymongo import ASCENDING, DESCENDING, IndexModel

from notification_engine.domain.audit import Head, link
from notification_engine.storage.claims import QUEUE_INDEX
from notification_engine.storage.connection import Database, Session, translated
from notification_engine.storage.inbox import INBOX_INDEX
from notification_engine.storage.pipelines import recompute

GUIDE: dict[str, list[IndexModel]] = {
    "notifications": [
        IndexModel([("user_id", ASCENDING), ("created_at", DESCENDING)]),
        IndexModel([("status", ASCENDING), ("created_at", DESCENDING)]),
        IndexModel([("notification_type", ASCENDING), ("created_at", DESCENDING)]),
        IndexModel([("priority", ASCENDING), ("status", ASCENDING)]),
    ],
    "notification_history": [
        IndexModel([("user_id", ASCENDING), ("timestamp", DESCENDING)]),
        IndexModel([("notification_id", ASCENDING)]),
        IndexModel([("delivery_status", ASCENDING), ("timestamp", DESCENDING)]),
    ],
    "notification_preferences": [
        IndexModel([("user_id", ASCENDING)], unique=True),
        IndexModel([("updated_at", DESCENDING)]),
    ],
    "notification_audit_logs": [
        IndexModel([("timestamp", DESCENDING)]),
        IndexModel([("user_id", ASCENDING), ("timestamp", DESCENDING)]),
        IndexModel([("action", ASCENDING), ("timestamp", DESCENDING)]),
    ],
}
_SURFACED = {"inbox.visible_at": {"$exists": True}}
OURS: dict[str, list[IndexModel]] = {
    "notifications": [
        IndexModel(
            [("rank", DESCENDING), ("due_at", ASCENDING)],
            name=QUEUE_INDEX,
            partialFilterExpression={"due_at": {"$exists": True}},
        ),
        IndexModel(
            [("idempotency.key", ASCENDING)],
            unique=True,
            partialFilterExpression={"idempotency.key": {"$exists": True}},
        ),
        IndexModel(
            [("user_id", ASCENDING), ("inbox.visible_at", DESCENDING), ("_id", DESCENDING)],
            name=INBOX_INDEX,
            partialFilterExpression=_SURFACED,
        ),
        IndexModel(
            [("user_id", ASCENDING)],
            name="unread",
            partialFilterExpression={"inbox.read_at": None} | _SURFACED,
        ),
    ],
    "notification_tickets": [IndexModel([("expires_at", ASCENDING)], expireAfterSeconds=0)],
    "notification_replicas": [IndexModel([("expires_at", ASCENDING)], expireAfterSeconds=0)],
    "notification_metrics": [
        IndexModel([("expires_at", ASCENDING)], expireAfterSeconds=0),
        IndexModel([("timestamp", DESCENDING)]),
    ],
}


DEAD_LETTERS: dict[str, list[IndexModel]] = {
    "notifications": [
        IndexModel(
            [("dead_at", DESCENDING), ("_id", DESCENDING)],
            name="dead_letters",
            partialFilterExpression={"dead_at": {"$exists": True}},
        )
    ]
}
_MAY_BE_DEAD = ["failed", "unknown", "partially_delivered", "processing", "pending"]


async def _guide_indexes(database: Database) -> None:
    await _create(database, GUIDE)


async def _engine_indexes(database: Database) -> None:
    await _create(database, OURS)


LEDGERS: dict[str, list[IndexModel]] = {
    "notification_ledgers": [
        IndexModel([("minute", DESCENDING)]),
        IndexModel([("expires_at", ASCENDING)], expireAfterSeconds=0),
    ]
}


ATTACHMENTS: dict[str, list[IndexModel]] = {
    "notification_attachments": [IndexModel([("expires_at", ASCENDING)], expireAfterSeconds=0)]
}


async def _attachments(database: Database) -> None:
    await _create(database, ATTACHMENTS)


FEEDBACK: dict[str, list[IndexModel]] = {
    "notification_provider_events": [
        IndexModel([("delivery_id", ASCENDING)], partialFilterExpression={"delivery_id": {"$exists": True}}),
        IndexModel([("received_at", DESCENDING)]),
    ],
    "notification_callbacks_seen": [IndexModel([("expires_at", ASCENDING)], expireAfterSeconds=0)],
    "notification_suppressions": [IndexModel([("created_at", DESCENDING), ("_id", DESCENDING)])],
}


async def _feedback(database: Database) -> None:
    await _create(database, FEEDBACK)


ACCESS: dict[str, list[IndexModel]] = {
    "notification_revocations": [
        IndexModel([("created_at", DESCENDING)]),
        IndexModel([("expires_at", ASCENDING)], expireAfterSeconds=0),
    ]
}


async def _access(database: Database) -> None:
    await _create(database, ACCESS)


async def _ledgers(database: Database) -> None:
    await _create(database, LEDGERS)


async def _dead_letters(database: Database) -> None:
    """Also for those that are dead already."""
    await _create(database, DEAD_LETTERS)
    await database.collection("notifications").update_many(
        {"status": {"$in": _MAY_BE_DEAD}}, recompute(reset_deaths=False)
    )


async def _create(database: Database, indexes: dict[str, list[IndexModel]]) -> None:
    for name, models in indexes.items():
        await database.collection(name).create_indexes(models)


AUDIT_CHAIN: dict[str, list[IndexModel]] = {
    "notification_audit_logs": [
        IndexModel(
            [("day", ASCENDING), ("seq", ASCENDING)],
            name="chain",
            unique=True,
            partialFilterExpression={"seq": {"$exists": True}},
        ),
        IndexModel([("subject", ASCENDING)], name="subject", partialFilterExpression={"subject": {"$exists": True}}),
    ]
}


async def _audit_chain(database: Database) -> None:
    """Rows from before the chain are linked, once; what is found outside an existing chain stays there, to be seen."""
    rows = database.collection("notification_audit_logs")
    await _create(database, AUDIT_CHAIN)

    async def link_all(session: Session) -> None:
        if await rows.find_one({"seq": {"$exists": True}}, session=session):
            return
        head: Head | None = None
        async for row in rows.find({}, sort=[("timestamp", ASCENDING), ("_id", ASCENDING)], session=session):
            linked, head = link(row | {"_id": str(row["_id"])}, head, row["timestamp"])
            await rows.delete_one({"_id": row["_id"]}, session=session)
            await rows.insert_many(linked, session=session)

    await database.transaction(link_all)


DATA_PROTECTION: dict[str, list[IndexModel]] = {
    "notifications": [
        IndexModel(
            [("attachments.content_id", ASCENDING)],
            name="contents",
            partialFilterExpression={"attachments.content_id": {"$exists": True}},
        )
    ],
    "notification_provider_events": [
        IndexModel([("address", ASCENDING)], name="address", partialFilterExpression={"address": {"$exists": True}})
    ],
    "notification_erasures": [
        IndexModel([("expires_at", ASCENDING)], expireAfterSeconds=0),
        IndexModel([("ids", ASCENDING)]),
    ],
}


async def _data_protection(database: Database) -> None:
    await _create(database, DATA_PROTECTION)


MIGRATIONS: tuple[tuple[str, Callable[[Database], Awaitable[None]]], ...] = (
    ("0001_guide_indexes", _guide_indexes),
    ("0002_engine_indexes", _engine_indexes),
    ("0003_dead_letters", _dead_letters),
    ("0004_ledgers", _ledgers),
    ("0005_attachments", _attachments),
    ("0006_feedback", _feedback),
    ("0007_access", _access),
    ("0008_audit_chain", _audit_chain),
    ("0009_data_protection", _data_protection),
)


ALL_INDEXES = (GUIDE, OURS, DEAD_LETTERS, LEDGERS, ATTACHMENTS, FEEDBACK, ACCESS, AUDIT_CHAIN, DATA_PROTECTION)


async def pending(database: Database) -> list[str]:
    """The names that `migrate` would run, in order."""
    done = await _recorded(database)
    return [name for name, _ in MIGRATIONS if name not in done]


async def foreign(database: Database) -> list[str]:
    """Names that another, newer version has run."""
    return sorted(await _recorded(database) - {name for name, _ in MIGRATIONS})


async def _recorded(database: Database) -> set[str]:
    with translated():
        return {d["_id"] async for d in database.collection("notification_migrations").find({}, {"_id": 1})}


async def migrate(database: Database, *, again: bool = False) -> list[str]:
    """Runs what is not recorded, in order, or all of them; answers the names it ran. Two replicas may run the same one
    at once: each step creates only what is not there."""
    records = database.collection("notification_migrations")
    ran = []
    with translated():
        done = set() if again else await _recorded(database)
        for name, step in MIGRATIONS:
            if name not in done:
                await step(database)
                await records.update_one({"_id": name}, {"$set": {"applied_at": datetime.now(UTC)}}, upsert=True)
                ran.append(name)
    return ran


async def missing_indexes(database: Database) -> list[str]:
    """Collections whose number of indexes is below what the migrations made; for the background checks."""
    missing = []
    with translated():
        for name in {name for indexes in ALL_INDEXES for name in indexes}:
            wanted = {m.document["name"] for indexes in ALL_INDEXES for m in indexes.get(name, [])}
            present = set(await database.collection(name).index_information())
            missing += [f"{name}.{index}" for index in sorted(wanted - present)]
    return missing
