"""From a message to an e-mail without templates: a text part and an HTML part that reads well in light and dark."""

from dataclasses import dataclass, field
from html import escape

from notification_engine.domain.outcome import Message

MAX_HEADER_URL = 900  # a line of a message ends at 998 characters (RFC 5322)


@dataclass(frozen=True, slots=True)
class Attached:
    filename: str
    content_type: str
    content: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Email:
    """The content of one e-mail; `to` is a bare address. `headers` come beside those that every e-mail has."""

    delivery_id: str
    to: str
    subject: str
    text: str
    html: str
    headers: tuple[tuple[str, str], ...] = ()
    attachments: tuple[Attached, ...] = ()


def render_email(message: Message) -> Email:
    links = "".join(f"\n\n{a.label}: {a.url}" for a in message.actions)
    return Email(
        delivery_id=message.delivery_id,
        to=message.endpoint or "",
        subject=message.title,
        text=f"{message.body}{links}\n{footer_text(message.unsubscribe_url)}",
        html=_html(message),
    )


def unsubscribe_headers(url: str | None) -> tuple[tuple[str, str], ...]:
    """One click switches off (RFC 8058), for the mail client's own button. None without a link, or where the line
    would be too long."""
    if not url or len(url) > MAX_HEADER_URL:
        return ()
    return (("List-Unsubscribe", f"<{url}>"), ("List-Unsubscribe-Post", "List-Unsubscribe=One-Click"))


def footer_text(url: str | None) -> str:
    return f"\n-- \nNo more e-mails of this kind: {url}\n" if url else ""


def _footer_html(url: str | None) -> str:
    if not url:
        return ""
    return (
        '<p style="margin:32px 0 0;padding-top:12px;border-top:1px solid #8a8f98;font-size:13px;color:#747a84">'
        f'<a href="{escape(url, quote=True)}" style="color:#747a84">No more e-mails of this kind</a></p>'
    )


def _html(message: Message) -> str:
    paragraphs = "".join(
        f'<p style="margin:0 0 16px">{escape(part).replace(chr(10), "<br>")}</p>'
        for part in message.body.split("\n\n")
        if part.strip()
    )
    buttons = "".join(
        f'<a href="{escape(a.url, quote=True)}" style="display:inline-block;margin:0 8px 8px 0;padding:10px 18px;'
        f'border-radius:6px;background:#1f5fd0;color:#ffffff;text-decoration:none">{escape(a.label)}</a>'
        for a in message.actions
    )
    title = escape(message.title)
    return (
        '<!doctype html><html><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f'<meta name="color-scheme" content="light dark"><title>{title}</title></head>'
        '<body style="margin:0;padding:24px;font:16px/1.5 system-ui,sans-serif">'
        f'<main style="max-width:560px;margin:0 auto"><h1 style="font-size:20px;margin:0 0 16px">{title}</h1>'
        f"{paragraphs}<div>{buttons}</div>{_footer_html(message.unsubscribe_url)}</main></body></html>"
    )
