"""A notification as it is stored: its document, and the siblings that hold what is past 32 deliveries."""

from collections.abc import Sequence
from dataclasses import replace

from pymongo.asynchronous.collection import AsyncCollection

from notification_engine.domain.errors import NotFound
from notification_engine.domain.notification import Notification
from notification_engine.storage.codec import to_notification
from notification_engine.storage.connection import Document, Session


async def parts_of(
    collection: AsyncCollection[Document], notification_id: str, visible: Document, session: Session | None = None
) -> list[Notification]:
    """The document first. Raises NotFound, also for what `visible` leaves out."""
    match: Document = {"_id": {"$gte": notification_id, "$lt": notification_id + "~~"}} | visible
    parts = [to_notification(d) async for d in collection.find(match, sort=[("_id", 1)], session=session)]
    if not parts or parts[0].id != notification_id:
        raise NotFound("There is no such notification.")
    return parts


def merged(parts: Sequence[Notification]) -> Notification:
    """One, with the deliveries of its siblings."""
    return replace(parts[0], deliveries=[d for part in parts for d in part.deliveries])
