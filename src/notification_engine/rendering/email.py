"""From a message to an e-mail: by the template version that it was accepted with, or plainly."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Protocol

from notification_engine.domain.outcome import Message
from notification_engine.domain.template import EMAIL_PARTS, RenderFailed, Version
from notification_engine.rendering.plain import Email, footer_text, render_email
from notification_engine.services.ports import Renderer
from notification_engine.services.templates import context


class Versions(Protocol):
    async def version(self, key: str, number: int) -> Version | None: ...


class EmailRenderer:
    def __init__(self, versions: Versions, renderer: Renderer) -> None:
        self._versions = versions
        self._renderer = renderer

    async def render(self, message: Message) -> Email | RenderFailed:
        """Raises Unavailable when the store or the pool is."""
        if message.template is None:
            return render_email(message)
        key, number = message.template.key, message.template.version
        version = await self._versions.version(key, number)
        if version is None or not version.compiled.locales:
            return RenderFailed(f"{key}: version {number} is not there")
        written = version.compiled.locales[version.compiled.pick(message.locale)]
        parts = await self._renderer.render(
            f"{key}@{number}",
            version.compiled,
            [part for part in EMAIL_PARTS if part in written],  # else the words of the inbox, which are rendered
            email_context(message),
            message.locale,
            message.time_zone,
        )
        if isinstance(parts, RenderFailed):
            return parts
        subject, text, html = parts.get("subject") or message.title, parts.get("text"), parts.get("html")
        if not text or not html:
            plain = render_email(replace(message, title=subject, body=text or message.body))
            html = html or plain.html
        text = _linked(text, message.unsubscribe_url) if text else plain.text
        return Email(message.delivery_id, message.endpoint or "", subject, text, html)


def _linked(text: str, url: str | None) -> str:
    """With the link, where the template has not put it itself."""
    return text if url is None or url in text else f"{text.rstrip()}\n{footer_text(url)}"


def email_context(message: Message) -> Mapping[str, Any]:
    return context(
        message.data,
        notification={
            "id": message.notification_id,
            "type": message.notification_type,
            "priority": str(message.priority),
            "title": message.title,
            "body": message.body,
            "actions": [{"label": a.label, "url": a.url} for a in message.actions],
            "correlation_id": message.correlation_id,
            "created_at": message.created_at,
            "unsubscribe_url": message.unsubscribe_url,
        },
        recipient={"user_id": message.user_id, "email": message.endpoint, "locale": message.locale},
    )
