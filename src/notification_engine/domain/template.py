"""A template: the texts of a message by locale, as written (draft) and as published (compiled, numbered, unchangeable).

Pure values and the fallback from a recipient's locale to one that a template has.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

MAX_PART_BYTES = 256 * 1024
MAX_LOCALES = 50
MAX_LIBRARY = 20  # layouts and partials that one template may draw in, directly or not
MAX_TITLE = 200
MAX_BODY = 65_536
DEFAULT_TIME_ZONE = "UTC"
KEY_PATTERN = r"^[a-z][a-z0-9_-]*(\.[a-z0-9_-]+)*$"
LOCALE_PATTERN = r"^[a-z]{2,3}(-[A-Z][a-z]{3})?(-([A-Z]{2}|[0-9]{3}))?$"

SOURCE_PARTS = ("subject", "text", "mjml", "html", "title", "body")
EMAIL_PARTS = ("subject", "text", "html")
INBOX_PARTS = ("title", "body")
STAND_INS = {"title": "subject", "subject": "title", "body": "text", "text": "body"}  # where a part is not written
BUILTIN_VERSION = 0  # the version number of a template that comes with the engine

_REFERENCE = re.compile(r"""\{%[-+]?\s*(?:include|extends)\s+(?:"([^"]*)"|'([^']*)')""")


class TemplateKind(StrEnum):
    """A message is sent; a partial (or layout) is only drawn in by others."""

    MESSAGE = "message"
    PARTIAL = "partial"


@dataclass(frozen=True, slots=True)
class Parts:
    """One locale, as written. None: falls back to the next locale; `text` is made from the markup of its own locale."""

    subject: str | None = None
    text: str | None = None
    mjml: str | None = None
    html: str | None = None
    title: str | None = None
    body: str | None = None

    def written(self) -> dict[str, str]:
        return {name: value for name in SOURCE_PARTS if (value := getattr(self, name)) is not None}


@dataclass(frozen=True, slots=True)
class Draft:
    """`sample_data` is rendered at each save, so that what cannot be rendered is refused early."""

    locales: Mapping[str, Parts]
    default_locale: str = "en"
    kind: TemplateKind = TemplateKind.MESSAGE
    description: str = ""
    sample_data: Mapping[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        return {
            "kind": str(self.kind),
            "description": self.description,
            "default_locale": self.default_locale,
            "locales": {locale: parts.written() for locale, parts in self.locales.items()},
            "sample_data": dict(self.sample_data),
        }

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "Draft":
        locales = {locale: Parts(**parts) for locale, parts in values["locales"].items()}
        return cls(
            locales,
            values["default_locale"],
            TemplateKind(values["kind"]),
            values["description"],
            values["sample_data"],
        )

    def references(self) -> set[str]:
        """Keys of the layouts and partials that its parts name."""
        sources = [source for parts in self.locales.values() for source in parts.written().values()]
        return {a or b for source in sources for a, b in _REFERENCE.findall(source)}


@dataclass(frozen=True, slots=True)
class Compiled:
    """Markup compiled to HTML with inlined CSS, layouts and partials drawn in; only data is missing.

    `locales` maps each locale to its parts; `digest` names the content.
    """

    default_locale: str
    locales: Mapping[str, Mapping[str, str]]
    digest: str

    @classmethod
    def of(cls, default_locale: str, locales: Mapping[str, Mapping[str, str]]) -> "Compiled":
        content = repr((default_locale, sorted((name, sorted(parts.items())) for name, parts in locales.items())))
        return cls(default_locale, locales, hashlib.sha256(content.encode()).hexdigest()[:32])

    def pick(self, locale: str | None) -> str:
        """The locale of this template that serves a recipient best."""
        return next((name for name in chain(locale) if name in self.locales), self.default_locale)


@dataclass(frozen=True, slots=True)
class Version:
    """One published version. `uses` names the versions of what was drawn in."""

    key: str
    number: int
    draft: Draft
    compiled: Compiled
    uses: Mapping[str, int] = field(default_factory=dict)
    published_at: datetime | None = None
    published_by: str | None = None


@dataclass(frozen=True, slots=True)
class Template:
    """The head: the draft, and which version is current. `published` None: nothing to send yet."""

    key: str
    draft: Draft
    published: int | None = None
    latest: int = 0
    builtin: bool = False
    created_at: datetime | None = None
    updated_at: datetime | None = None
    updated_by: str | None = None


@dataclass(frozen=True, slots=True)
class TemplateUse:
    """What a notification keeps: the version that it was accepted with. `failed`: its in-app text could not be
    rendered, so in-app and webhook end as `template_error`."""

    key: str
    version: int
    failed: bool = False


@dataclass(frozen=True, slots=True)
class RenderFailed:
    """A template stopped at a limit or cannot be rendered. `detail` holds no value of the data."""

    detail: str


@dataclass(frozen=True, slots=True)
class Preview:
    """What a template makes of the given data, and the variables that it asked for and did not find."""

    locale: str
    parts: Mapping[str, str]
    missing: Sequence[str]


def chain(locale: str | None) -> list[str]:
    """`de-CH` → `de-CH`, `de`."""
    if not locale:
        return []
    pieces = locale.split("-")
    return ["-".join(pieces[:count]) for count in range(len(pieces), 0, -1)]


def formatting_locale(recipient: str | None, text: str) -> str:
    """Numbers, dates and plurals follow the recipient where the text is in the recipient's language, else the text: a
    German date inside an English sentence helps nobody, and an English sentence needs English plurals."""
    if recipient and recipient.split("-")[0] == text.split("-")[0]:
        return recipient
    return text


def one_line(text: str, limit: int = MAX_TITLE) -> str:
    """For titles and subjects: no control character, no line break, cut at `limit` characters."""
    if not text.isprintable():
        text = "".join(c if c.isprintable() else " " for c in text)
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "…"
