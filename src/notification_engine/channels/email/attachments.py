"""What an e-mail carries: contents from the store, and addresses fetched through the guard at the moment of sending."""

import asyncio
from collections.abc import Mapping, Sequence

from notification_engine.domain.attachment import MAX_FILE_BYTES, MAX_MESSAGE_BYTES, Attachment
from notification_engine.domain.delivery import Reason
from notification_engine.domain.errors import EngineError
from notification_engine.domain.outcome import Outcome, Rejected, Retry
from notification_engine.net.download import Downloaded, NotDownloaded, download
from notification_engine.net.exchange import Session
from notification_engine.rendering.plain import Attached
from notification_engine.services.ports import AttachmentStore, Deadline

PROVIDER = "engine"


class Attacher:
    def __init__(self, store: AttachmentStore, session: Session) -> None:
        """`session` is the guarded one."""
        self._store = store
        self._session = session

    async def attach(self, attachments: Sequence[Attachment], deadline: Deadline) -> tuple[Attached, ...] | Outcome:
        """All of them, or the outcome of an e-mail that lacks one: nobody was asked to send it yet."""
        ids = [a.content_id for a in attachments if a.content_id]
        try:
            stored = await self._store.load(ids) if ids else {}
        except EngineError as error:
            return Retry(Reason.ATTACHMENT_FAILED, PROVIDER, detail=type(error).__name__)
        loaded = await asyncio.gather(*(self._one(a, stored, deadline) for a in attachments))
        for result in loaded:
            if isinstance(result, NotDownloaded):
                kind = Rejected if result.final else Retry
                return kind(result.reason, PROVIDER, detail=result.detail)
        attached = tuple(result for result in loaded if isinstance(result, Attached))
        if sum(len(a.content) for a in attached) > MAX_MESSAGE_BYTES:
            return Rejected(Reason.TOO_LARGE, PROVIDER, f"attachments of more than {MAX_MESSAGE_BYTES} bytes")
        return attached

    async def _one(
        self, attachment: Attachment, stored: Mapping[str, bytes], deadline: Deadline
    ) -> Attached | NotDownloaded:
        if attachment.url is None:
            content = stored.get(attachment.content_id or "")
            if content is None:
                return NotDownloaded(Reason.ATTACHMENT_FAILED, "its content is no longer kept", final=True)
            return Attached(attachment.filename, attachment.content_type, content)
        result = await download(self._session, attachment.url, MAX_FILE_BYTES, deadline.at)
        if isinstance(result, Downloaded):
            return Attached(attachment.filename, attachment.content_type, result.content)
        return result
