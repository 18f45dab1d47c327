"""The words of a notification at accept: as given, or from a template's title and body for each recipient.

A caller who gives title and body and names no template gets exactly these, and nothing is looked up or rendered.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from notification_engine.domain.errors import InvalidRequest
from notification_engine.domain.notification_type import NotificationType
from notification_engine.domain.template import INBOX_PARTS, MAX_BODY, RenderFailed, TemplateUse, Version
from notification_engine.services.ports import Renderer
from notification_engine.services.requests import NotificationRequest, RecipientRequest
from notification_engine.services.templates import Templates, context

_PERSONAL = re.compile(r"\b(recipient|notification)\b")
Texts = dict[str, str] | RenderFailed


@dataclass(frozen=True, slots=True)
class Content:
    title: str
    body: str
    template: TemplateUse | None = None


def has_words(request: NotificationRequest) -> bool:
    """Whether nothing is to be looked up or rendered for it."""
    return request.title is not None and request.body is not None and request.template is None


def given_words(request: NotificationRequest) -> Content:
    assert request.title is not None
    assert request.body is not None
    return Content(request.title, request.body)


class Contents:
    def __init__(self, templates: Templates, renderer: Renderer) -> None:
        self._templates = templates
        self._renderer = renderer

    async def of(
        self, request: NotificationRequest, kind: NotificationType, notification_id: Callable[[int], str]
    ) -> list[Content]:
        """For each recipient. Raises InvalidRequest naming the field when the request lacks what no template gives."""
        if has_words(request):
            return [given_words(request)] * len(request.recipients)
        version = await self._version(request, kind)
        once: dict[Any, asyncio.Task[Texts]] = {}
        texts = await asyncio.gather(
            *(
                self._shared(once, version, kind, request, recipient, notification_id(index))
                for index, recipient in enumerate(request.recipients)
            )
        )
        return [_content(request, version, one) for one in texts]

    async def _version(self, request: NotificationRequest, kind: NotificationType) -> Version:
        key = request.template or kind.template
        version = await self._templates.current(key) if key else None
        if version is not None:
            return version
        if request.template is not None:
            raise InvalidRequest("No template of this key is published.", field="template")
        field = "title" if request.title is None else "body"
        raise InvalidRequest(f"Needed, because {kind.name} has no published template.", field=field)

    def _shared(
        self,
        once: dict[Any, asyncio.Task[Texts]],
        version: Version,
        kind: NotificationType,
        request: NotificationRequest,
        recipient: RecipientRequest,
        notification_id: str,
    ) -> Awaitable[Texts]:
        """Recipients of one locale and zone share one rendering where the texts do not speak of the recipient."""
        sources = version.compiled.locales[version.compiled.pick(recipient.locale)]
        personal = any(_PERSONAL.search(sources.get(part, "")) for part in INBOX_PARTS)
        sharer = (recipient.locale, recipient.time_zone, notification_id if personal else None)
        if sharer not in once:
            rendering = self._render(version, kind, request, recipient, notification_id)
            once[sharer] = asyncio.create_task(rendering)
        return once[sharer]

    async def _render(
        self,
        version: Version,
        kind: NotificationType,
        request: NotificationRequest,
        recipient: RecipientRequest,
        notification_id: str,
    ) -> Texts:
        told = {
            "id": notification_id,
            "type": request.notification_type,
            "priority": str(request.priority or kind.priority),
            "title": request.title or "",
            "body": request.body or "",
            "actions": [{"label": a.label, "url": a.url} for a in request.actions],
            "correlation_id": request.correlation_id,
        }
        person = {"user_id": recipient.user_id, "email": recipient.email, "locale": recipient.locale}
        given = context(request.data, notification=told, recipient=person)
        name = f"{version.key}@{version.number}:inbox"
        return await self._renderer.render(
            name, version.compiled, INBOX_PARTS, given, recipient.locale, recipient.time_zone
        )


def _content(request: NotificationRequest, version: Version, texts: Texts) -> Content:
    """What the caller gave wins over the template. Without words of its own a failed one shows its type."""
    if isinstance(texts, RenderFailed):
        use = TemplateUse(version.key, version.number, failed=True)
        return Content(request.title or request.notification_type, request.body or "", use)
    title = request.title or texts.get("title") or request.notification_type
    body = request.body if request.body is not None else texts.get("body", "")
    return Content(title, body[:MAX_BODY], TemplateUse(version.key, version.number))
