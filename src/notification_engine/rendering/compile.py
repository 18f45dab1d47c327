"""From a draft to what is published: syntax, layouts and partials, MJML, CSS, the text part. Runs in a child process.

Everything an author can do wrong is told with the part's field name, line and column.
"""

from collections.abc import Callable, Mapping
from typing import Any

from minijinja import Environment

from notification_engine.domain.template import chain
from notification_engine.rendering import markup
from notification_engine.rendering.formats import Formats
from notification_engine.rendering.resolve import Unresolved, resolve
from notification_engine.rendering.sandbox import Refused, check_syntax, place

Source = Mapping[str, Any]  # a draft as JSON: kind, default_locale, locales {name: {part: source}}


class CompileError(Exception):
    def __init__(self, field: str, detail: str, line: int | None = None, column: int | None = None) -> None:
        super().__init__(detail)
        self.field, self.detail, self.line, self.column = field, detail, line, column


def compile_draft(draft: Source, library: Mapping[str, Source]) -> dict[str, dict[str, str]]:
    """Each locale complete: its own parts, then those of the locales it falls back to. A partial gives no locales.

    Raises CompileError."""
    for locale, parts in draft["locales"].items():
        for part, source in parts.items():
            _check(f"locales.{locale}.{part}", part, source, whole=draft["kind"] == "message")
    if draft["kind"] != "message":
        return {}
    return {locale: _complete(locale, draft, library) for locale in draft["locales"]}


def _check(field: str, part: str, source: str, *, whole: bool) -> None:
    environment = Environment(pycompat=False, filters=Formats().filters())
    environment.remove_filter("attr")
    try:
        check_syntax(environment, part, source)
    except Refused as error:
        raise CompileError(field, error.detail, error.line, error.column) from None
    if part == "mjml":
        try:
            markup.check_mjml(source, whole=whole and "extends" not in source)
        except markup.MarkupError as error:
            raise CompileError(field, error.detail, *_place(source, error)) from None


def _place(source: str, error: markup.MarkupError) -> tuple[int, int] | tuple[None, None]:
    return (None, None) if error.offset is None else place(source, error.offset)


def _complete(locale: str, draft: Source, library: Mapping[str, Source]) -> dict[str, str]:
    parts: dict[str, str] = {}
    for name in ("subject", "title", "body"):
        if found := _fallback(draft, locale, name):
            parts[name] = _resolved(found, name, locale, library)
    parts |= _email(draft, locale, library)
    if "subject" not in parts and "title" not in parts:
        raise CompileError(f"locales.{locale}", "a message needs a subject or a title")
    return parts


def _email(draft: Source, locale: str, library: Mapping[str, Source]) -> dict[str, str]:
    """Markup and text belong together: both come from the first locale that has either."""
    for name in (*chain(locale), draft["default_locale"]):
        own = draft["locales"].get(name, {})
        kind = next((kind for kind in ("mjml", "html") if own.get(kind)), None)
        if kind is None and not own.get("text"):
            continue
        parts = {}
        if kind is not None:
            parts["html"], parts["text"] = _markup(own[kind], kind, name, library)
        if own.get("text"):
            parts["text"] = _resolved((name, own["text"]), "text", locale, library)
        return parts
    return {}


def _markup(source: str, kind: str, locale: str, library: Mapping[str, Source]) -> tuple[str, str]:
    whole = _resolved((locale, source), kind, locale, library)
    field = f"locales.{locale}.{kind}"
    try:
        if kind == "mjml":
            markup.check_mjml(whole, whole=True)
        html, text = markup.compiled(whole, is_mjml=kind == "mjml")
    except markup.MarkupError as error:
        raise CompileError(field, error.detail) from None
    for part, made in (("html", html), ("text", text)):
        _again(field, part, made)
    return html, text


def _again(field: str, part: str, made: str) -> None:
    """Tags that stood where markup does not keep them (between rows of a table, across elements) break here."""
    try:
        check_syntax(Environment(pycompat=False, filters=Formats().filters()), part, made)
    except Refused as error:
        raise CompileError(field, f"statements and elements cross each other: {error.detail}") from None


def _fallback(draft: Source, locale: str, part: str) -> tuple[str, str] | None:
    for name in (*chain(locale), draft["default_locale"]):
        if source := draft["locales"].get(name, {}).get(part):
            return name, source
    return None


def _resolved(found: tuple[str, str], part: str, locale: str, library: Mapping[str, Source]) -> str:
    name, source = found
    try:
        return resolve(source, _lookup(part, locale, library))
    except Unresolved as error:
        raise CompileError(f"locales.{name}.{part}", str(error)) from None


def _lookup(part: str, locale: str, library: Mapping[str, Source]) -> Callable[[str], str | None]:
    def lookup(key: str) -> str | None:
        found = _fallback(library[key], locale, part) if key in library else None
        return found[1] if found else None

    return lookup
