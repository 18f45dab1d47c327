"""A notification as it is stored: its document, and the siblings that hold what is past 32 deliveries."""

from collections.abc import Sequence
from dataclasses import replace

from pymongo.asynchronous.collection import AsyncCollection

from notification_engine.domain.errors import NotFound
from notification_engine.domain.notification import Notification
from notification_engine.storage.codec import to_notification
from notification_engine.storage.connection import Document, Session


async def documents_of(
    collection: AsyncCollection[Document], notification_id: str, visible: Document, session: Session | None = None
) -> list[Document]:
    """The first is the notification's own. Raises NotFound, also for what `visible` leaves out."""
    match: Document = {"_id": {"$gte": notification_id, "$lt": notification_id + "~~"}} | visible
    parts = [d async for d in collection.find(match, sort=[("_id", 1)], session=session)]
    if not parts or parts[0]["_id"] != notification_id:
        raise NotFound("There is no such notification.")
    return parts


async def parts_of(
    collection: AsyncCollection[Document], notification_id: str, visible: Document, session: Session | None = None
) -> list[Notification]:
    """Without what is sealed."""
    return [to_notification(d) for d in await documents_of(collection, notification_id, visible, session)]


def merged(parts: Sequence[Notification]) -> Notification:
    """One, with the deliveries of its siblings."""
    return replace(parts[0], deliveries=[d for part in parts for d in part.deliveries])
